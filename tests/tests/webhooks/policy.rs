//! A policy as a program: what it fills in, what it refuses, and of what it warns.
//!
//! It is about websites, a kind of its own, and about the Deployments of everybody. In a cluster, its `main` is
//!
//!     let client = process::connect(None).await?;
//!     let target = Target::service("policy", "policy");
//!     let secret = ObjectKey::namespaced("policy", "certificates");
//!     let certificates = Provisioner::in_secret(client.clone(), secret, &target).injecting(client.clone(), &webhooks());
//!     let server = WebhookServer::bind(WebhookServer::ADDRESS, &webhooks(), certificates).await?;
//!     run(client, server, process::stop_on_signals()?).await?;
//!
//! and `webhooks().manifests(&target)?.to_yaml()?` is what to apply beside it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Client, CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use trimtab::apimachinery::{FieldError, FieldPath};
use trimtab::controller::webhook::{
    Defaulter, DeletionValidator, FailurePolicy, Hook, Refusal, Request, Validator, WebhookServer, Webhooks,
};
use trimtab::controller::{Manager, Result};

/// Where images are from.
const REGISTRY: &str = "registry.example.com/";
/// An annotation that says why a website must not be deleted.
const KEEP: &str = "example.com/keep";

/// What a site should be.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(group = "example.com", version = "v1", kind = "Website", namespaced)]
pub struct WebsiteSpec {
    /// The name by which visitors know it.
    pub host: String,
    /// How many servers show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What it shows.
    #[serde(default)]
    pub pages: Vec<Page>,
}

/// A part of a site.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Page {
    /// Its place on the site.
    pub name: String,
    /// What it is called; its name, unless it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Completes websites, and says which may be.
struct Websites;

/// Completes Deployments, and says which may be.
struct Deployments;

/// All that the program is asked about.
pub fn webhooks() -> Webhooks {
    // A program that is not there keeps nobody from deploying, itself least of all.
    let lenient = |hook: Hook| hook.failure_policy(FailurePolicy::Ignore);
    Webhooks::new("policy")
        .hook(Hook::defaulting::<Website>(Websites))
        .hook(Hook::validating::<Website>(Websites))
        .hook(Hook::validating_deletion::<Website>(Websites))
        .hook(lenient(Hook::defaulting::<Deployment>(Deployments)))
        .hook(lenient(Hook::validating::<Deployment>(Deployments)))
}

/// Runs until `stop`.
pub async fn run(client: Client, server: WebhookServer, stop: CancellationToken) -> Result<()> {
    let manager = Manager::new(client).name("policy");
    manager.part(server)?;
    manager.run(stop).await
}

// === websites ===

impl Defaulter<Website> for Websites {
    async fn default(&self, site: &mut Website, _: &Request) -> Result<(), Refusal> {
        site.spec.replicas.get_or_insert(2);
        for page in &mut site.spec.pages {
            page.title.get_or_insert_with(|| page.name.clone());
        }
        Ok(())
    }
}

impl Validator<Website> for Websites {
    async fn create(&self, site: &Website, request: &Request) -> Result<(), Refusal> {
        if site.spec.pages.is_empty() {
            request.warn("a website without pages shows an error to its visitors");
        }
        Refusal::unless_none(faults(site))
    }

    async fn update(&self, old: &Website, new: &Website, request: &Request) -> Result<(), Refusal> {
        if old.spec.host != new.spec.host {
            return Err("the host of a website stays: visitors know it".into());
        }
        self.create(new, request).await
    }
}

impl DeletionValidator<Website> for Websites {
    async fn delete(&self, site: &Website, _: &Request) -> Result<(), Refusal> {
        match site.annotations().get(KEEP) {
            Some(why) => Err(format!("it is to be kept: {why}").into()),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a site, each at its place.
fn faults(site: &Website) -> Vec<FieldError> {
    let (spec, mut faults) = (FieldPath::new("spec"), Vec::new());
    let host = &*site.spec.host;
    if !host.contains('.') {
        let why = "must have a domain, as www.example.com";
        faults.push(FieldError::invalid(&spec.child("host"), host, why));
    }
    let mut names = BTreeSet::new();
    for (index, page) in site.spec.pages.iter().enumerate() {
        if !names.insert(&page.name) {
            let place = spec.child("pages").index(index).child("name");
            faults.push(FieldError::duplicate(&place, &*page.name));
        }
    }
    faults
}

// === deployments ===

impl Defaulter<Deployment> for Deployments {
    async fn default(&self, deployment: &mut Deployment, _: &Request) -> Result<(), Refusal> {
        let spec = deployment.spec.as_mut();
        if let Some(pods) = spec.and_then(|spec| spec.template.spec.as_mut()) {
            // Few programs talk to the API server; those that do, say so.
            pods.automount_service_account_token.get_or_insert(false);
        }
        Ok(())
    }
}

impl Validator<Deployment> for Deployments {
    async fn create(&self, deployment: &Deployment, _: &Request) -> Result<(), Refusal> {
        Refusal::unless_none(strangers(deployment, &BTreeSet::new()))
    }

    async fn update(&self, old: &Deployment, new: &Deployment, _: &Request) -> Result<(), Refusal> {
        // What was let in before there was this rule can still be scaled, and be deleted.
        let known = images(old).into_iter().map(|(_, image)| image).collect();
        Refusal::unless_none(strangers(new, &known))
    }
}

/// Images that are neither from the registry nor known.
fn strangers(deployment: &Deployment, known: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    for (place, image) in images(deployment) {
        if !image.starts_with(REGISTRY) && !known.contains(image) {
            faults.push(FieldError::invalid(
                &place,
                image,
                format!("must be from {REGISTRY}"),
            ));
        }
    }
    faults
}

/// The images of a Deployment, each with its place.
fn images(deployment: &Deployment) -> Vec<(FieldPath, &str)> {
    let spec = deployment.spec.as_ref();
    let Some(pods) = spec.and_then(|spec| spec.template.spec.as_ref()) else {
        return Vec::new();
    };
    let before = pods.init_containers.as_deref().unwrap_or_default();
    let mut images = Vec::new();
    for (list, containers) in [("initContainers", before), ("containers", &*pods.containers)] {
        for (index, container) in containers.iter().enumerate() {
            let place = FieldPath::new("spec.template.spec")
                .child(list)
                .index(index)
                .child("image");
            images.push((place, container.image.as_deref().unwrap_or_default()));
        }
    }
    images
}

#[cfg(test)]
mod tests;

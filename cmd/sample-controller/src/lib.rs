//! The sample controller: Websites, each kept as a ConfigMap, a Deployment and a Service.
//!
//! A whole controller, to be copied: `api.rs` says what users write, `children.rs` what is wished for, `reconcile.rs`
//! how it comes about, and this file runs it.

mod api;
mod children;
mod reconcile;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, CustomResourceExt, ResourceExt};
use tokio_util::sync::CancellationToken;
use trimtab::prelude::*;

pub use api::{Website, WebsiteSpec, WebsiteStatus};
pub use reconcile::Websites;

/// What the controller calls itself: the field manager of its writes, the reporter of its events.
pub const NAME: &str = "website-controller";

/// Makes the kind known to the cluster. Safe to repeat.
///
/// # Errors
///
/// When the cluster refuses, or is not there.
pub async fn install(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = Website::crd();
    let params = PatchParams::apply(NAME).force();
    crds.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await?;
    Ok(())
}

/// Adds the controller to a manager.
///
/// # Errors
///
/// When the manager runs already, or has a controller of this name.
pub fn add_to(manager: &Manager) -> Result<()> {
    let controller = manager
        .controller(Websites)
        .owns::<ConfigMap>()
        .owns::<Deployment>()
        .owns::<Service>();
    controller.workers(2).start().map(drop)
}

/// Runs the controller alone until `stop`.
///
/// # Errors
///
/// When it cannot be started.
pub async fn run(client: Client, stop: CancellationToken) -> Result<()> {
    let manager = Manager::new(client).name(NAME);
    add_to(&manager)?;
    manager.run(stop).await
}

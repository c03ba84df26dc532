//! Emptying a namespace: one resource after the other, whatever the server serves.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams};
use kube::{Client, Error};
use serde::Deserialize;

use super::findings::Findings;
use crate::live::{self, LiveError};
use crate::resources::{Resource, Resources};
use crate::workload::clock::Clock;

/// How many resources of one namespace are emptied at a time.
const AT_A_TIME: usize = 8;

/// What emptying needs to know of an object: whole metadata, managed fields included, would be fifty times as much, and of
/// a whole namespace at once.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Left {
    name: String,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    finalizers: Vec<String>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Left,
}

/// Deletes all that is in the namespace. Pods go first: what they use outlives them.
pub(super) async fn delete_all(client: &Client, namespace: &str) -> Findings {
    let resources = match Resources::discover(client).await {
        Ok(resources) => resources,
        Err(error) => {
            return Findings {
                discovery_failure: Some(error.to_string()),
                ..Findings::default()
            };
        }
    };
    let is_pods = |resource: &&Resource| resource.api.group.is_empty() && resource.api.plural == "pods";
    let namespaced = |resource: &&Resource| resource.namespaced;
    let (pods, others): (Vec<_>, Vec<_>) = resources
        .preferred(&["delete"])
        .filter(namespaced)
        .partition(is_pods);

    let mut findings = Findings {
        discovery_failure: resources.failure(),
        ..Findings::default()
    };
    for group in [pods, others] {
        let emptied: Vec<_> = group
            .into_iter()
            .map(|resource| empty(client, resource, namespace))
            .collect();
        let mut emptied = futures::stream::iter(emptied).buffer_unordered(AT_A_TIME);
        while let Some(found) = emptied.next().await {
            findings.add(found);
        }
        if !findings.remaining.is_empty() {
            break;
        }
    }
    findings
}

async fn empty(client: &Client, resource: &Resource, namespace: &str) -> Findings {
    let emptied = try_to_empty(client, resource, namespace).await;
    emptied.unwrap_or_else(|error| Findings {
        failures: vec![message(&error)],
        ..Findings::default()
    })
}

async fn try_to_empty(client: &Client, resource: &Resource, namespace: &str) -> Result<Findings, LiveError> {
    if !resource.can("list") {
        if resource.can("deletecollection") {
            delete_collection(client, resource, namespace).await?;
        }
        return Ok(Findings::default());
    }
    let mut left = list(client, resource, namespace).await?;
    let untouched: Vec<_> = left
        .iter()
        .filter(|object| object.deletion_timestamp.is_none())
        .collect();
    if !untouched.is_empty() {
        let all_at_once =
            resource.can("deletecollection") && delete_collection(client, resource, namespace).await?;
        if !all_at_once {
            for object in untouched {
                let address = live::Address {
                    resource,
                    namespace,
                    name: &object.name,
                };
                match address.delete(client, &DeleteParams::background()).await {
                    Err(error) if error.code() == 405 => break,
                    deleted => deleted?,
                }
            }
        }
        left = list(client, resource, namespace).await?;
    }
    Ok(of_those_left(&left, resource, namespace))
}

/// What there is to say of objects that are still there.
fn of_those_left(left: &[Left], resource: &Resource, namespace: &str) -> Findings {
    let mut found = Findings::default();
    if left.is_empty() {
        return found;
    }
    for finalizer in left.iter().flat_map(|object| &object.finalizers) {
        *found.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    let name = format!("{}.{}", resource.api.plural, resource.api.group);
    found.remaining = BTreeMap::from([(name, left.len())]);
    let now = Clock::System.now();
    let has_time = |object: &Left| object.deletion_timestamp.as_ref().is_some_and(|end| end.0 > now);
    if found.finalizers.is_empty() && !left.iter().any(has_time) {
        found.failures.push(format!(
            "unexpected items still remain in namespace: {namespace} for gvr: {resource}"
        ));
    }
    found
}

/// All objects of a resource in the namespace.
async fn list(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<Left>, LiveError> {
    let mut objects = Vec::new();
    let mut params = ListParams::default().limit(live::PER_PAGE);
    loop {
        let (items, _, next) = live::page::<Item>(client, resource, namespace, &params).await?;
        objects.extend(items.into_iter().map(|item| item.metadata));
        match next {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

/// Deletes all objects of a resource. False: the server says that this cannot be done, whatever discovery says.
async fn delete_collection(client: &Client, resource: &Resource, namespace: &str) -> Result<bool, LiveError> {
    match live::delete_all(client, resource, namespace, &DeleteParams::background()).await {
        Err(error) if matches!(error.code(), 404 | 405) => Ok(false),
        deleted => deleted.map(|()| true),
    }
}

/// The server's own words, where there are any.
fn message(error: &LiveError) -> String {
    match error {
        LiveError::Server(Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}

//! Emptying a namespace: one resource after the other, whatever the server serves.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, Error};

use super::findings::Findings;
use crate::live::{self, LiveError, patiently};
use crate::resources::{Resource, Resources};
use crate::workload::clock::Clock;

/// How many resources of one namespace are emptied at a time.
const AT_A_TIME: usize = 8;
/// Objects per page when those that are left are counted.
const PAGE: u32 = 500;

/// Deletes all that is in the namespace, whose deletion began at `since`. Pods go first: what they use outlives them.
pub(super) async fn delete_all(client: &Client, namespace: &str, since: Timestamp) -> Findings {
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
            .map(|resource| empty(client, resource, namespace, since))
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

async fn empty(client: &Client, resource: &Resource, namespace: &str, since: Timestamp) -> Findings {
    let emptied = try_to_empty(client, resource, namespace, since).await;
    emptied.unwrap_or_else(|error| Findings {
        failures: vec![message(&error)],
        ..Findings::default()
    })
}

async fn try_to_empty(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    since: Timestamp,
) -> Result<Findings, LiveError> {
    let ending = resource.api.group.is_empty() && resource.api.plural == "pods";
    let grace = if ending {
        grace(client, namespace).await?
    } else {
        Duration::ZERO
    };
    let api = live::api(client, resource, namespace);
    let all_at_once = resource.can("deletecollection") && {
        let params = DeleteParams::background();
        is_supported(live::delete_all(client, resource, namespace, &params).await)?
    };
    if !resource.can("list") {
        return Ok(Findings::default());
    }
    if !all_at_once {
        for name in names(client, resource, namespace).await? {
            let address = live::Address {
                resource,
                namespace,
                name: &name,
            };
            match address.delete(client, &DeleteParams::background()).await {
                Err(error) if error.code() == 405 => break,
                deleted => deleted?,
            }
        }
    }
    let mut left = Findings::default();
    let mut count = 0_usize;
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = patiently(api.list_metadata(&page)).await?;
        count += listed.items.len();
        for finalizer in listed
            .items
            .iter()
            .flat_map(|item| item.metadata.finalizers.iter().flatten())
        {
            *left.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    if count > 0 {
        let name = format!("{}.{}", resource.api.plural, resource.api.group);
        left.remaining = BTreeMap::from([(name, count)]);
        let elapsed = Duration::try_from(Clock::System.now().duration_since(since)).unwrap_or_default();
        if left.finalizers.is_empty() && elapsed >= grace {
            left.failures.push(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {resource}"
            ));
        }
    }
    Ok(left)
}

/// The longest time that a pod of the namespace may take to end.
async fn grace(client: &Client, namespace: &str) -> Result<Duration, LiveError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut longest = 0;
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = patiently(api.list(&page)).await?;
        for pod in &listed.items {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if !matches!(phase, Some("Succeeded" | "Failed")) {
                let grace = pod
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.termination_grace_period_seconds);
                longest = longest.max(grace.unwrap_or_default());
            }
        }
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(Duration::from_secs(longest.try_into().unwrap_or_default())),
        }
    }
}

async fn names(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<String>, LiveError> {
    let api = live::api(client, resource, namespace);
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = patiently(api.list_metadata(&page)).await?;
        names.extend(listed.items.into_iter().filter_map(|item| item.metadata.name));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(names),
        }
    }
}

/// False: the server says that the resource cannot be used like this, whatever discovery says.
fn is_supported(answer: Result<(), LiveError>) -> Result<bool, LiveError> {
    match answer {
        Err(error) if matches!(error.code(), 404 | 405) => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(true),
    }
}

/// The server's own words, where there are any.
fn message(error: &LiveError) -> String {
    match error {
        LiveError::Server(Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}

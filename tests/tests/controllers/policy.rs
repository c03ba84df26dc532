//! A policy for tenants: each Namespace that is labelled as a tenant's has a NetworkPolicy that lets nothing in, and a
//! ResourceQuota with its share of all pods.
//!
//! What it shows: a controller without an object of its own, with keys of its own; namespaces of which metadata alone is
//! watched; a selection, so that other people's objects are in no cache; objects that are written and not owned.

mod scenario;
mod tests;

use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use trimtab::client::cache::{Cached, Selection};
use trimtab::prelude::*;

pub(crate) use scenario::Policy as Scenario;

const NAME: &str = "tenant-policy";
/// Makes a Namespace a tenant's, with the value `true`.
const TENANT: &str = "policy.example.com/tenant";
/// Marks what this controller makes.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// How many pods all tenants have together.
const PODS: usize = 120;

/// What is looked at, one at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Check {
    /// Whether a Namespace is kept apart as it should be.
    Isolation(String),
    /// Whether each tenant has its share: one more tenant changes that of all.
    Shares,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolation(namespace) => write!(f, "isolation of {namespace}"),
            Self::Shares => f.write_str("shares"),
        }
    }
}

/// A manager with the controller, for all namespaces.
pub(crate) fn manager(client: Client) -> Result<Manager> {
    let manager = Manager::new(client).name(NAME);
    manager
        .controller(Policy)
        .named(NAME)
        .watches(|namespace: &PartialObjectMeta<Namespace>| {
            vec![Check::Isolation(namespace.name_any()), Check::Shares]
        })
        .source(Source::watch(
            Watch::new().selecting(ours()),
            |policy: &NetworkPolicy| policy.namespace().map(Check::Isolation).into_iter().collect(),
        ))
        .source(Source::watch(
            Watch::new().selecting(ours()),
            |_: &ResourceQuota| vec![Check::Shares],
        ))
        .writes::<NetworkPolicy>()
        .writes::<ResourceQuota>()
        .start()?;
    Ok(manager)
}

/// The reconciler.
struct Policy;

impl Reconcile<Keyed<Check>> for Policy {
    async fn reconcile(&self, turn: &mut Turn<Keyed<Check>>) -> Result<Next> {
        match turn.key().clone() {
            Check::Isolation(namespace) => isolate(turn, &namespace).await?,
            Check::Shares => share(turn).await?,
        }
        Ok(Next::Done)
    }
}

/// Keeps a tenant's pods apart from others; those of others go where they like.
async fn isolate(turn: &mut Turn<Keyed<Check>>, name: &str) -> Result<()> {
    let namespaces = turn.store::<PartialObjectMeta<Namespace>>()?;
    let Some(namespace) = namespaces.get(&ObjectKey::cluster(name)).filter(is_staying) else {
        return Ok(()); // and what is in it goes with it
    };
    if is_tenant(&namespace) {
        turn.apply_unowned(isolation(name)).await?;
        return Ok(());
    }
    for policy in turn.store::<NetworkPolicy>()?.list_in(name) {
        turn.delete(&*policy.decode()?).await?;
    }
    Ok(())
}

/// Gives each tenant its share, and takes it from those who are none any more.
async fn share(turn: &mut Turn<Keyed<Check>>) -> Result<()> {
    let namespaces = turn.store::<PartialObjectMeta<Namespace>>()?.list();
    let (tenants, others): (Vec<_>, Vec<_>) = namespaces
        .iter()
        .filter(|n| is_staying(n))
        .partition(|n| is_tenant(n));
    let mut outcome = Ok(());
    for tenant in &tenants {
        // One tenant's trouble is no other's.
        let given = turn
            .apply_unowned(quota(tenant.name(), PODS / tenants.len()))
            .await;
        outcome = outcome.and(given.map(drop));
    }
    let quotas = turn.store::<ResourceQuota>()?;
    for quota in others.iter().flat_map(|other| quotas.list_in(other.name())) {
        turn.delete(&*quota.decode()?).await?;
    }
    outcome
}

fn is_tenant(namespace: &Cached<PartialObjectMeta<Namespace>>) -> bool {
    namespace.label(TENANT).as_deref() == Some("true")
}

/// One that is being deleted takes nothing new.
fn is_staying(namespace: &Cached<PartialObjectMeta<Namespace>>) -> bool {
    !namespace.is_deleting()
}

/// What this controller has made.
fn ours() -> Selection {
    Selection::all().labels(format!("{MANAGED_BY}={NAME}"))
}

/// Nothing comes in that no other policy lets in.
fn isolation(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(namespace, "default-deny"),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()), // all pods
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(Vec::new()), // said, so that what somebody else lets in here does not stay
            ..NetworkPolicySpec::default()
        }),
    }
}

/// So many pods and no more.
fn quota(namespace: &str, pods: usize) -> ResourceQuota {
    ResourceQuota {
        metadata: metadata(namespace, "share"),
        spec: Some(ResourceQuotaSpec {
            hard: Some([("pods".to_owned(), Quantity(pods.to_string()))].into()),
            ..ResourceQuotaSpec::default()
        }),
        ..ResourceQuota::default()
    }
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some([(MANAGED_BY.to_owned(), NAME.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

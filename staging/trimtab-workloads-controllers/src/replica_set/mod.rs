//! The controllers of ReplicaSets and ReplicationControllers: as many pods as are wanted, no more and no fewer.

mod decide;
mod kinds;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use trimtab_client_cache::Cached;
use trimtab_controller_runtime::{Controller, Manager, Next, Reconcile, Result, Turn, Written};

use crate::workload::clock::{Clock, until};
use crate::workload::pods::{Facts, facts, next_available};
use crate::workload::template;
use crate::workload::words::{is_ending, tell_created, tell_deleted, words_of};
use decide::{Change, Failure, change, tally};
use kinds::Replicated;

/// The name of the controller of ReplicaSets.
pub(crate) const NAME: &str = "replicaset-controller";
/// The name of the controller of ReplicationControllers.
pub(crate) const REPLICATION: &str = "replicationcontroller-controller";
/// The name by which it tells of events.
const REPLICATION_REPORTER: &str = "replication-controller";

/// How many of them are worked on at once.
const WORKERS: usize = 16;

/// Describes the controller of ReplicaSets.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    describe_kind::<ReplicaSet>(manager, [NAME, NAME], options).map(drop)
}

/// Describes the controller of ReplicationControllers.
pub(crate) fn describe_replication(manager: &Manager, options: &crate::Options) -> Result<()> {
    describe_kind::<ReplicationController>(manager, [REPLICATION, REPLICATION_REPORTER], options).map(drop)
}

fn describe_kind<K: Replicated>(
    manager: &Manager,
    [name, reporter]: [&str; 2],
    options: &crate::Options,
) -> Result<Controller<trimtab_apimachinery_meta::ObjectKey>> {
    let reconciler = Replicas { clock: options.clock };
    manager
        .controller::<K, _>(reconciler)
        .named(name)
        .reporting_as(reporter)
        .claims::<Pod>(|owner: &K| owner.wanted().selector)
        .workers(WORKERS)
        .start()
}

struct Replicas {
    clock: Clock,
}

impl<K: Replicated> Reconcile<K> for Replicas {
    async fn reconcile(&self, turn: &mut Turn<K>) -> Result<Next> {
        let Some(owner) = turn.latest() else {
            return Ok(Next::Done);
        };
        let wanted = owner.wanted();
        let Some(selector) = wanted.selector.filter(|selector| !selector.is_empty()) else {
            return Ok(Next::Done); // the server lets none in
        };
        let pods = turn.claim_cached::<Pod>(&selector).await?;
        let seen: Vec<_> = pods.iter().map(facts).collect();
        let seen: Vec<&Facts> = seen.iter().map(|facts| &**facts).collect();
        let now = self.clock.now();
        let change = match turn.is_deleting() {
            true => Change::Nothing,
            false => change(wanted.replicas, &seen, now, || neighbours(turn, &owner)),
        };
        let failed = match &change {
            Change::Nothing => Ok(()),
            Change::Create(count) => create(turn, &owner, *count).await,
            Change::Delete(at) => delete(turn, &pods, at).await,
        };
        let failure = failed.as_ref().err().map(|error| Failure {
            too_few: matches!(change, Change::Create(_)),
            message: words_of(error),
        });
        let labels = wanted.template.and_then(|template| template.metadata.as_ref());
        let labels = labels.and_then(|meta| meta.labels.as_ref());
        let labelled = |at: usize| {
            let belonging = pods[at].belonging();
            labels
                .into_iter()
                .flatten()
                .all(|(name, value)| belonging.label(name) == Some(value))
        };
        let tally = tally(&seen, labelled, wanted.min_ready_seconds, now);
        owner.put_status(turn, &tally, failure, now)?;
        failed?;
        let active = seen.into_iter().filter(|pod| pod.is_active());
        let next = next_available(active, wanted.min_ready_seconds, now);
        Ok(match next.filter(|_| wanted.min_ready_seconds > 0) {
            Some(next) => Next::After(until(next, now)),
            None => Next::Done,
        })
    }
}

async fn create<K: Replicated>(turn: &mut Turn<K>, owner: &K, count: usize) -> Result<()> {
    let wanted = owner.wanted();
    let (Some(template), Some(reference)) = (wanted.template, template::owner_of(owner)) else {
        return Ok(());
    };
    let meta = owner.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let pod = template::pod(name, meta.namespace.as_deref(), template, reference);
    let written: Written<Pod> = turn.create_all(vec![pod; count]).await;
    tell_created(turn, "pod", &written);
    match written.failure {
        Err(error) if is_ending(&error) => Ok(()),
        outcome => outcome,
    }
}

async fn delete<K: Replicated>(turn: &mut Turn<K>, pods: &[Cached<Pod>], at: &[usize]) -> Result<()> {
    let pods: Vec<_> = at.iter().map(|at| pods[*at].clone()).collect();
    let written = turn.delete_all(&pods).await;
    tell_deleted(turn, &written);
    written.failure
}

/// How many active pods there are on each node of all that the owner's owner has: two on one node can spare one.
fn neighbours<K: Replicated>(turn: &Turn<K>, owner: &K) -> HashMap<Box<str>, usize> {
    let mut on_node = HashMap::new();
    let (Ok(pods), Ok(owners)) = (turn.store::<Pod>(), turn.store::<K>()) else {
        return on_node;
    };
    let above = trimtab_apimachinery_meta::owner::controller_of(owner.meta());
    let uids: Vec<String> = match above {
        Some(above) => {
            let all = owners.owned_by(&above.uid);
            all.iter().map(|owner| owner.uid().into_owned()).collect()
        }
        None => owner.meta().uid.clone().into_iter().collect(),
    };
    for pod in uids.iter().flat_map(|uid| pods.owned_by(uid)) {
        let facts = facts(&pod);
        if facts.is_active() {
            *on_node.entry(facts.node.clone()).or_default() += 1;
        }
    }
    on_node
}

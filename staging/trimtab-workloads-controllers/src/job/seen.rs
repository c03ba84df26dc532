//! What a Job looks at of a pod, read once for each of its states.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use trimtab_client_cache::Cached;

use crate::workload::clock::seconds_later;
use crate::workload::pods::{Facts, facts};

/// Keeps a pod until its Job has counted it.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Which of the completions a pod is for.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the pods before it of the same index have failed.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often they have in ways that do not count.
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A pod, as its Job sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) facts: Arc<Facts>,
    pub(super) namespace: Box<str>,
    /// Whether it is kept until it is counted.
    pub(super) tracked: bool,
    pub(super) index: Option<i32>,
    pub(super) failures: i32,
    pub(super) ignored: i32,
    /// When it ended, as well as that can be known.
    pub(super) finished: Timestamp,
    /// The restarts of all its containers.
    pub(super) restarts: i32,
    /// The containers that have ended: with which codes.
    pub(super) exits: Vec<(Box<str>, i32)>,
    pub(super) conditions: Vec<(Box<str>, Box<str>)>,
}

/// What a Job looks at of a pod in this state.
pub(super) fn seen(pod: &Cached<Pod>) -> Arc<Seen> {
    pod.derived(|pod| {
        let meta = pod.meta().unwrap_or_default();
        let status: PodStatus = pod.read(["status"]).ok().flatten().unwrap_or_default();
        let number = |annotation: &str| {
            pod.annotation(annotation)
                .and_then(|text| text.parse::<i32>().ok())
        };
        let count = |annotation: &str| number(annotation).filter(|count| *count >= 0).unwrap_or_default();
        let containers = || {
            let own = status.container_statuses.iter().flatten();
            own.chain(status.init_container_statuses.iter().flatten())
        };
        let code = |container: &ContainerStatus| {
            let ended = container.state.as_ref()?.terminated.as_ref()?;
            Some((container.name.clone().into(), ended.exit_code))
        };
        let conditions = status.conditions.iter().flatten();
        let gone = meta.deletion_timestamp.as_ref().map(|time| {
            let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
            seconds_later(time.0, -grace)
        });
        let facts = facts(pod);
        Seen {
            namespace: pod.namespace().into(),
            tracked: meta
                .finalizers
                .iter()
                .flatten()
                .any(|finalizer| finalizer == TRACKING),
            index: number(INDEX).filter(|index| *index >= 0),
            failures: count(FAILURES),
            ignored: count(IGNORED),
            finished: finished(&status).or(gone).unwrap_or(facts.created),
            restarts: containers().map(|container| container.restart_count).sum(),
            exits: containers().filter_map(code).collect(),
            conditions: conditions
                .map(|condition| (condition.type_.clone().into(), condition.status.clone().into()))
                .collect(),
            facts,
        }
    })
}

/// When the last container ended, if all have, or since when the pod has not been ready.
fn finished(status: &PodStatus) -> Option<Timestamp> {
    let ends: Option<Vec<Timestamp>> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|container| {
            Some(
                container
                    .state
                    .as_ref()?
                    .terminated
                    .as_ref()?
                    .finished_at
                    .as_ref()?
                    .0,
            )
        })
        .collect();
    let last = ends.and_then(|ends| ends.into_iter().max());
    last.or_else(|| {
        let mut conditions = status.conditions.iter().flatten();
        let unready =
            conditions.find(|condition| condition.type_ == "Ready" && condition.status == "False")?;
        Some(unready.last_transition_time.as_ref()?.0)
    })
}

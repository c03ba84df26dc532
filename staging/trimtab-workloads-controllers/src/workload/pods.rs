//! What controllers look at of a pod, read once for each of its states.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};
use trimtab_client_cache::Cached;

use super::clock::seconds_later;

/// By which pods say how dear they are, when some have to go.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// By which pods of a StatefulSet or DaemonSet say of which revision they are.
pub(crate) const REVISION: &str = "controller-revision-hash";

/// Where in its life a pod is. The order is that in which they are given up first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

/// One state of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) phase: Phase,
    pub(crate) created: Timestamp,
    pub(crate) deleting: bool,
    /// Empty as long as it has none.
    pub(crate) node: Box<str>,
    /// Since when it is ready, if it is.
    pub(crate) ready: Option<Timestamp>,
    /// The most restarts that a container of it had.
    pub(crate) restarts: i32,
    pub(crate) cost: i32,
    /// The revision of what made it, of a StatefulSet or DaemonSet.
    pub(crate) revision: Box<str>,
}

/// The condition of a pod that is taken by somebody else than who wants it: why, in a word and in a sentence.
pub(crate) fn disruption_target(
    generation: Option<i64>,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Value {
    json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": Time(now), "observedGeneration": generation})
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<Phase>,
    conditions: Vec<Condition>,
    container_statuses: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    last_transition_time: Option<Time>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    restart_count: i32,
}

/// The facts of a pod's state, read when they are asked for first.
pub(crate) fn facts(pod: &Cached<Pod>) -> Arc<Facts> {
    pod.derived(|pod| {
        let status: Status = pod.read(["status"]).ok().flatten().unwrap_or_default();
        let ready = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready" && condition.status == "True");
        Facts {
            name: pod.name().into(),
            uid: pod.uid().into(),
            phase: status.phase.unwrap_or_default(),
            created: time(pod, "creationTimestamp").unwrap_or_default(),
            deleting: pod.is_deleting(),
            node: pod.text(["spec", "nodeName"]).unwrap_or_default().into(),
            ready: ready.map(|condition| {
                condition
                    .last_transition_time
                    .map_or(Timestamp::MIN, |time| time.0)
            }),
            restarts: status
                .container_statuses
                .iter()
                .map(|container| container.restart_count)
                .max()
                .unwrap_or_default(),
            cost: pod
                .annotation(COST)
                .and_then(|cost| cost.parse().ok())
                .unwrap_or_default(),
            revision: pod.label(REVISION).unwrap_or_default().into(),
        }
    })
}

fn time(pod: &Cached<Pod>, field: &str) -> Option<Timestamp> {
    pod.text(["metadata", field])?.parse().ok()
}

impl Facts {
    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it counts: it has not ended and is not being deleted.
    pub(crate) fn is_active(&self) -> bool {
        !self.has_ended() && !self.deleting
    }

    /// Whether it is being deleted and may still do something.
    pub(crate) fn is_terminating(&self) -> bool {
        self.deleting && !self.has_ended()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// When it is, was or will be available: ready for as long as is asked for. `None` while it is not ready.
    pub(crate) fn available_from(&self, min_ready_seconds: i32) -> Option<Timestamp> {
        match (self.ready?, min_ready_seconds) {
            (_, ..=0) => Some(Timestamp::MIN),
            (since, seconds) => Some(seconds_later(since, seconds)),
        }
    }

    pub(crate) fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        let from = self.available_from(min_ready_seconds);
        from.is_some_and(|from| from <= now)
    }
}

/// When the next of these pods becomes available, if any is on its way.
pub(crate) fn next_available<'a>(
    pods: impl IntoIterator<Item = &'a Facts>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Timestamp> {
    let from = pods
        .into_iter()
        .filter_map(|pod| pod.available_from(min_ready_seconds));
    from.filter(|from| *from > now).min()
}

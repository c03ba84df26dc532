//! What the controller looks at of a ReplicaSet.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use trimtab_client_cache::Cached;

use crate::workload::template;

/// The annotation with the number of a revision.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the numbers that a revision had before it was rolled back to.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The annotation with the size of the Deployment when the set was scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation with the most pods that the Deployment could have when the set was scaled.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// A ReplicaSet, as it is or as it is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set {
    /// Its place among those that were seen; none for one that is to be made.
    pub(super) place: Option<usize>,
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    pub(super) created: Timestamp,
    pub(super) deleting: bool,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) annotations: BTreeMap<String, String>,
    /// What its template says.
    pub(super) fingerprint: Arc<str>,
    /// The label of its pods; of one that is to be made only.
    pub(super) hash: Box<str>,
    /// Whether its controller has seen its last change.
    pub(super) observed: bool,
    /// Whether its controller has seen it at all.
    pub(super) known: bool,
    pub(super) actual: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: Option<i32>,
    pub(super) failure: Option<ReplicaSetCondition>,
}

/// The set of a state of a ReplicaSet, read when it is asked for first. Its place is not known.
pub(super) fn set_of(cached: &Cached<ReplicaSet>) -> Arc<Set> {
    cached.derived(|cached| cached.decode_once().map(|set| read(&set)).unwrap_or_default())
}

pub(super) fn read(set: &ReplicaSet) -> Set {
    let (meta, spec) = (&set.metadata, set.spec.as_ref());
    let status = set.status.clone().unwrap_or_default();
    let observed = status.observed_generation.unwrap_or_default();
    let template = spec.and_then(|spec| spec.template.as_ref());
    let conditions = status.conditions.unwrap_or_default();
    Set {
        place: None,
        name: meta.name.as_deref().unwrap_or_default().into(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created: meta
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
            .unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        fingerprint: template.map(template::fingerprint).unwrap_or_default().into(),
        hash: Box::default(),
        observed: meta.generation.unwrap_or_default() <= observed,
        known: observed != 0,
        actual: status.replicas,
        ready: status.ready_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
        terminating: status.terminating_replicas,
        failure: conditions
            .into_iter()
            .find(|condition| condition.type_ == "ReplicaFailure"),
    }
}

impl Set {
    /// How many of its available pods it may keep: one that has just been made smaller may still be said to have more. (To
    /// kube-controller-manager these are there, and it may take others for them.)
    pub(super) fn lasting(&self) -> i32 {
        self.available.min(self.replicas)
    }

    /// The number of its revision; 0 if it has none that is one.
    pub(super) fn revision(&self) -> i64 {
        let revision = self.annotations.get(REVISION);
        revision
            .and_then(|revision| revision.parse().ok())
            .unwrap_or_default()
    }

    /// A count in an annotation.
    pub(super) fn count(&self, annotation: &str) -> Option<i32> {
        let count = self.annotations.get(annotation)?.parse().ok();
        count.filter(|count| *count >= 0)
    }
}

//! The two kinds that want a number of pods, as the controller sees them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_controller_runtime::{Reconciled, Result, Turn};

use super::decide::{Failure, Tally};
use crate::workload::template;

/// The condition that tells of pods which cannot be made or deleted.
const FAILURE: &str = "ReplicaFailure";

/// What an owner wants.
pub(super) struct Wanted<'a> {
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) selector: Option<LabelSelector>,
    pub(super) template: Option<&'a PodTemplateSpec>,
}

/// A kind that wants a number of pods.
pub(super) trait Replicated: Reconciled {
    fn wanted(&self) -> Wanted<'_>;

    /// Says in the status how the pods are.
    fn put_status(
        &self,
        turn: &mut Turn<Self>,
        tally: &Tally,
        failure: Option<Failure>,
        now: Timestamp,
    ) -> Result<()>;
}

impl Replicated for ReplicaSet {
    fn wanted(&self) -> Wanted<'_> {
        let spec = self.spec.as_ref();
        Wanted {
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or_default(),
            selector: spec.and_then(|spec| template::selector(&spec.selector)),
            template: spec.and_then(|spec| spec.template.as_ref()),
        }
    }

    fn put_status(
        &self,
        turn: &mut Turn<Self>,
        tally: &Tally,
        failure: Option<Failure>,
        now: Timestamp,
    ) -> Result<()> {
        let before = self.status.as_ref();
        let conditions = before.and_then(|status| status.conditions.clone());
        let of = |condition: &ReplicaSetCondition| condition.type_ == FAILURE;
        let conditions = tell(conditions, failure, of, |failure| ReplicaSetCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason().to_owned()),
            message: Some(failure.message),
            last_transition_time: Some(Time(now)),
        });
        let after = ReplicaSetStatus {
            replicas: tally.replicas,
            fully_labeled_replicas: some(tally.labelled),
            ready_replicas: some(tally.ready),
            available_replicas: some(tally.available),
            terminating_replicas: Some(tally.terminating),
            observed_generation: self.metadata.generation,
            conditions,
        };
        turn.put_status(before, &after)
    }
}

impl Replicated for ReplicationController {
    fn wanted(&self) -> Wanted<'_> {
        let spec = self.spec.as_ref();
        let labels = spec.and_then(|spec| spec.selector.as_ref());
        Wanted {
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or_default(),
            selector: labels.and_then(template::exactly),
            template: spec.and_then(|spec| spec.template.as_ref()),
        }
    }

    fn put_status(
        &self,
        turn: &mut Turn<Self>,
        tally: &Tally,
        failure: Option<Failure>,
        now: Timestamp,
    ) -> Result<()> {
        let before = self.status.as_ref();
        let conditions = before.and_then(|status| status.conditions.clone());
        let of = |condition: &ReplicationControllerCondition| condition.type_ == FAILURE;
        let conditions = tell(conditions, failure, of, |failure| {
            ReplicationControllerCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(failure.reason().to_owned()),
                message: Some(failure.message),
                last_transition_time: Some(Time(now)),
            }
        });
        let after = ReplicationControllerStatus {
            replicas: tally.replicas,
            fully_labeled_replicas: some(tally.labelled),
            ready_replicas: some(tally.ready),
            available_replicas: some(tally.available),
            observed_generation: self.metadata.generation,
            conditions,
        };
        turn.put_status(before, &after)
    }
}

/// The conditions, with that of a failure while there is one: since it was first seen, and as it was then.
fn tell<C>(
    conditions: Option<Vec<C>>,
    failure: Option<Failure>,
    is_of_failure: impl Fn(&C) -> bool,
    condition: impl FnOnce(Failure) -> C,
) -> Option<Vec<C>> {
    let mut conditions = conditions.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| !is_of_failure(condition)),
        Some(_) if conditions.iter().any(is_of_failure) => {}
        Some(failure) => conditions.push(condition(failure)),
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// As Kubernetes writes counts: not at all if there is nothing to count.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

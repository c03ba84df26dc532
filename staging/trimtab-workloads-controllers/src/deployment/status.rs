//! What a Deployment says of itself.

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::Wish;
use super::sets::Set;
use crate::workload::clock::seconds_later;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

pub(super) const COMPLETE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";

/// A condition as of now.
pub(super) fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    }
}

pub(super) fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_)
}

/// Sets a condition, unless it says the same already. Its transition is as old as its status.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = find(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

pub(super) fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// The counts of all sets, and whether enough pods are available.
pub(super) fn counted(
    wish: &Wish<'_>,
    before: &DeploymentStatus,
    sets: &[Set],
    new: Option<usize>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |count: fn(&Set) -> i32| sets.iter().map(count).sum::<i32>();
    let available = sum(|set| set.available);
    let known = sets.iter().filter(|set| set.known || set.terminating.is_some());
    let terminating: Option<i32> = known.map(|set| set.terminating).sum();
    let mut status = DeploymentStatus {
        observed_generation: wish.generation,
        replicas: some(sum(|set| set.actual)),
        updated_replicas: some(new.map_or(0, |new| sets[new].actual)),
        ready_replicas: some(sum(|set| set.ready)),
        available_replicas: some(available),
        unavailable_replicas: some((sum(|set| set.replicas) - available).max(0)),
        terminating_replicas: terminating,
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let enough = available >= wish.replicas - wish.max_unavailable();
    set(
        &mut status,
        match enough {
            true => condition(
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".to_owned(),
                now,
            ),
            false => condition(
                AVAILABLE,
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.".to_owned(),
                now,
            ),
        },
    );
    status
}

/// Adds to counted pods how the rollout goes: whether it is complete, gets on, or has taken too long. `before` is what was
/// said last, `noted` what this turn has noted since.
pub(super) fn rollout(
    wish: &Wish<'_>,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    sets: &[Set],
    new: Option<usize>,
    now: Timestamp,
) {
    let current = find(status, PROGRESSING).cloned();
    let who = match new {
        Some(new) => format!("ReplicaSet \"{}\"", sets[new].name),
        None => format!("Deployment \"{}\"", wish.name),
    };
    let settled = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|current| current.reason.as_deref() == Some(COMPLETE));
    match wish.progress_deadline {
        None => remove(status, PROGRESSING),
        Some(_) if settled => {}
        Some(_) if wish.is_complete(status) => {
            let message = format!("{who} has successfully progressed.");
            set(status, condition(PROGRESSING, "True", COMPLETE, message, now));
        }
        Some(_) if gets_on(before, status) => {
            let message = format!("{who} is progressing.");
            let mut new = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            if let Some(current) = current.filter(|current| current.status == "True") {
                new.last_transition_time = current.last_transition_time;
            }
            // Its time is that of the last step, so it is renewed even if nothing else changes.
            remove(status, PROGRESSING);
            set(status, new);
        }
        Some(deadline) if is_late(status, deadline, now) => {
            let message = format!("{who} has timed out progressing.");
            set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
        Some(_) => {}
    }
    let failure = new.and_then(|new| sets[new].failure.as_ref());
    match failure.or_else(|| sets.iter().find_map(|set| set.failure.as_ref())) {
        None => remove(status, FAILURE),
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: FAILURE.to_owned(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_transition_time: failure.last_transition_time.clone(),
                last_update_time: failure.last_transition_time.clone(),
            },
        ),
    }
}

/// When the rollout has taken too long, if nothing happens before. `None`: it is complete, or that is not asked.
pub(super) fn deadline(wish: &Wish<'_>, status: &DeploymentStatus) -> Option<Timestamp> {
    let deadline = wish.progress_deadline?;
    let current = find(status, PROGRESSING)?;
    if wish.is_complete(status) || matches!(current.reason.as_deref(), Some(TIMED_OUT | COMPLETE)) {
        return None;
    }
    // A second more, since the times in objects have no fractions.
    Some(seconds_later(current.last_update_time.as_ref()?.0, deadline + 1))
}

fn gets_on(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let of = |count: Option<i32>| count.unwrap_or_default();
    let old = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
    of(now.updated_replicas) > of(before.updated_replicas)
        || old(now).cmp(&old(before)) == Ordering::Less
        || of(now.ready_replicas) > of(before.ready_replicas)
        || of(now.available_replicas) > of(before.available_replicas)
}

fn is_late(status: &DeploymentStatus, deadline: i32, now: Timestamp) -> bool {
    let Some(current) = find(status, PROGRESSING) else {
        return false;
    };
    match current.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => current
            .last_update_time
            .as_ref()
            .is_some_and(|since| seconds_later(since.0, deadline) < now),
    }
}

/// As Kubernetes writes counts: not at all if there is nothing to count.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

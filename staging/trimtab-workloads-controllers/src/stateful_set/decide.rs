//! The decision: which pods are made and deleted, in which order, and at which revision.
//!
//! What holds: there is at most one pod of an ordinal, since its name is; in order, a pod is made only once all before it are
//! available, and deleted only once all after it are gone; and an update never takes a pod while another is missing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSetSpec, StatefulSetStatus};

use crate::workload::amount::{self, Round};
use crate::workload::pods::{Facts, Phase};

/// What a StatefulSet wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) replicas: i32,
    /// The first ordinal.
    pub(super) start: i32,
    pub(super) min_ready_seconds: i32,
    /// Whether pods wait for those before them.
    pub(super) ordered: bool,
    /// From which place on pods are updated; `None` if that is left to whoever deletes them.
    pub(super) partition: Option<i32>,
    /// How many pods may be missing in an update, where that is said.
    pub(super) max_unavailable: Option<i32>,
    pub(super) deleting: bool,
    /// The names of the revision that all pods had last, and of the newest.
    pub(super) current: String,
    pub(super) update: String,
}

/// One of the revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    Update,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Pods that are made, by their ordinals.
    pub(super) create: Vec<(i32, Which)>,
    /// Pods that are deleted, by their places.
    pub(super) delete: Vec<usize>,
    /// Pods that wait, of which claims may be missing, by their places.
    pub(super) waiting: Vec<usize>,
    /// Pods that are looked after: their labels and claims are to be right, by their places.
    pub(super) kept: Vec<usize>,
    /// Pods that are to go some time, by their places.
    pub(super) condemned: Vec<usize>,
}

impl Wish {
    pub(super) fn of(spec: &StatefulSetSpec, deleting: bool, current: &str, update: &str) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.update_strategy.as_ref();
        let by_hand = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let max_unavailable = rolling
            .and_then(|rolling| rolling.max_unavailable.as_ref())
            .and_then(|most| amount::of(most, replicas, Round::Down));
        Self {
            replicas,
            start: spec
                .ordinals
                .as_ref()
                .and_then(|ordinals| ordinals.start)
                .unwrap_or_default(),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            partition: (!by_hand).then(|| rolling.and_then(|rolling| rolling.partition).unwrap_or_default()),
            max_unavailable: max_unavailable.map(|most| most.max(1)),
            deleting,
            current: current.to_owned(),
            update: update.to_owned(),
        }
    }

    /// Whether a pod of this ordinal is wanted.
    pub(super) fn has(&self, ordinal: i32) -> bool {
        (self.start..self.start.saturating_add(self.replicas)).contains(&ordinal)
    }

    /// The revision of a pod that is made now.
    fn revision_of(&self, ordinal: i32) -> Which {
        match self.partition {
            Some(partition) if ordinal < self.start.saturating_add(partition) => Which::Current,
            _ => Which::Update,
        }
    }
}

/// The ordinal in a pod's name, if the pod is of the set of this name.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = number.parse().ok()?;
    (number.bytes().all(|byte| byte.is_ascii_digit()) && ordinal.to_string() == number).then_some(ordinal)
}

/// Decides. Each pod comes with its ordinal.
pub(super) fn decide(wish: &Wish, pods: &[(i32, &Facts)], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if wish.deleting {
        return plan;
    }
    let work = Work { wish, pods, now };
    let there: BTreeMap<i32, usize> = pods
        .iter()
        .enumerate()
        .map(|(at, (ordinal, _))| (*ordinal, at))
        .collect();
    let mut condemned: Vec<usize> = there
        .iter()
        .rev()
        .filter(|(ordinal, _)| !wish.has(**ordinal))
        .map(|(_, at)| *at)
        .collect();
    plan.condemned.clone_from(&condemned);
    if work.make(&there, &mut plan) {
        return plan;
    }
    // The last one goes first; in order, one at a time.
    let unavailable = work.first_unavailable(&there, &condemned);
    if wish.ordered {
        condemned.truncate(1);
    }
    let mut busy = false;
    for at in condemned {
        let facts = pods[at].1;
        let may_go = !wish.ordered || facts.has_ended() || work.is_available(at) || unavailable == Some(at);
        if !facts.deleting && may_go {
            plan.delete.push(at);
        }
        busy = wish.ordered;
    }
    if !busy {
        work.update(&there, &mut plan);
    }
    plan
}

struct Work<'a> {
    wish: &'a Wish,
    pods: &'a [(i32, &'a Facts)],
    now: Timestamp,
}

impl Work<'_> {
    fn is_available(&self, at: usize) -> bool {
        let facts = self.pods[at].1;
        facts.phase == Phase::Running && facts.is_available(self.wish.min_ready_seconds, self.now)
    }

    fn is_missing(&self, at: usize) -> bool {
        !self.is_available(at) || self.pods[at].1.deleting
    }

    /// Makes what is missing. True: nothing else is to be done now.
    fn make(&self, there: &BTreeMap<i32, usize>, plan: &mut Plan) -> bool {
        let wish = self.wish;
        for ordinal in wish.start..wish.start.saturating_add(wish.replicas) {
            let Some(at) = there.get(&ordinal).copied() else {
                plan.create.push((ordinal, wish.revision_of(ordinal)));
                if wish.ordered {
                    return true;
                }
                continue;
            };
            let facts = self.pods[at].1;
            if facts.has_ended() {
                // Its successor is made once it is gone.
                if !facts.deleting {
                    plan.delete.push(at);
                }
                if wish.ordered {
                    return true;
                }
                continue;
            }
            if facts.phase == Phase::Pending {
                plan.waiting.push(at);
            }
            if wish.ordered && self.is_missing(at) {
                return true;
            }
            plan.kept.push(at);
        }
        false
    }

    /// The first pod that is missing, in the order of ordinals, those that are to go last. Of these, who has ended is not waited
    /// for: it has no successor that could become available. (kube-controller-manager waits for it, and so for ever.)
    fn first_unavailable(&self, there: &BTreeMap<i32, usize>, condemned: &[usize]) -> Option<usize> {
        let wanted = there
            .iter()
            .filter(|(ordinal, _)| self.wish.has(**ordinal))
            .map(|(_, at)| *at);
        wanted
            .chain(
                condemned
                    .iter()
                    .rev()
                    .copied()
                    .filter(|at| !self.pods[*at].1.has_ended()),
            )
            .find(|at| self.is_missing(*at))
    }

    /// Takes pods of other revisions than the newest, the last ones first.
    fn update(&self, there: &BTreeMap<i32, usize>, plan: &mut Plan) {
        let wish = self.wish;
        let Some(partition) = wish.partition else { return };
        let least = wish.start.saturating_add(partition);
        let wanted = || there.iter().rev().filter(|(ordinal, _)| wish.has(**ordinal));
        let is_old = |at: usize| {
            let facts = self.pods[at].1;
            *facts.revision != *wish.update && !facts.deleting
        };
        let updated = wanted()
            .filter(|(ordinal, _)| **ordinal >= least)
            .map(|(_, at)| *at);
        let missing_altogether = usize::try_from(wish.replicas).unwrap_or_default() - wanted().count();
        if let Some(most) = wish.max_unavailable {
            let missing = missing_altogether + wanted().filter(|(_, at)| self.is_missing(**at)).count();
            let room = usize::try_from(most).unwrap_or_default().saturating_sub(missing);
            plan.delete.extend(updated.filter(|at| is_old(*at)).take(room));
            return;
        }
        // In parallel, pods that are made in this turn are missing as well.
        if missing_altogether > 0 {
            return;
        }
        for at in updated {
            if is_old(at) {
                plan.delete.push(at);
                return;
            }
            if self.is_missing(at) {
                return;
            }
        }
    }
}

/// How the pods are.
pub(super) fn status(
    wish: &Wish,
    before: &StatefulSetStatus,
    pods: &[(i32, &Facts)],
    generation: Option<i64>,
    now: Timestamp,
) -> StatefulSetStatus {
    let count = |counts: &dyn Fn(&Facts) -> bool| {
        i32::try_from(pods.iter().filter(|(_, pod)| counts(pod)).count()).unwrap_or(i32::MAX)
    };
    let is_ready = |pod: &Facts| pod.phase == Phase::Running && pod.is_ready();
    let of = |revision: &str| count(&|pod| !pod.deleting && *pod.revision == *revision);
    let (replicas, ready) = (count(&|_| true), count(&is_ready));
    let available = count(&|pod| is_ready(pod) && pod.is_available(wish.min_ready_seconds, now));
    let (mut current, updated) = (of(&wish.current), of(&wish.update));
    let mut revision = wish.current.clone();
    if wish.partition.is_some() && [updated, ready, replicas] == [wish.replicas; 3] {
        current = updated;
        revision.clone_from(&wish.update);
    }
    StatefulSetStatus {
        observed_generation: generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(revision),
        update_revision: Some(wish.update.clone()),
        collision_count: Some(before.collision_count.unwrap_or_default()),
        conditions: before.conditions.clone(),
    }
}

/// As Kubernetes writes counts: not at all if there is nothing to count.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

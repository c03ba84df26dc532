//! How many pods are made, and which ones go.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use jiff::Timestamp;

use crate::workload::pods::Facts;

/// How many pods are made or deleted in one turn at most. kube-controller-manager's figure.
pub(super) const BURST: usize = 500;

/// What is to be done about the pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// So many are made.
    Create(usize),
    /// These go, by their places among the pods.
    Delete(Vec<usize>),
}

/// How the pods are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) replicas: i32,
    pub(super) labelled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: i32,
}

/// Pods could not be made, or could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) too_few: bool,
    pub(super) message: String,
}

impl Failure {
    /// The reason of the condition that tells of it.
    pub(super) fn reason(&self) -> &'static str {
        if self.too_few {
            "FailedCreate"
        } else {
            "FailedDelete"
        }
    }
}

/// What is to be done, so that there are `wanted` active pods. `on_node` says how many related pods are on each node; it is
/// asked only if some have to go.
pub(super) fn change(
    wanted: i32,
    pods: &[&Facts],
    now: Timestamp,
    on_node: impl FnOnce() -> HashMap<Box<str>, usize>,
) -> Change {
    let mut active: Vec<usize> = (0..pods.len()).filter(|at| pods[*at].is_active()).collect();
    let wanted = usize::try_from(wanted).unwrap_or_default();
    match active.len().cmp(&wanted) {
        Ordering::Equal => Change::Nothing,
        Ordering::Less => Change::Create((wanted - active.len()).min(BURST)),
        Ordering::Greater => {
            let excess = (active.len() - wanted).min(BURST);
            if excess < active.len() {
                let on_node = on_node();
                let rank = |pod: &Facts| on_node.get(&pod.node).copied().unwrap_or_default();
                active.sort_by_cached_key(|at| worth(pods[*at], rank(pods[*at]), now));
            }
            active.truncate(excess);
            Change::Delete(active)
        }
    }
}

/// What is lost with a pod that has so many related ones on its node: the least goes first. What has no node goes before what
/// has one, what is pending before what runs, what is not ready before what is, then the cheapest by their own word, those with
/// most company, those that are ready for the shortest time, by its magnitude, those that restarted most, and those that are
/// there for the shortest time, by its magnitude too.
///
/// kube-controller-manager looks at restarts and at ages only where two are ready since the same second. That puts some three
/// pods in a circle, so here they count within the whole magnitude.
fn worth(pod: &Facts, company: usize, now: Timestamp) -> impl Ord + '_ {
    let age = |since: Timestamp| magnitude(now.duration_since(since).as_nanos());
    (
        (!pod.node.is_empty(), pod.phase, pod.is_ready(), pod.cost),
        Reverse(company),
        pod.ready.map(age),
        Reverse(pod.restarts),
        (age(pod.created), &pod.uid),
    )
}

/// How many binary digits a time has; -1 for none.
fn magnitude(nanoseconds: i128) -> i32 {
    match u128::try_from(nanoseconds) {
        Ok(positive) if positive > 0 => positive.ilog2().try_into().unwrap_or(i32::MAX),
        _ => -1,
    }
}

/// Counts the pods. `labelled` says whether the pod at a place has all labels of the template.
pub(super) fn tally(
    pods: &[&Facts],
    labelled: impl Fn(usize) -> bool,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Tally {
    let mut tally = Tally::default();
    for (at, pod) in pods.iter().enumerate() {
        if pod.is_terminating() {
            tally.terminating += 1;
        }
        if !pod.is_active() {
            continue;
        }
        tally.replicas += 1;
        tally.labelled += i32::from(labelled(at));
        tally.ready += i32::from(pod.is_ready());
        tally.available += i32::from(pod.is_available(min_ready_seconds, now));
    }
    tally
}

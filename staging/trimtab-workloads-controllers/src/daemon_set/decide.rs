//! The decision: on which nodes pods are made, and which ones go.
//!
//! What holds: a node has at most one pod that counts, or one old and one new one while it surges; and an update takes no available
//! pod while as many as may be missing are.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::PodSpec;

use crate::workload::amount;
use crate::workload::nodes::Place;
use crate::workload::pods::{Facts, Phase};

/// How many pods are made or deleted in one turn at most. kube-controller-manager's figure.
const BURST: usize = 250;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The nodes that are given a pod.
    pub(super) create: Vec<Box<str>>,
    /// These are deleted, by their places.
    pub(super) delete: Vec<usize>,
    pub(super) status: DaemonSetStatus,
    /// What is told of pods that have ended: whether that is a failure, the place and the node.
    pub(super) ended: Vec<(bool, usize, Box<str>)>,
    /// When to look again at pods that failed too often.
    pub(super) look_again: Option<Timestamp>,
}

/// What is known when it is decided.
pub(super) struct Seen<'a> {
    pub(super) spec: &'a DaemonSetSpec,
    /// A pod as it would be made, with the tolerations of all.
    pub(super) pod: &'a PodSpec,
    pub(super) nodes: &'a [Arc<Place>],
    /// Each with the node that it is for.
    pub(super) pods: &'a [(Box<str>, &'a Facts)],
    /// The newest revision's label.
    pub(super) hash: &'a str,
    pub(super) now: Timestamp,
}

/// Whether a node is to have a pod, and whether one that it has may stay.
fn wants(node: &Place, pod: &PodSpec) -> (bool, bool) {
    if !node.is_chosen_by(pod) {
        return (false, false);
    }
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    match node.repels(tolerations, &["NoExecute", "NoSchedule"]) {
        true => (false, !node.repels(tolerations, &["NoExecute"])),
        false => (true, true),
    }
}

/// Decides. `may_replace` says when a failed pod of a node may be deleted: `None` for now.
pub(super) fn decide(
    seen: &Seen<'_>,
    before: &DaemonSetStatus,
    generation: Option<i64>,
    mut may_replace: impl FnMut(&str) -> Option<Timestamp>,
) -> Plan {
    let mut work = Work::new(seen);
    work.plan.status = work.status(before, generation);
    work.settle(&mut may_replace);
    let by_hand = seen
        .spec
        .update_strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("OnDelete");
    if work.plan.create.is_empty() && work.plan.delete.is_empty() && !by_hand {
        match work.surge {
            0 => work.replace(),
            _ => work.surge(),
        }
    }
    work.plan.create.truncate(BURST);
    work.plan.delete.truncate(BURST);
    work.plan
}

struct Work<'a> {
    seen: &'a Seen<'a>,
    /// The places of the pods of each node, the oldest first, those that have their node before the others.
    on_node: BTreeMap<&'a str, Vec<usize>>,
    wants: BTreeMap<&'a str, (bool, bool)>,
    surge: i32,
    unavailable: i32,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(seen: &'a Seen<'a>) -> Self {
        let mut on_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (node, _)) in seen.pods.iter().enumerate() {
            on_node.entry(node).or_default().push(at);
        }
        for places in on_node.values_mut() {
            places.sort_by_key(|at| {
                let facts = seen.pods[*at].1;
                (facts.node.is_empty(), facts.created, facts.name.clone())
            });
        }
        let wants: BTreeMap<_, _> = seen
            .nodes
            .iter()
            .map(|node| (&*node.name, wants(node, seen.pod)))
            .collect();
        let desired = wants.values().filter(|(wanted, _)| *wanted).count();
        let rolling = seen
            .spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let of = |amount: Option<&_>| {
            amount
                .and_then(|amount| amount::of(amount, desired as i32, amount::Round::Up))
                .unwrap_or_default()
        };
        let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
        let unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
        let unavailable = if (surge, unavailable) == (0, 0) {
            1
        } else {
            unavailable
        };
        Self {
            seen,
            on_node,
            wants,
            surge,
            unavailable,
            plan: Plan::default(),
        }
    }

    fn facts(&self, at: usize) -> &'a Facts {
        self.seen.pods[at].1
    }

    fn is_new(&self, at: usize) -> bool {
        *self.facts(at).revision == *self.seen.hash
    }

    fn is_available(&self, at: usize) -> bool {
        let min_ready = self.seen.spec.min_ready_seconds.unwrap_or_default();
        self.facts(at).is_available(min_ready, self.seen.now)
    }

    /// Gives each node the pod that it is to have, and no other.
    fn settle(&mut self, may_replace: &mut impl FnMut(&str) -> Option<Timestamp>) {
        let wants = self.wants.clone();
        for (node, (wanted, may_stay)) in wants {
            let places = self.on_node.get(node).cloned().unwrap_or_default();
            if places.is_empty() {
                if wanted {
                    self.plan.create.push(node.into());
                }
                continue;
            }
            let alive: Vec<_> = places
                .into_iter()
                .filter(|at| !self.facts(*at).deleting)
                .collect();
            if !may_stay {
                self.plan.delete.extend(alive);
                continue;
            }
            let mut running = Vec::new();
            for at in alive {
                match self.facts(at).phase {
                    Phase::Failed => match may_replace(node) {
                        None => {
                            self.plan.ended.push((true, at, node.into()));
                            self.plan.delete.push(at);
                        }
                        Some(then) => {
                            let soonest = self.plan.look_again.map_or(then, |before| before.min(then));
                            self.plan.look_again = Some(soonest);
                        }
                    },
                    Phase::Succeeded => {
                        self.plan.ended.push((false, at, node.into()));
                        self.plan.delete.push(at);
                    }
                    _ => running.push(at),
                }
            }
            if self.surge == 0 {
                self.plan.delete.extend(running.into_iter().skip(1));
            } else {
                self.settle_surging(node, wanted, &running);
            }
        }
        // What waits for a node that is gone is never taken by one.
        for (at, (node, facts)) in self.seen.pods.iter().enumerate() {
            if facts.node.is_empty() && !facts.deleting && !self.wants.contains_key(&**node) {
                self.plan.delete.push(at);
            }
        }
    }

    fn settle_surging(&mut self, node: &str, wanted: bool, running: &[usize]) {
        if running.is_empty() && wanted {
            self.plan.create.push(node.into());
        }
        let mut new = running.iter().copied().filter(|at| self.is_new(*at));
        let mut old = running.iter().copied().filter(|at| !self.is_new(*at));
        let (first_new, first_old) = (new.next(), old.next());
        let mut surplus: Vec<_> = new.chain(old).collect();
        if let (Some(new), Some(old)) = (first_new, first_old)
            && (!self.facts(old).is_ready() || self.is_available(new))
        {
            surplus.push(old);
        }
        self.plan.delete.extend(surplus);
    }

    /// The new and the old pod of each node; none of one that has several of a sort.
    fn pairs(&self) -> Vec<(&'a str, Option<(Option<usize>, Option<usize>)>)> {
        let wanted = self
            .wants
            .iter()
            .filter(|(_, (wanted, _))| *wanted)
            .map(|(node, _)| *node);
        let nodes: std::collections::BTreeSet<&str> = wanted.chain(self.on_node.keys().copied()).collect();
        let pair = |node: &'a str| {
            let alive = self.on_node.get(node).into_iter().flatten().copied();
            let alive = alive.filter(|at| !self.facts(*at).deleting);
            let (new, old): (Vec<_>, Vec<_>) = alive.partition(|at| self.is_new(*at));
            let single = new.len() <= 1 && old.len() <= 1;
            (node, single.then(|| (new.first().copied(), old.first().copied())))
        };
        nodes.into_iter().map(pair).collect()
    }

    /// Deletes old pods, as many as may be missing; what is not available helps nobody.
    fn replace(&mut self) {
        let mut missing = 0;
        let (mut broken, mut candidates) = (Vec::new(), Vec::new());
        for (_, pair) in self.pairs() {
            match pair {
                Some((Some(new), None)) => missing += i32::from(!self.is_available(new)),
                Some((None, Some(old))) if !self.is_available(old) => {
                    broken.push(old);
                    missing += 1;
                }
                Some((None, Some(old))) => candidates.push(old),
                _ => missing += 1,
            }
        }
        let room = usize::try_from(self.unavailable - missing).unwrap_or_default();
        broken.extend(candidates.into_iter().take(room));
        self.plan.delete = broken;
    }

    /// Makes new pods beside old ones, as many as there may be too many, and deletes the old ones once the new are available.
    fn surge(&mut self) {
        let (mut surging, mut available) = (0, 0);
        let (mut broken, mut candidates, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        for (node, pair) in self.pairs() {
            let Some((new, old)) = pair else {
                surging += 1;
                continue;
            };
            available += i32::from(old.or(new).is_some_and(|at| self.is_available(at)));
            let wanted = self.wants.get(node).is_some_and(|(wanted, _)| *wanted);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) if !self.is_available(old) => match wanted {
                    true => broken.push(node.into()),
                    false => self.plan.delete.push(old),
                },
                (None, Some(old)) if !wanted => leaving.push(old),
                (None, Some(_)) => candidates.push(node.into()),
                (Some(new), Some(_)) if !self.is_available(new) => surging += 1,
                (Some(_), Some(old)) => self.plan.delete.push(old),
            }
        }
        let desired = self.wants.values().filter(|(wanted, _)| *wanted).count() as i32;
        let spare = usize::try_from(available - desired).unwrap_or_default();
        self.plan.delete.extend(leaving.into_iter().take(spare));
        let room = usize::try_from(self.surge - surging).unwrap_or_default();
        broken.extend(candidates.into_iter().take(room));
        self.plan.create = broken;
    }

    fn status(&self, before: &DaemonSetStatus, generation: Option<i64>) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            observed_generation: generation,
            collision_count: before.collision_count,
            conditions: before.conditions.clone(),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for (node, (wanted, _)) in &self.wants {
            let oldest = self.on_node.get(node).and_then(|places| places.first().copied());
            if !wanted {
                status.number_misscheduled += i32::from(oldest.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(at) = oldest else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(self.facts(at).is_ready());
            available += i32::from(self.is_available(at));
            updated += i32::from(self.is_new(at));
        }
        let some = |count: i32| (count != 0).then_some(count);
        status.number_available = some(available);
        status.updated_number_scheduled = some(updated);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    /// A node of this name: `tainted-1` is tainted, `left-1` is left by what runs there.
    fn node(name: &str) -> Arc<Place> {
        let effect = match name.split_once('-') {
            Some(("tainted", _)) => "NoSchedule",
            Some(("left", _)) => "NoExecute",
            _ => "PreferNoSchedule",
        };
        let taints = serde_json::from_value(json!([{"key": "k", "effect": effect}])).expect("taints");
        Arc::new(Place {
            name: name.into(),
            taints,
            ..Place::default()
        })
    }

    fn pod(number: usize, words: &str) -> Facts {
        let mut facts = Facts {
            name: number.to_string().into(),
            created: at(number as i64),
            phase: Phase::Running,
            node: "n".into(),
            ready: Some(at(10)),
            revision: "new".into(),
            ..Facts::default()
        };
        for word in words.split(' ') {
            match word {
                "old" | "new" => facts.revision = word.into(),
                "unready" => facts.ready = None,
                "going" => facts.deleting = true,
                "failed" => (facts.phase, facts.ready) = (Phase::Failed, None),
                "succeeded" => (facts.phase, facts.ready) = (Phase::Succeeded, None),
                "waiting" => (facts.phase, facts.ready, facts.node) = (Phase::Pending, None, "".into()),
                other => panic!("{other}"),
            }
        }
        facts
    }

    fn spec(strategy: Value) -> DaemonSetSpec {
        serde_json::from_value(json!({"selector": {}, "template": {}, "updateStrategy": strategy}))
            .expect("a spec")
    }

    fn planned(strategy: Value, nodes: &[&str], pods: &[(&str, &str)], waits: bool) -> Plan {
        let facts: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(number, (_, words))| pod(number, words))
            .collect();
        let pods: Vec<_> = pods
            .iter()
            .zip(&facts)
            .map(|((node, _), facts)| (Box::from(*node), facts))
            .collect();
        let nodes: Vec<_> = nodes.iter().map(|name| node(name)).collect();
        let seen = Seen {
            spec: &spec(strategy),
            pod: &PodSpec::default(),
            nodes: &nodes,
            pods: &pods,
            hash: "new",
            now: at(100),
        };
        decide(&seen, &DaemonSetStatus::default(), Some(1), |_| {
            waits.then(|| at(200))
        })
    }

    #[test]
    fn nodes_have_their_pods() {
        let one = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
        let two = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}});
        let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        let by_hand = json!({"type": "OnDelete"});
        type Case<'a> = (
            &'a str,
            &'a Value,
            &'a [&'a str],
            &'a [(&'a str, &'a str)],
            &'a [&'a str],
            &'a [usize],
        );
        #[rustfmt::skip]
        let cases: Vec<Case<'_>> = vec![
            ("each its own", &one, &["a", "b"], &[("a", "new")], &["b"], &[]),
            ("a waiting one counts", &one, &["a"], &[("a", "waiting")], &[], &[]),
            ("one that goes is awaited", &one, &["a"], &[("a", "going")], &[], &[]),
            ("none on tainted ones", &one, &["tainted-1"], &[], &[], &[]),
            ("but one may stay", &one, &["tainted-1"], &[("tainted-1", "new")], &[], &[]),
            ("unless it must leave", &one, &["left-1"], &[("left-1", "new")], &[], &[0]),
            ("the oldest of several", &one, &["a"], &[("a", "new"), ("a", "new")], &[], &[1]),
            ("what failed goes", &one, &["a"], &[("a", "failed")], &[], &[0]),
            ("so does what has ended", &one, &["a"], &[("a", "succeeded")], &[], &[0]),
            ("waiting for a node that is gone", &one, &["a"], &[("a", "new"), ("gone", "waiting")], &[], &[1]),
            ("one at a time", &one, &["a", "b"], &[("a", "old"), ("b", "old")], &[], &[0]),
            ("the broken one first", &one, &["a", "b"], &[("a", "old"), ("b", "old unready")], &[], &[1]),
            ("while one is missing no other", &one, &["a", "b"], &[("a", "old"), ("b", "new unready")], &[], &[]),
            ("two at a time", &two, &["a", "b", "c"], &[("a", "old"), ("b", "old"), ("c", "old")], &[], &[0, 1]),
            ("by hand", &by_hand, &["a"], &[("a", "old")], &[], &[]),
            ("beside the old one", &surge, &["a", "b"], &[("a", "old"), ("b", "old")], &["a"], &[]),
            ("one beside at a time", &surge, &["a", "b"], &[("a", "old"), ("a", "new unready"), ("b", "old")], &[], &[]),
            ("then the old one goes", &surge, &["a", "b"], &[("a", "old"), ("a", "new"), ("b", "old")], &[], &[0]),
            ("at once if it is broken", &surge, &["a"], &[("a", "old unready"), ("a", "new unready")], &[], &[0]),
        ];
        for (why, strategy, nodes, pods, create, delete) in cases {
            let plan = planned(strategy.clone(), nodes, pods, false);
            let created: Vec<_> = plan.create.iter().map(|node| &**node).collect();
            assert_eq!((&*created, &*plan.delete), (create, delete), "{why}");
        }
        let plan = planned(one, &["a"], &[("a", "failed")], true);
        assert_eq!((plan.delete.len(), plan.look_again), (0, Some(at(200))));
    }

    #[test]
    fn the_status_counts_nodes() {
        let pods = [("a", "new"), ("b", "old unready"), ("tainted-1", "new")];
        let status = planned(json!({}), &["a", "b", "c", "tainted-1"], &pods, false).status;
        let counts = [
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled,
            status.number_ready,
        ];
        assert_eq!(counts, [3, 2, 1, 1]);
        let counts = [
            status.number_available,
            status.updated_number_scheduled,
            status.number_unavailable,
        ];
        assert_eq!(counts, [Some(1), Some(1), Some(2)]);
    }

    proptest! {
        /// *One on each*, *Never too few*, *Done*: nodes and revisions may change as they like.
        #[test]
        fn every_node_gets_there(
            steps in prop::collection::vec((0..5_u8, 0..8_usize), 0..40), surge in 0..3_i32, unavailable in 0..3_i32,
        ) {
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
            let spec = spec(strategy);
            let mut nodes: Vec<Arc<Place>> = Vec::new();
            let mut pods: Vec<(Box<str>, Facts)> = Vec::new();
            let mut made = 0;
            let mut hash = "h0";
            for (step, (what, which)) in steps.into_iter().chain(std::iter::repeat_n((9, 0), 100)).enumerate() {
                match what {
                    0 => if !nodes.iter().any(|node| *node.name == *which.to_string()) { nodes.push(node(&which.to_string())) },
                    1 => nodes.retain(|node| *node.name != *which.to_string()),
                    2 => hash = ["h0", "h1"][which % 2],
                    3 => if let Some((_, pod)) = pods.get_mut(which) { pod.ready = None },
                    _ => {
                        pods.retain(|(_, pod)| !pod.deleting);
                        pods.iter_mut().for_each(|(_, pod)| pod.ready = Some(at(0)));
                    }
                }
                pods.retain(|(on, _)| nodes.iter().any(|node| node.name == *on)); // as the collector of pods does
                let seen_pods: Vec<_> = pods.iter().map(|(on, pod)| (on.clone(), pod)).collect();
                let seen = Seen { spec: &spec, pod: &PodSpec::default(), nodes: &nodes, pods: &seen_pods, hash, now: at(100) };
                let plan = decide(&seen, &DaemonSetStatus::default(), Some(1), |_| None);
                let missing = |pods: &[(Box<str>, Facts)]| nodes.iter().filter(|node| {
                    !pods.iter().any(|(on, pod)| *on == node.name && pod.is_ready() && !pod.deleting)
                }).count() as i32;
                let before = missing(&pods);
                for at in &plan.delete {
                    pods[*at].1.deleting = true;
                }
                let most = if (surge, unavailable) == (0, 0) { 1 } else { unavailable };
                prop_assert!(missing(&pods) <= before.max(most), "never too few at {step}: {plan:?}");
                for on in plan.create {
                    made += 1;
                    pods.push((on, Facts { revision: hash.into(), ready: None, ..pod(made, "new") }));
                    pods.last_mut().expect("it is there").1.revision = hash.into();
                }
                for node in &nodes {
                    let alive = pods.iter().filter(|(on, pod)| *on == node.name && !pod.deleting).count();
                    prop_assert!(alive <= 1 + usize::from(surge > 0), "one on each");
                }
            }
            for node in &nodes {
                let done = pods.iter().filter(|(on, pod)| *on == node.name && *pod.revision == *hash && pod.is_ready());
                prop_assert_eq!(done.count(), 1, "done: {:?}", pods);
            }
        }
    }
}

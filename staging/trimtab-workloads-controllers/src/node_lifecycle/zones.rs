//! How many silent nodes are given up, zone by zone: when most fall silent at once, it is likelier that they are cut off than
//! that they are dead. The figures are kube-controller-manager's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;

use super::decide::is_ready;
use crate::workload::clock::later;

/// One node of a zone is given up in this time; `--node-eviction-rate`, 0.1 a second.
const USUAL: Duration = Duration::from_secs(10);
/// The same in a large zone that is in trouble; `--secondary-node-eviction-rate`, 0.01 a second. In a small one none is.
const IN_TROUBLE: Duration = Duration::from_secs(100);
/// A zone of more nodes is large; `--large-cluster-size-threshold`.
const LARGE: usize = 50;
/// A zone of which so many of a hundred are not ready is in trouble, if it is [`SEVERAL`] nodes; `--unhealthy-zone-threshold`.
const THRESHOLD: usize = 55;
const SEVERAL: usize = 3;

/// The labels that say where a node is.
const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(super) struct Zones(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begun: bool,
    /// Each node's zone, and whether the node is ready.
    nodes: HashMap<String, (String, bool)>,
    zones: HashMap<String, Zone>,
}

#[derive(Debug, Default)]
struct Zone {
    ready: usize,
    not_ready: usize,
    /// When a node was given up last.
    last: Option<Timestamp>,
}

/// Where a node is.
pub(super) fn zone_of(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    LABELS
        .map(|label| {
            labels
                .and_then(|labels| labels.get(label))
                .map_or("", |value| value)
        })
        .join("/")
}

impl Zones {
    /// Takes note, the first time, of the nodes that there are: one that is looked at before the others would seem to be the
    /// only one.
    pub(super) fn begin(&self, nodes: impl FnOnce() -> Vec<Arc<Node>>) {
        let mut inner = self.0.lock();
        if inner.begun {
            return;
        }
        inner.begun = true;
        for node in nodes() {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let conditions = node
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_deref());
            inner.learn(name, &zone_of(&node), is_ready(conditions.unwrap_or_default()));
        }
    }

    /// Takes note of a node's state.
    pub(super) fn learn(&self, name: &str, zone: &str, ready: bool) {
        self.0.lock().learn(name, zone, ready);
    }

    /// Forgets a node that is gone.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.0.lock();
        if let Some((zone, was_ready)) = inner.nodes.remove(name) {
            inner.leave(&zone, was_ready);
        }
    }

    /// Whether pods are to be evicted from a node of the zone that is not ready; `is_evicting`, if they are already. A new
    /// one counts.
    pub(super) fn evicts(&self, zone: &str, is_evicting: bool, now: Timestamp) -> bool {
        let mut inner = self.0.lock();
        if inner.zones.values().all(|zone| zone.ready == 0) {
            return false; // it is this controller that is cut off
        }
        if is_evicting {
            return true;
        }
        let Some(zone) = inner.zones.get_mut(zone) else {
            return false;
        };
        let may = zone
            .interval()
            .is_some_and(|interval| zone.last.is_none_or(|last| later(last, interval) <= now));
        if may {
            zone.last = Some(now);
        }
        may
    }
}

impl Inner {
    fn learn(&mut self, name: &str, zone: &str, ready: bool) {
        // First, so that the zone stays known if this is its only node.
        *self.zones.entry(zone.to_owned()).or_default().count(ready) += 1;
        if let Some((before, was_ready)) = self.nodes.insert(name.to_owned(), (zone.to_owned(), ready)) {
            self.leave(&before, was_ready);
        }
    }

    fn leave(&mut self, zone: &str, was_ready: bool) {
        if let Some(counted) = self.zones.get_mut(zone) {
            *counted.count(was_ready) -= 1;
            if counted.ready + counted.not_ready == 0 {
                self.zones.remove(zone);
            }
        }
    }
}

impl Zone {
    fn count(&mut self, ready: bool) -> &mut usize {
        match ready {
            true => &mut self.ready,
            false => &mut self.not_ready,
        }
    }

    /// In which time one of its nodes may be given up; `None`: none may.
    fn interval(&self) -> Option<Duration> {
        let all = self.ready + self.not_ready;
        let in_trouble =
            self.ready > 0 && self.not_ready >= SEVERAL && self.not_ready * 100 >= all * THRESHOLD;
        match in_trouble {
            false => Some(USUAL),
            true => (all > LARGE).then_some(IN_TROUBLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    /// How many nodes are given up in so many seconds, by zones of so many nodes that are ready and that are not.
    #[test]
    fn the_fewer_are_left_the_fewer_are_given_up() {
        type Case<'a> = (&'a str, &'a [(usize, usize)], i64, &'a [usize]);
        #[rustfmt::skip]
        let cases: [Case<'_>; 9] = [
            ("one of three", &[(2, 1)], 60, &[1]),
            ("the usual rate", &[(90, 40)], 60, &[7]),
            ("the last of a few", &[(1, 2)], 60, &[2]),
            ("most of a small zone", &[(2, 3)], 60, &[0]),
            ("most of a large zone", &[(40, 60)], 250, &[3]),
            ("less than the threshold", &[(46, 54)], 250, &[26]),
            ("each zone by itself", &[(9, 9), (9, 9)], 60, &[7, 7]),
            ("a whole zone of two", &[(9, 0), (0, 9)], 60, &[0, 7]),
            ("all of all zones", &[(0, 9), (0, 9)], 600, &[0, 0]),
        ];
        for (why, given, seconds, expected) in cases {
            let zones = Zones::default();
            let mut silent = Vec::new();
            for (zone, (ready, not_ready)) in given.iter().enumerate() {
                for n in 0..ready + not_ready {
                    zones.learn(&format!("{zone}-{n}"), &zone.to_string(), n < *ready);
                }
                silent.push(vec![false; *not_ready]);
            }
            for second in 0..=seconds {
                for (zone, nodes) in silent.iter_mut().enumerate() {
                    for evicted in nodes {
                        *evicted = zones.evicts(&zone.to_string(), *evicted, at(second));
                    }
                }
            }
            let evicted: Vec<_> = silent
                .iter()
                .map(|nodes| nodes.iter().filter(|evicted| **evicted).count())
                .collect();
            assert_eq!(evicted, expected, "{why}");
        }
    }

    #[test]
    fn the_first_that_is_looked_at_is_not_the_only_one() {
        let node = |name: &str, status: &str| {
            let node = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Arc::new(serde_json::from_value(node).expect("a node"))
        };
        let zones = Zones::default();
        zones.begin(|| vec![node("a", "True"), node("b", "Unknown")]);
        zones.learn("b", "/", false);
        assert!(zones.evicts("/", true, at(0)));
        zones.begin(|| vec![node("c", "True")]);
        zones.learn("a", "/", false);
        assert!(!zones.evicts("/", true, at(0)), "begun only once");
    }

    #[test]
    fn nodes_count_where_they_are_now() {
        let zones = Zones::default();
        zones.learn("a", "z", false);
        zones.learn("b", "z", false);
        assert!(!zones.evicts("z", true, at(0)), "all are silent");
        zones.learn("b", "z", true);
        assert!(zones.evicts("z", true, at(0)), "one is back");
        zones.learn("b", "y", true);
        assert!(zones.evicts("z", false, at(0)), "it is elsewhere");
        zones.forget("b");
        assert!(!zones.evicts("z", true, at(0)), "it is gone");
    }
}

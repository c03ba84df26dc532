//! What hints go by: the CPUs of all nodes, zone by zone, added up as nodes change; and what Services that ask for hints have been
//! given, so that those alone are looked at again for which a change of nodes matters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use parking_lot::Mutex;
use trimtab_apimachinery_meta::{ObjectKey, Quantity};
use trimtab_client_cache::Cached;

use super::hints::{Allotted, Shares};
use crate::node_lifecycle::is_ready;

/// The zone of a node.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Nodes with one of these labels do not count, since few pods may run there.
const EXCLUDED: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// What hints go by.
#[derive(Debug, Default)]
pub(super) struct Zones(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    nodes: HashMap<String, Arc<Room>>,
    /// How many nodes count in each zone, and how many thousandths of CPUs they have.
    zones: BTreeMap<String, (usize, i128)>,
    /// How many nodes count and do not say for what.
    silent: usize,
    shares: Arc<Shares>,
    /// The Services that ask for hints.
    services: HashMap<ObjectKey, Allotted>,
}

/// What a node is to hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Not ready, or excluded.
    None,
    /// It does not say where it is or how many CPUs it has: as long as there is one of these no shares are known.
    Silent,
    /// So many thousandths of CPUs in this zone.
    Of(String, i64),
}

/// What the hints of a Service are decided by.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) shares: Arc<Shares>,
    /// What became of them last.
    pub(super) before: Allotted,
}

/// The zone of a node, if it has one.
pub(super) fn zone_of(node: &Cached<Node>) -> Option<String> {
    let zone = node.label(ZONE).filter(|zone| !zone.is_empty());
    zone.map(std::borrow::Cow::into_owned)
}

/// What the node of this state is to hints, read when it is asked for first.
pub(super) fn room_of(node: &Cached<Node>) -> Arc<Room> {
    node.derived(|node| {
        let conditions: Option<Vec<NodeCondition>> = node.read(["status", "conditions"]).ok().flatten();
        if EXCLUDED.iter().any(|label| node.label(label).is_some())
            || !is_ready(&conditions.unwrap_or_default())
        {
            return Room::None;
        }
        let cpus = node.text(["status", "allocatable", "cpu"]);
        let cpus = cpus.and_then(|cpus| cpus.parse::<Quantity>().ok());
        let cpus = cpus.map(Quantity::milli_value).filter(|cpus| *cpus > 0);
        match zone_of(node).zip(cpus) {
            Some((zone, cpus)) => Room::Of(zone, cpus),
            None => Room::Silent,
        }
    })
}

impl Zones {
    /// Takes note of what a node is now; `None` if it is gone. Returns the Services for which it matters.
    ///
    /// `look` looks it up under the lock, so that what is seen last is what is noted last.
    pub(super) fn learn(&self, name: &str, look: impl FnOnce() -> Option<Arc<Room>>) -> Vec<ObjectKey> {
        let inner = &mut *self.0.lock();
        let now = look();
        inner.count(now.as_deref(), 1);
        let before = match now {
            Some(now) => inner.nodes.insert(name.to_owned(), now),
            None => inner.nodes.remove(name),
        };
        inner.count(before.as_deref(), -1);
        let shares = inner.shares();
        if shares == *inner.shares {
            return Vec::new();
        }
        inner.shares = Arc::new(shares);
        let affected = inner.services.iter();
        let affected = affected.filter(|(_, allotted)| is_affected(allotted, &inner.shares));
        affected.map(|(service, _)| service.clone()).collect()
    }

    /// What the hints of a Service are decided by.
    pub(super) fn known(&self, service: &ObjectKey) -> Known {
        let inner = self.0.lock();
        Known {
            shares: inner.shares.clone(),
            before: inner.services.get(service).cloned().unwrap_or_default(),
        }
    }

    /// Takes note of what became of the hints of a Service; of nothing, if it does not ask for any. Whether nodes have changed
    /// since in a way that matters for it.
    pub(super) fn remember(&self, service: &ObjectKey, known: &Known, allotted: Allotted) -> bool {
        let inner = &mut *self.0.lock();
        let matters = !Arc::ptr_eq(&known.shares, &inner.shares) && is_affected(&allotted, &inner.shares);
        if allotted.is_empty() {
            inner.services.remove(service);
        } else {
            inner.services.insert(service.clone(), allotted);
        }
        matters
    }

    /// Forgets a Service that is gone, or has no endpoints of its own any more.
    pub(super) fn forget(&self, service: &ObjectKey) {
        self.0.lock().services.remove(service);
    }
}

impl Inner {
    /// Counts a node in or out.
    fn count(&mut self, node: Option<&Room>, by: i8) {
        match node {
            None | Some(Room::None) => {}
            Some(Room::Silent) => self.silent = self.silent.saturating_add_signed(by.into()),
            Some(Room::Of(zone, cpus)) => {
                let counted = self.zones.entry(zone.clone()).or_default();
                counted.0 = counted.0.saturating_add_signed(by.into());
                counted.1 += i128::from(by) * i128::from(*cpus);
                if counted.0 == 0 {
                    self.zones.remove(zone);
                }
            }
        }
    }

    fn shares(&self) -> Shares {
        match self.silent {
            0 => Shares::of(self.zones.iter().map(|(zone, (_, cpus))| (zone, *cpus))),
            _ => Shares::default(),
        }
    }
}

/// Whether these shares may give a Service other hints: its endpoints would have too much to bear with those that they have, or
/// have none and may get some.
fn is_affected(allotted: &Allotted, shares: &Shares) -> bool {
    allotted.values().any(|allotted| match allotted {
        Ok(counts) => shares.overload(counts),
        Err(_) => shares.are_known(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trimtab_client_cache::Form;
    use trimtab_client_cache::cached::Codec;

    use super::*;

    #[test]
    fn nodes_count_if_they_are_ready_and_pods_may_run_there() {
        let conditions =
            json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]);
        let node = |labels: Value, status: Value| {
            let mut node = json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "n", "uid": "n", "resourceVersion": "1", "labels": {ZONE: "a"}},
                "status": {"allocatable": {"cpu": "1500m"}, "conditions": conditions}});
            json_patch::merge(&mut node["metadata"]["labels"], &labels);
            json_patch::merge(&mut node["status"], &status);
            let mut codec = Codec::<Node>::new(&(), Form::default());
            let node = codec.encode_json(node.to_string().as_bytes()).expect("a node");
            (*room_of(&node)).clone()
        };
        let (same, of) = (json!({}), |cpus| Room::Of("a".to_owned(), cpus));
        let cases = [
            (same.clone(), same.clone(), of(1500)),
            (same.clone(), json!({"allocatable": {"cpu": "4"}}), of(4000)),
            (json!({EXCLUDED[0]: ""}), same.clone(), Room::None),
            (json!({EXCLUDED[1]: "true"}), same.clone(), Room::None),
            (same.clone(), json!({"conditions": null}), Room::None),
            (
                same.clone(),
                json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}),
                Room::None,
            ),
            (json!({ZONE: null}), same.clone(), Room::Silent),
            (json!({ZONE: ""}), same.clone(), Room::Silent),
            (same.clone(), json!({"allocatable": null}), Room::Silent),
            (same, json!({"allocatable": {"cpu": "0"}}), Room::Silent),
        ];
        for (labels, status, expected) in cases {
            assert_eq!(
                node(labels.clone(), status.clone()),
                expected,
                "{labels} {status}"
            );
        }
    }

    /// Who is looked at again as nodes change, one after the other.
    #[test]
    fn services_are_looked_at_for_which_nodes_matter() {
        let zones = Zones::default();
        let (hinted, waiting, plain) = (key("hinted"), key("waiting"), key("plain"));
        let known = zones.known(&hinted);
        let counts = [("a".to_owned(), 5), ("b".to_owned(), 5)].into();
        assert!(!zones.remember(&hinted, &known, [("IPv4", Ok(counts))].into()));
        assert!(!zones.remember(&waiting, &known, [("IPv4", Err("why".to_owned()))].into()));
        assert!(!zones.remember(&plain, &known, Allotted::new()));
        let room = |zone: &str, cpus| Some(Room::Of(zone.to_owned(), cpus));
        let (all, none): (&[_], &[_]) = (&["hinted", "waiting"], &[]);
        #[rustfmt::skip]
        let steps = vec![
            ("one zone says nothing", "1", room("a", 1000), none),
            ("two do", "2", room("b", 1000), &["waiting"]),
            ("nothing has changed", "2", room("b", 1000), none),
            ("one that does not count", "3", Some(Room::None), none),
            ("endpoints are still enough", "3", room("a", 300), &["waiting"]),
            ("they are not", "3", room("a", 1000), all),
            ("a zone more", "3", room("c", 1), all),
            ("it says nothing any more", "3", Some(Room::Silent), &["hinted"]),
            ("it is gone", "3", None, &["waiting"]),
            ("of a zone the last", "2", None, &["hinted"]),
        ];
        for (why, node, room, expected) in steps {
            let mut found = zones.learn(node, || room.map(Arc::new));
            found.sort_unstable();
            let expected: Vec<_> = expected.iter().map(|name| key(name)).collect();
            assert_eq!(found, expected, "{why}");
        }
    }

    /// Nodes that change while a turn is under way are not missed.
    #[test]
    fn a_turn_that_was_overtaken_is_repeated() {
        let zones = Zones::default();
        let service = key("a");
        let allotted: Allotted = [("IPv4", Err("why".to_owned()))].into();
        let known = zones.known(&service);
        for zone in ["a", "b"] {
            let found = zones.learn(zone, || Some(Arc::new(Room::Of(zone.to_owned(), 1))));
            assert!(found.is_empty(), "it is not known yet");
        }
        assert!(zones.remember(&service, &known, allotted.clone()));
        let known = zones.known(&service);
        assert_eq!(known.before, allotted);
        assert!(!zones.remember(&service, &known, allotted));
        zones.forget(&service);
        assert!(zones.known(&service).before.is_empty());
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        }
    }
}

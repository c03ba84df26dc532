//! The nodes and what is on them, changed with each change and never made anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::ResourceExt;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::key_of;

use super::terms::{Labels, Taint};
use super::volumes::Volumes;
use super::wants::{Amounts, Port, Wants};

/// A pod that has its node, or waits for it to become free.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    pub(crate) wants: Arc<Wants>,
    pub(crate) node: Arc<str>,
    /// When it started, in seconds; the end of time if it has not.
    pub(crate) started: i64,
    pub(crate) deleting: bool,
    /// It is being deleted to make room.
    pub(crate) preempted: bool,
}

/// How many pods of a node want the same.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) wants: Arc<Wants>,
    pub(crate) all: usize,
    /// Without those that are being deleted.
    pub(crate) staying: usize,
}

/// A node as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) cordoned: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) most_pods: i64,
    pub(crate) requested: Amounts,
    pub(crate) usual: (i64, i64),
    pub(crate) pods: Vec<Arc<Placed>>,
    pub(crate) kinds: Vec<Kind>,
    ports: Vec<Port>,
}

/// All that a decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) nodes: Vec<Node>,
    by_name: HashMap<Arc<str>, usize>,
    placed: HashMap<ObjectKey, Arc<Placed>>,
    /// Pods whose nodes are not there, by the nodes' names.
    stray: HashMap<Arc<str>, Vec<Arc<Placed>>>,
    /// Pods that wait for others to leave their node.
    pub(crate) nominated: HashMap<ObjectKey, (Arc<Wants>, Arc<str>)>,
    pub(crate) namespaces: HashMap<String, Labels>,
    pub(crate) volumes: Volumes,
    shared: HashSet<Arc<Wants>>,
    /// How many pods have affinity of any sort.
    pub(crate) affine: usize,
    /// Where the search for nodes goes on, so that all of them get their turn.
    pub(crate) next: usize,
}

// === impl Node ===

impl Node {
    pub(crate) fn of(node: &NodeObject) -> Self {
        let (spec, status) = (
            node.spec.clone().unwrap_or_default(),
            node.status.clone().unwrap_or_default(),
        );
        let allocatable = status.allocatable.or(status.capacity).unwrap_or_default();
        let pods = allocatable.get("pods").and_then(|pods| pods.0.parse().ok());
        Self {
            name: node.name_any().into(),
            labels: node.labels().clone(),
            taints: spec.taints.iter().flatten().map(Taint::of).collect(),
            cordoned: spec.unschedulable == Some(true),
            allocatable: Amounts::of(&allocatable),
            most_pods: pods.map_or(0, trimtab_apimachinery_meta::Quantity::value),
            ..Self::default()
        }
    }

    pub(crate) fn has_port_of(&self, wants: &Wants) -> bool {
        let taken = |port: &Port| self.ports.iter().any(|other| other.conflicts(port));
        wants.ports.iter().any(taken)
    }

    pub(crate) fn add(&mut self, pod: Arc<Placed>) {
        let wants = &pod.wants;
        self.requested.add(&wants.requests);
        self.usual.0 += wants.usual.0;
        self.usual.1 += wants.usual.1;
        self.ports.extend(wants.ports.iter().cloned());
        let staying = usize::from(!pod.deleting);
        match self.kinds.iter_mut().find(|kind| Arc::ptr_eq(&kind.wants, wants)) {
            Some(kind) => {
                kind.all += 1;
                kind.staying += staying;
            }
            None => self.kinds.push(Kind {
                wants: wants.clone(),
                all: 1,
                staying,
            }),
        }
        self.pods.push(pod);
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Placed>> {
        let at = self.pods.iter().position(|pod| pod.key == *key)?;
        let pod = self.pods.swap_remove(at);
        let wants = &pod.wants;
        self.requested.subtract(&wants.requests);
        self.usual.0 -= wants.usual.0;
        self.usual.1 -= wants.usual.1;
        for port in &wants.ports {
            if let Some(at) = self.ports.iter().position(|other| other == port) {
                self.ports.swap_remove(at);
            }
        }
        if let Some(at) = self.kinds.iter().position(|kind| Arc::ptr_eq(&kind.wants, wants)) {
            let kind = &mut self.kinds[at];
            kind.all -= 1;
            kind.staying -= usize::from(!pod.deleting);
            if kind.all == 0 {
                self.kinds.swap_remove(at);
            }
        }
        Some(pod)
    }

    /// Takes over what the object says and keeps what is on it.
    fn update(&mut self, object: Self) {
        self.labels = object.labels;
        self.taints = object.taints;
        self.cordoned = object.cordoned;
        self.allocatable = object.allocatable;
        self.most_pods = object.most_pods;
    }

    /// Whether the object says something else that counts here.
    fn differs(&self, object: &Self) -> bool {
        self.labels != object.labels
            || self.taints != object.taints
            || self.cordoned != object.cordoned
            || self.allocatable != object.allocatable
            || self.most_pods != object.most_pods
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Has the node as the object says. False: nothing has changed that counts here.
    pub(crate) fn set_node(&mut self, object: &NodeObject) -> bool {
        let node = Node::of(object);
        if let Some(&at) = self.by_name.get(&node.name) {
            let differs = self.nodes[at].differs(&node);
            self.nodes[at].update(node);
            return differs;
        }
        let name = node.name.clone();
        self.by_name.insert(name.clone(), self.nodes.len());
        self.nodes.push(node);
        for pod in self.stray.remove(&name).unwrap_or_default() {
            if let Some(node) = self.nodes.last_mut() {
                node.add(pod);
            }
        }
        true
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else {
            return;
        };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
        if !node.pods.is_empty() {
            self.stray.insert(node.name, node.pods);
        }
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What the pod wants, shared with all that want the same.
    pub(crate) fn wants(&mut self, pod: &Pod) -> Arc<Wants> {
        let wants = Wants::of(pod);
        if let Some(shared) = self.shared.get(&wants) {
            return shared.clone();
        }
        let shared = Arc::new(wants);
        self.shared.insert(shared.clone());
        shared
    }

    /// Forgets what nobody wants any more.
    pub(crate) fn let_go(&mut self, wants: Arc<Wants>) {
        // This one, and the one in the set.
        if Arc::strong_count(&wants) == 2 {
            self.shared.remove(&wants);
        }
    }

    pub(crate) fn placed(&self, key: &ObjectKey) -> Option<&Arc<Placed>> {
        self.placed.get(key)
    }

    /// Puts a pod on its node, in place of what was known of it.
    pub(crate) fn place(&mut self, pod: &Pod, node: &str) {
        let key = key_of(pod);
        let wants = self.wants(pod);
        self.displace(&key);
        let name = match self.by_name.get_key_value(node) {
            Some((name, _)) => name.clone(),
            None => node.into(),
        };
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let deleting = pod.metadata.deletion_timestamp.is_some();
        let placed = Arc::new(Placed {
            uid: pod.uid().unwrap_or_default(),
            wants,
            node: name.clone(),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map_or(i64::MAX, |at| at.0.as_second()),
            deleting,
            preempted: deleting
                && conditions.into_iter().flatten().any(|condition| {
                    condition.type_ == "DisruptionTarget"
                        && condition.reason.as_deref() == Some("PreemptionByScheduler")
                }),
            key: key.clone(),
        });
        self.affine += usize::from(placed.wants.has_affinity());
        match self.by_name.get(&name) {
            Some(at) => self.nodes[*at].add(placed.clone()),
            None => self.stray.entry(name).or_default().push(placed.clone()),
        }
        self.placed.insert(key, placed);
    }

    /// Takes a pod off its node. Where it was, if it was anywhere.
    pub(crate) fn displace(&mut self, key: &ObjectKey) -> Option<Arc<str>> {
        let placed = self.placed.remove(key)?;
        self.affine -= usize::from(placed.wants.has_affinity());
        let node = placed.node.clone();
        match self.by_name.get(&node) {
            Some(at) => drop(self.nodes[*at].remove(key)),
            None => {
                if let Some(pods) = self.stray.get_mut(&node) {
                    pods.retain(|pod| pod.key != *key);
                    if pods.is_empty() {
                        self.stray.remove(&node);
                    }
                }
            }
        }
        let wants = placed.wants.clone();
        drop(placed);
        self.let_go(wants);
        Some(node)
    }
}

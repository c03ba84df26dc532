//! What the scheduler is told: each change of an object that counts is taken over into its state, and calls the pods for which it
//! may make a difference.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use trimtab_client_cache::cached::Cached;
use trimtab_client_cache::informer::{InformerFactory, Registration, Synced};
use trimtab_client_cache::{Delta, Object};
use trimtab_client_workqueue::Add;

use super::refusal::{Part, Parts};
use super::runner::Scheduler;
use super::terms::{Labels, Selector};
use crate::kubelet::runner::selection;

/// The kinds of owners whose pods are spread.
pub(crate) const OWNERS: [&str; 3] = ["ReplicaSet", "StatefulSet", "ReplicationController"];
const NODE_NAME: [&str; 2] = ["spec", "nodeName"];

/// Places at informers; dropping them leaves.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    kept: Vec<Box<dyn Seat>>,
    synced: Vec<Synced>,
}

trait Seat: Debug + Send + Sync {}

impl<K: Object> Seat for Registration<K> {}

impl Seats {
    fn take<K: Object>(&mut self, registration: Registration<K>) {
        self.synced.push(registration.sync_signal());
        self.kept.push(Box::new(registration));
    }

    /// Says when everything has been told that there was.
    pub(crate) fn synced(&self) -> Vec<Synced> {
        self.synced.clone()
    }
}

/// Listens to all that counts.
pub(crate) fn listen(informers: &InformerFactory, scheduler: &Arc<Scheduler>) -> Seats {
    let mut seats = Seats::default();
    let told = scheduler.clone();
    seats.take(
        informers
            .informer::<Node>(selection())
            .add_handler(move |delta| told.node(&delta)),
    );
    let told = scheduler.clone();
    seats.take(
        informers
            .informer::<Pod>(selection())
            .add_handler(move |delta| told.pod(&delta)),
    );
    let told = scheduler.clone();
    let namespaces = informers.informer::<Namespace>(selection());
    seats.take(namespaces.add_handler(move |delta| told.namespace(&delta)));
    volumes(informers, scheduler, &mut seats);
    let told = scheduler.clone();
    let services = informers.informer::<Service>(selection());
    seats.take(services.add_handler(move |delta| told.service(&delta)));
    owners::<ReplicaSet>(informers, scheduler, OWNERS[0], &mut seats);
    owners::<StatefulSet>(informers, scheduler, OWNERS[1], &mut seats);
    owners::<ReplicationController>(informers, scheduler, OWNERS[2], &mut seats);
    seats
}

fn volumes(informers: &InformerFactory, scheduler: &Arc<Scheduler>, seats: &mut Seats) {
    let told = scheduler.clone();
    let claims = informers.informer::<PersistentVolumeClaim>(selection());
    seats.take(claims.add_handler(move |delta| {
        told.volumes(&delta, |volumes, object| match object {
            Ok(object) => volumes.set_claim(object),
            Err(gone) => volumes.remove_claim(gone.key()),
        });
    }));
    let told = scheduler.clone();
    let all = informers.informer::<PersistentVolume>(selection());
    seats.take(all.add_handler(move |delta| {
        told.volumes(&delta, |volumes, object| match object {
            Ok(object) => volumes.set_volume(object),
            Err(gone) => volumes.remove_volume(gone.name()),
        });
    }));
    let told = scheduler.clone();
    let classes = informers.informer::<StorageClass>(selection());
    seats.take(classes.add_handler(move |delta| {
        told.volumes(&delta, |volumes, object| match object {
            Ok(object) => volumes.set_class(object),
            Err(gone) => volumes.remove_class(gone.name()),
        });
    }));
}

fn owners<K>(informers: &InformerFactory, scheduler: &Arc<Scheduler>, kind: &'static str, seats: &mut Seats)
where
    K: Object<DynamicType = ()>,
{
    let told = scheduler.clone();
    let owners = informers.informer::<K>(selection());
    seats.take(owners.add_handler(move |delta| told.owner(kind, &delta)));
}

fn is_gone<K>(delta: &Delta<K>) -> bool {
    matches!(delta, Delta::Deleted { .. })
}

/// Whether a change is one of these parts of the object.
fn changes<K: Object, const N: usize>(delta: &Delta<K>, paths: [&[&str]; N]) -> bool {
    match delta {
        Delta::Updated { old, new } => paths.iter().any(|path| !old.has_same(new, path.iter().copied())),
        _ => true,
    }
}

fn has_ended(pod: &Cached<Pod>) -> bool {
    let phase = pod.text(["status", "phase"]);
    matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
}

impl Scheduler {
    fn node(&self, delta: &Delta<Node>) {
        let mut state = self.state.lock();
        if is_gone(delta) {
            state.snapshot.remove_node(&delta.key().name);
            // Spreads and claims may look otherwise without it.
            state.happened(Parts::of(&[Part::Spread, Part::PodAffinity]), &self.queue);
            return;
        }
        let counts = [
            &["metadata", "labels"][..],
            &["spec"],
            &["status", "allocatable"],
            &["status", "capacity"],
        ];
        if !changes(delta, counts) {
            return;
        }
        let Ok(node) = delta.object().decode_once() else {
            return;
        };
        if state.snapshot.set_node(&node) {
            state.happened(Parts::ALL, &self.queue);
        }
    }

    fn pod(&self, delta: &Delta<Pod>) {
        let pod = delta.object();
        let key = delta.key();
        if is_gone(delta) || has_ended(pod) {
            let mut state = self.state.lock();
            state.unpark(key);
            if let Some((wants, _)) = state.snapshot.nominated.remove(key) {
                state.snapshot.let_go(wants);
            }
            state.assumed.remove(key);
            if state.snapshot.displace(key).is_some() {
                state.happened(Self::room(), &self.queue);
            }
            return;
        }
        let counts = [
            &["metadata", "labels"][..],
            &["metadata", "deletionTimestamp"],
            &["spec"],
            &["status", "startTime"],
        ];
        if !changes(delta, counts) {
            return;
        }
        match pod.text(NODE_NAME).filter(|node| !node.is_empty()) {
            Some(node) => self.bound(pod, &node),
            None => self.unbound(delta),
        }
    }

    /// A pod has its node, or is another than it was there.
    fn bound(&self, pod: &Cached<Pod>, node: &str) {
        let Ok(decoded) = pod.decode_once() else { return };
        let mut state = self.state.lock();
        let key = pod.key();
        state.assumed.remove(key);
        state.unpark(key);
        if let Some((wants, _)) = state.snapshot.nominated.remove(key) {
            state.snapshot.let_go(wants);
        }
        state.snapshot.place(&decoded, node);
        // Others may want to be near it, or take it for a start.
        state.happened(Parts::of(&[Part::PodAffinity, Part::Spread]), &self.queue);
    }

    /// A pod is to be given a node.
    fn unbound(&self, delta: &Delta<Pod>) {
        let pod = delta.object();
        let name = pod.text(["spec", "schedulerName"]).unwrap_or_default();
        if !self.names.iter().any(|ours| **ours == *name) || pod.is_deleting() {
            return;
        }
        let gates: Option<Vec<serde_json::Value>> = pod.read(["spec", "schedulingGates"]).ok().flatten();
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return;
        }
        let priority: Option<i32> = pod.read(["spec", "priority"]).ok().flatten();
        let mut state = self.state.lock();
        if state.assumed.contains_key(delta.key()) {
            return;
        }
        // Another pod than the one that no node took.
        state.unpark(delta.key());
        let add = Add::now().priority(priority.unwrap_or_default());
        let _refused_when_stopping = self.queue.add_with(delta.key().clone(), add);
    }

    fn namespace(&self, delta: &Delta<Namespace>) {
        let name = delta.key().name.clone();
        let mut state = self.state.lock();
        if is_gone(delta) {
            state.snapshot.namespaces.remove(&name);
            return;
        }
        let labels: Option<Labels> = delta.object().read(["metadata", "labels"]).ok().flatten();
        let labels = labels.unwrap_or_default();
        if state.snapshot.namespaces.get(&name) != Some(&labels) {
            state.snapshot.namespaces.insert(name, labels);
            state.happened(Parts::of(&[Part::PodAffinity]), &self.queue);
        }
    }

    fn volumes<K: Object>(
        &self,
        delta: &Delta<K>,
        change: impl FnOnce(&mut super::volumes::Volumes, Result<&K, &Cached<K>>),
    ) {
        let mut state = self.state.lock();
        if is_gone(delta) {
            change(&mut state.snapshot.volumes, Err(delta.object()));
        } else if let Ok(object) = delta.object().decode_once() {
            change(&mut state.snapshot.volumes, Ok(&object));
        }
        state.happened(Parts::of(&[Part::Volumes]), &self.queue);
    }

    fn service(&self, delta: &Delta<Service>) {
        let key = delta.key();
        let selector: Option<Labels> = delta.object().read(["spec", "selector"]).ok().flatten();
        let selector = selector.filter(|selector| !selector.is_empty() && !is_gone(delta));
        let mut state = self.state.lock();
        match selector {
            Some(selector) => {
                let of_namespace = state.services.entry(key.namespace.clone()).or_default();
                of_namespace.insert(key.name.clone(), selector);
            }
            None => {
                if let Some(of_namespace) = state.services.get_mut(&key.namespace) {
                    of_namespace.remove(&key.name);
                    if of_namespace.is_empty() {
                        state.services.remove(&key.namespace);
                    }
                }
            }
        }
    }

    fn owner<K: Object>(&self, kind: &'static str, delta: &Delta<K>) {
        let key = (kind, delta.key().clone());
        if is_gone(delta) {
            self.state.lock().owners.remove(&key);
            return;
        }
        if !changes(delta, [&["spec", "selector"][..]]) {
            return;
        }
        let object = delta.object();
        let path = ["spec", "selector"];
        let selector = if kind == OWNERS[2] {
            let labels: Option<Labels> = object.read(path).ok().flatten();
            labels.map(|labels| Selector::of_labels(&labels))
        } else {
            let selector: Option<LabelSelector> = object.read(path).ok().flatten();
            Selector::of(selector.as_ref())
        };
        if let Some(selector) = selector {
            self.state.lock().owners.insert(key, selector);
        }
    }

    /// What may be otherwise when a pod has left its node.
    pub(super) fn room() -> Parts {
        Parts::of(&[Part::Resources, Part::Ports, Part::Spread, Part::PodAffinity])
    }
}

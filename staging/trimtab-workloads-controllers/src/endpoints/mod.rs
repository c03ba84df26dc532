//! The controllers of EndpointSlices and Endpoints: where the pods of each Service are, and which of them may be asked.

mod classic;
mod hints;
mod mirror;
mod seen;
mod slices;
#[cfg(test)]
mod tests;
mod zones;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Keyed, Manager, Next, Reconcile, Reconciled, Result, Subject, Turn};

use crate::workload::template;
use crate::workload::words::{is_ending, words_of};
use seen::{Seen, seen};
use zones::{Zones, room_of, zone_of};

pub(crate) use mirror::{NAME as MIRROR, describe as describe_mirror};

/// The name of the controller of EndpointSlices.
pub(crate) const SLICES: &str = "endpointslice-controller";
/// The name of the controller of Endpoints.
pub(crate) const CLASSIC: &str = "endpoints-controller";

/// How many Services are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;

/// Describes the controller of EndpointSlices.
pub(crate) fn describe_slices(manager: &Manager, _: &crate::Options) -> Result<()> {
    let zones = Arc::new(Zones::default());
    manager
        .controller::<Service, _>(Slices { zones: zones.clone() })
        .named(SLICES)
        .reporting_as("endpoint-slice-controller")
        .owns::<EndpointSlice>()
        .source(of_pods())
        .source(of_nodes(zones))
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// Describes the controller of Endpoints.
pub(crate) fn describe_classic(manager: &Manager, _: &crate::Options) -> Result<()> {
    let same = |object: &Cached<Endpoints>| vec![object.key().clone()];
    let itself = |object: &Cached<Service>| vec![object.key().clone()];
    manager
        .controller::<Keyed<ObjectKey>, _>(Classic)
        .named(CLASSIC)
        .source(Source::watch_cached::<Service>(Watch::new(), itself))
        .source(of_pods())
        .source(Source::watch_cached::<Endpoints>(Watch::new(), same))
        .writes::<Endpoints>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// The Services that select a pod, where something has changed that they tell of.
fn of_pods() -> Source<ObjectKey> {
    let matters = Predicate::new(|delta: &Delta<Pod>| match delta {
        Delta::Updated { old, new } => seen(old) != seen(new) || !old.has_same(new, ["metadata", "labels"]),
        delta => !seen(delta.object()).addresses.is_empty(),
    });
    Source::watch_related(
        Watch::new().when(matters),
        |pod: &Cached<Pod>, caches: &Caches| {
            let belonging = pod.belonging();
            let services = caches
                .store::<Service>()
                .map(|services| services.list_in(pod.namespace()));
            let selecting = services.into_iter().flatten().filter(|service| {
                let selector = selector_of(service);
                (*selector)
                    .as_ref()
                    .is_some_and(|selector| belonging.is_selected_by(selector))
            });
            selecting.map(|service| service.key().clone()).collect()
        },
    )
}

/// The Services whose hints may be others now that a node is.
fn of_nodes(zones: Arc<Zones>) -> Source<ObjectKey> {
    let matters = Predicate::updates(|old: &Cached<Node>, new: &Cached<Node>| room_of(old) != room_of(new));
    Source::watch_related(
        Watch::new().when(matters),
        move |node: &Cached<Node>, caches: &Caches| {
            zones.learn(node.name(), || {
                let now = caches.store::<Node>()?.get(node.key())?;
                Some(room_of(&now))
            })
        },
    )
}

/// What a Service selects, read when it is asked for first; `None` if its endpoints are others' affair.
fn selector_of(service: &Cached<Service>) -> Arc<Option<LabelSelector>> {
    service.derived(|service| {
        let external = service
            .text(["spec", "type"])
            .is_some_and(|type_| type_ == "ExternalName");
        let labels = service
            .read(["spec", "selector"])
            .ok()
            .flatten()
            .filter(|_| !external);
        labels
            .and_then(|labels| template::exactly(&labels))
            .filter(|selector| !selector.is_empty())
    })
}

/// The pods of a Service.
fn pods_of<S: trimtab_controller_runtime::Subject>(
    turn: &Turn<S>,
    namespace: &str,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Seen>>> {
    let pods = turn.store::<Pod>()?.list_in(namespace).into_iter();
    let selected = pods.filter(|pod| pod.belonging().is_selected_by(selector));
    Ok(selected.map(|pod| seen(&pod)).collect())
}

/// The slices of an owner that are for a controller of this name to keep.
fn managed<S: Subject>(turn: &Turn<S>, owner: &str, by: &str) -> Result<Vec<Cached<EndpointSlice>>> {
    let mut slices = turn.store::<EndpointSlice>()?.owned_by(owner);
    slices.retain(|slice| slice.label(slices::MANAGED_BY).is_some_and(|label| label == by));
    Ok(slices)
}

/// Makes, changes and deletes slices. False: nothing more can be made in the namespace.
async fn carry_out<K: Reconciled>(
    turn: &mut Turn<K>,
    plan: slices::Plan,
    there: &[Cached<EndpointSlice>],
) -> Result<bool> {
    if !turn.is_deleting() {
        match turn.create_all(plan.create).await.failure {
            Err(error) if is_ending(&error) => return Ok(false),
            outcome => outcome?,
        }
    }
    let patches = plan
        .update
        .into_iter()
        .map(|(at, patch)| (there[at].clone(), patch));
    turn.merge_all(patches.collect()).await.failure?;
    let surplus: Vec<_> = plan.delete.into_iter().map(|at| there[at].clone()).collect();
    turn.delete_all(&surplus).await.failure.map(|()| true)
}

struct Slices {
    zones: Arc<Zones>,
}

impl Reconcile<Service> for Slices {
    async fn reconcile(&self, turn: &mut Turn<Service>) -> Result<Next> {
        let (Some(service), Some(cached)) = (turn.latest(), turn.store::<Service>()?.get(turn.key())) else {
            self.zones.forget(turn.key());
            return Ok(Next::Done); // what it owns is collected
        };
        let selector = selector_of(&cached);
        let Some(selector) = &*selector else {
            self.zones.forget(turn.key());
            return Ok(Next::Done);
        };
        let nodes = turn.store::<Node>()?;
        let zone = |node: &str| {
            let node = nodes.get(&ObjectKey::cluster(node))?;
            Some(zone_of(&node))
        };
        let namespace = turn.key().namespace.clone();
        let pods = pods_of(turn, &namespace, selector)?;
        let managed = managed(turn, &cached.uid(), slices::MANAGER)?;
        let decoded = managed
            .iter()
            .map(Cached::decode)
            .collect::<Result<Vec<_>, _>>()?;
        let known = self.zones.known(turn.key());
        let mut plan = slices::decide(&service, &pods, &decoded, zone, &known);
        let allotted = std::mem::take(&mut plan.allotted);
        let outdated = self.zones.remember(turn.key(), &known, allotted);
        for note in plan.notes.drain(..) {
            turn.event(note);
        }
        let homeless = plan.homeless;
        if !carry_out(turn, plan, &managed).await? {
            return Ok(Next::Done);
        }
        // A pod whose node is not known yet has no endpoint until it is.
        Ok(if homeless || outdated {
            Next::Again
        } else {
            Next::Done
        })
    }
}

struct Classic;

impl Reconcile<Keyed<ObjectKey>> for Classic {
    async fn reconcile(&self, turn: &mut Turn<Keyed<ObjectKey>>) -> Result<Next> {
        let key = turn.key().clone();
        let there = turn.store::<Endpoints>()?.get(&key);
        let Some(cached) = turn.store::<Service>()?.get(&key) else {
            if let Some(there) = there.filter(|there| there.label(classic::MANAGED_BY).is_some()) {
                turn.delete_all(&[there]).await.failure?;
            }
            return Ok(Next::Done);
        };
        let selector = selector_of(&cached);
        let Some(selector) = &*selector else {
            return Ok(Next::Done);
        };
        let service = cached.decode()?;
        let pods = pods_of(turn, &key.namespace, selector)?;
        let wanted = classic::endpoints(&service, &pods);
        let written = match there {
            None => turn.create(&wanted).await.map(drop),
            Some(there) => match difference(&*there.decode()?, &wanted) {
                None => Ok(()),
                Some(patch) => turn.merge_all(vec![(there, patch)]).await.failure,
            },
        };
        match written {
            Err(error) if is_ending(&error) => Ok(Next::Done),
            Err(error) => {
                let name = format!("{}/{}", key.namespace, key.name);
                let message = format!("Failed to update endpoint {name}: {}", words_of(&error));
                turn.event_on(
                    &*service,
                    Note::warning("FailedToUpdateEndpoint", "Update", message),
                );
                Err(error)
            }
            Ok(()) => Ok(Next::Done),
        }
    }
}

/// What is to be merged into Endpoints.
fn difference(there: &Endpoints, wanted: &Endpoints) -> Option<Value> {
    let mut patch = json!({});
    if there.subsets.clone().unwrap_or_default() != wanted.subsets.clone().unwrap_or_default() {
        patch["subsets"] = json!(wanted.subsets);
    }
    let labels = slices::changed_map(there.metadata.labels.as_ref(), wanted.metadata.labels.as_ref());
    if let Some(labels) = labels {
        patch["metadata"]["labels"] = labels;
    }
    let annotation = |object: &Endpoints| {
        let annotations = object.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(classic::OVER_CAPACITY).cloned())
    };
    if annotation(there) != annotation(wanted) {
        patch["metadata"]["annotations"][classic::OVER_CAPACITY] = json!(annotation(wanted));
    }
    (patch != json!({})).then_some(patch)
}

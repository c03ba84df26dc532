//! What the scheduler keeps between decisions: the snapshot, which pods wait for what, and who a pod's siblings are.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_workqueue::{Add, WorkQueue};

use super::refusal::Parts;
use super::snapshot::Snapshot;
use super::terms::{Labels, Selector};

/// The wait after the first decision that went wrong; doubled by each further one. kube-scheduler's figure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The limit of the doubling. kube-scheduler's figure.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// After this long a pod is tried again though nothing has happened. kube-scheduler's figure.
const PARKED_AT_MOST: Duration = Duration::from_secs(300);

/// All that the scheduler knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    /// Pods that have been given a node of which the watch has not told yet, with their UIDs.
    pub(crate) assumed: HashMap<ObjectKey, String>,
    waiting: HashMap<ObjectKey, Waiting>,
    /// The selectors of Services, by namespace and name.
    pub(crate) services: HashMap<String, HashMap<String, Labels>>,
    /// The selectors of pods' owners, by kind and key.
    pub(crate) owners: HashMap<(&'static str, ObjectKey), Selector>,
    pub(crate) random: fastrand::Rng,
}

/// A pod that no node took.
#[derive(Debug)]
struct Waiting {
    parts: Parts,
    tries: u32,
    since: Instant,
    priority: i32,
    /// It is in the queue again.
    called: bool,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            snapshot: Snapshot::default(),
            assumed: HashMap::new(),
            waiting: HashMap::new(),
            services: HashMap::new(),
            owners: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Has a pod wait until something happens that is about one of these parts.
    pub(crate) fn park(
        &mut self,
        key: &ObjectKey,
        parts: Parts,
        priority: i32,
        queue: &WorkQueue<ObjectKey>,
    ) {
        let tries = self.waiting.get(key).map_or(0, |waiting| waiting.tries);
        let waiting = Waiting {
            parts,
            tries: tries.saturating_add(1),
            since: Instant::now(),
            priority,
            called: false,
        };
        self.waiting.insert(key.clone(), waiting);
        let _refused_when_stopping =
            queue.add_with(key.clone(), Add::after(PARKED_AT_MOST).priority(priority));
    }

    /// Forgets that a pod has waited.
    pub(crate) fn unpark(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
    }

    /// Calls the pods for which this may make a difference, each after its backoff.
    pub(crate) fn happened(&mut self, parts: Parts, queue: &WorkQueue<ObjectKey>) {
        let now = Instant::now();
        for (key, waiting) in &mut self.waiting {
            if waiting.called || !waiting.parts.meets(parts) {
                continue;
            }
            waiting.called = true;
            let due = waiting.since + backoff(waiting.tries);
            let add = Add::after(due.saturating_duration_since(now)).priority(waiting.priority);
            let _refused_when_stopping = queue.add_with(key.clone(), add);
        }
    }

    /// The pods that this one is one of, as Services and its owner say; `None` if nothing does.
    pub(crate) fn siblings(&self, pod: &Pod) -> Option<Selector> {
        let namespace = pod.namespace().unwrap_or_default();
        let services = self.services.get(&namespace).into_iter().flatten();
        let mut merged = Labels::new();
        for (_, selector) in services {
            if selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
            {
                merged.extend(selector.clone());
            }
        }
        let by_services = Selector::of_labels(&merged);
        let owner = pod
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true))
            .and_then(|owner| {
                let kind = super::handlers::OWNERS
                    .into_iter()
                    .find(|kind| *kind == owner.kind)?;
                let key = ObjectKey::namespaced(&namespace, &owner.name);
                self.owners.get(&(kind, key))
            });
        let all = match owner {
            Some(owner) => by_services.and(owner),
            None => by_services,
        };
        (!all.is_empty()).then_some(all)
    }
}

fn backoff(tries: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_doubled_up_to_ten_seconds() {
        let waits: Vec<u64> = (1..7).map(|tries| backoff(tries).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }
}

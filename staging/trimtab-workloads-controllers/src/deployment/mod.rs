//! The controller of Deployments: ReplicaSets, one for each template, scaled so that pods of the newest replace the others.

mod decide;
mod rollback;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::json;
use trimtab_apimachinery_meta::{ObjectKey, owner};
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Error, Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::{Clock, until};
use crate::workload::pods::facts;
use crate::workload::template;
use crate::workload::words::{is_ending, is_taken, name, words_of};
use decide::{Plan, Wish, decide};
use sets::{REVISION, Set, set_of};

/// The controller's name.
pub(crate) const NAME: &str = "deployment-controller";

/// How many are worked on at once.
const WORKERS: usize = 16;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let gone = Predicate::new(|delta: &Delta<Pod>| matches!(delta, Delta::Deleted { .. }));
    manager
        .controller::<Deployment, _>(Deployments { clock: options.clock })
        .named(NAME)
        .reporting_as(NAME)
        .claims::<ReplicaSet>(|deployment: &Deployment| {
            template::selector(&deployment.spec.as_ref()?.selector)
        })
        .source(Source::watch_related(Watch::new().when(gone), waiting_for))
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// The Deployment that may wait for this pod to be gone before it makes others.
fn waiting_for(pod: &Cached<Pod>, caches: &Caches) -> Vec<ObjectKey> {
    let above = |meta: &ObjectMeta| {
        let owner = owner::controller_of(meta)?;
        let namespace = pod.namespace().to_owned();
        Some(ObjectKey {
            namespace,
            name: owner.name.clone(),
        })
    };
    let found = || {
        let set = caches.store::<ReplicaSet>()?.get(&above(&pod.meta().ok()?)?)?;
        let key = above(&set.meta().ok()?)?;
        let deployment = caches.store::<Deployment>()?.get(&key)?;
        let strategy = deployment.text(["spec", "strategy", "type"])?;
        (strategy == "Recreate").then_some(key)
    };
    found().into_iter().collect()
}

struct Deployments {
    clock: Clock,
}

impl Reconcile<Deployment> for Deployments {
    async fn reconcile(&self, turn: &mut Turn<Deployment>) -> Result<Next> {
        let Some(deployment) = turn.latest() else {
            return Ok(Next::Done);
        };
        let Some(spec) = &deployment.spec else {
            return Ok(Next::Done);
        };
        let selector = template::selector(&spec.selector).unwrap_or_default();
        if selector.is_empty() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            turn.event(Note::warning("SelectingAll", "Select", message));
            let mut status = deployment.status.clone().unwrap_or_default();
            status.observed_generation = deployment.metadata.generation;
            turn.put_status(deployment.status.as_ref(), &status)?;
            return Ok(Next::Done);
        }
        let cached = turn.claim_cached::<ReplicaSet>(&selector).await?;
        let sets: Vec<Set> = cached.iter().map(|set| (*set_of(set)).clone()).collect();
        let now = self.clock.now();
        let wish = Wish::of(&deployment, spec);
        let running = |uid: &str| has_running_pods(turn, uid);
        let plan = decide(&wish, sets, running, now);
        self.carry_out(turn, &deployment, plan, &cached).await
    }
}

/// Whether a ReplicaSet has pods that have not ended.
fn has_running_pods(turn: &Turn<Deployment>, uid: &str) -> bool {
    let pods = turn.store::<Pod>().map(|pods| pods.owned_by(uid));
    let pods = pods.unwrap_or_default();
    pods.iter().any(|pod| !facts(pod).has_ended())
}

impl Deployments {
    async fn carry_out(
        &self,
        turn: &mut Turn<Deployment>,
        deployment: &Deployment,
        plan: Plan,
        cached: &[Cached<ReplicaSet>],
    ) -> Result<Next> {
        let mut plan = plan;
        if let Some(new) = plan.sets.iter().find(|set| set.place.is_none()).cloned()
            && let Some(next) = self.create(turn, deployment, &mut plan, &new).await?
        {
            return Ok(next);
        }
        let mut patches = Vec::new();
        let mut scaled = Vec::new();
        for set in &plan.sets {
            let Some(cached) = set.place.and_then(|place| cached.get(place)) else {
                continue;
            };
            let before = set_of(cached);
            let mut patch = json!({});
            if set.replicas != before.replicas {
                patch["spec"]["replicas"] = set.replicas.into();
                scaled.push((set.name.clone(), before.replicas, set.replicas));
            }
            if set.min_ready_seconds != before.min_ready_seconds {
                patch["spec"]["minReadySeconds"] = set.min_ready_seconds.into();
            }
            for (key, value) in &set.annotations {
                if before.annotations.get(key) != Some(value) {
                    patch["metadata"]["annotations"][key] = value.clone().into();
                }
            }
            if patch != json!({}) {
                patches.push((cached.clone(), patch));
            }
        }
        let written = turn.merge_all::<ReplicaSet>(patches).await;
        for (name, from, to) in scaled {
            if written.done.iter().any(|set| set.name_any() == *name) {
                let way = if from < to { "up" } else { "down" };
                let message = format!("Scaled {way} replica set {name} from {from} to {to}");
                turn.event(Note::normal("ScalingReplicaSet", "Scale", message));
            }
        }
        let surplus: Vec<_> = plan
            .surplus
            .iter()
            .filter_map(|at| cached.get(*at).cloned())
            .collect();
        let deleted = turn.delete_all(&surplus).await;
        if let Some(revision) = &plan.revision
            && deployment.annotations().get(REVISION) != Some(revision)
        {
            turn.annotate_with_status(REVISION, revision);
        }
        turn.put_status(deployment.status.as_ref(), &plan.status)?;
        written.failure?;
        deleted.failure?;
        if let Some(rollback) = plan.rollback {
            let set = rollback.place.and_then(|place| cached.get(place));
            let set = set.map(Cached::decode).transpose()?;
            turn.merge_latest(rollback::patch(deployment, set.as_deref()))
                .await?;
            turn.event(rollback.note);
        }
        Ok(match plan.look_again {
            Some(then) => Next::After(until(then, self.clock.now())),
            None => Next::Done,
        })
    }

    /// Makes the ReplicaSet of a new template. What it returns ends the turn.
    async fn create(
        &self,
        turn: &mut Turn<Deployment>,
        deployment: &Deployment,
        plan: &mut Plan,
        new: &Set,
    ) -> Result<Option<Next>> {
        let Some(set) = replica_set(deployment, new) else {
            return Ok(Some(Next::Done));
        };
        let error = match turn.create(&set).await {
            Ok(_) => {
                if new.replicas > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {}", new.name, new.replicas);
                    turn.event(Note::normal("ScalingReplicaSet", "Scale", message));
                }
                return Ok(None);
            }
            Err(error) => error,
        };
        let mut status = deployment.status.clone().unwrap_or_default();
        if is_taken(&error) {
            // It is this Deployment's own, and its watch is late; or another template has the same name.
            let key = ObjectKey {
                namespace: deployment.namespace().unwrap_or_default(),
                name: new.name.to_string(),
            };
            let there = turn.store::<ReplicaSet>()?.get(&key);
            let Some(there) = there else {
                return Ok(Some(Next::Again));
            };
            if there.belonging().controller.as_deref() == deployment.metadata.uid.as_deref()
                && set_of(&there).fingerprint == new.fingerprint
            {
                return Ok(Some(Next::Again));
            }
            status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            turn.put_status(deployment.status.as_ref(), &status)?;
            return Ok(Some(Next::Again));
        }
        if is_ending(&error) {
            return Err(Error::terminal(error));
        }
        let message = format!(
            "Failed to create new replica set \"{}\": {}",
            new.name,
            words_of(&error)
        );
        turn.event(Note::warning("ReplicaSetCreateError", "Create", message.clone()));
        plan.tell_failure(&mut status, message, self.clock.now());
        turn.put_status(deployment.status.as_ref(), &status)?;
        Err(error)
    }
}

/// The ReplicaSet to be made.
fn replica_set(deployment: &Deployment, new: &Set) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(template::HASH.to_owned(), new.hash.to_string());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    let match_labels = selector.match_labels.get_or_insert_default();
    match_labels.insert(template::HASH.to_owned(), new.hash.to_string());
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(new.name.to_string()),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(new.annotations.clone()),
            owner_references: Some(vec![template::owner_of(deployment)?]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(new.replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// The name of the ReplicaSet of a template: as long as names may be at most.
fn set_name(deployment: &ObjectMeta, hash: &str) -> String {
    const MOST: usize = 253;
    template::named(name(deployment), MOST - 1 - hash.len(), hash)
}

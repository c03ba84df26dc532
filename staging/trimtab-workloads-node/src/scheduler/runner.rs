//! Runs the scheduler: one decision after the other, each carried out while the next is made.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::informer::SharedInformer;
use trimtab_client_cache::store::Store;
use trimtab_client_coordination::events::{EventWriter, Note};
use trimtab_client_workqueue::WorkQueue;

use super::handlers::{Seats, listen};
use super::preempt::{Budget, Preemption, preempt};
use super::refusal::{Part, Parts};
use super::schedule::{Request, schedule};
use super::state::State;
use super::terms::Selector;
use super::volumes::{self, Binding, SELECTED_NODE};
use crate::clock::{Clock, seconds};
use crate::kubelet::runner::selection;
use crate::notes::Notes;
use crate::pool::{Outcome, workers};
use crate::requests::{RequestError, change, change_status, patiently, post};
use crate::set::{Context, Invalid};

/// In whose name the scheduler writes.
const SCHEDULER: &str = "kube-scheduler";
/// How many pods are bound at once.
const AT_ONCE: usize = 32;
/// How long a pod waits for its claims' volumes. kube-scheduler's figure.
const FOR_VOLUMES: Duration = Duration::from_secs(600);

/// The scheduler, as those see it who tell it of changes.
pub(crate) struct Scheduler {
    client: Client,
    pub(super) names: Vec<String>,
    /// Lock order: this, then the queue's.
    pub(super) state: Mutex<State>,
    pub(super) queue: WorkQueue<ObjectKey>,
    pods: Store<Pod>,
    claims: SharedInformer<PersistentVolumeClaim>,
    budgets: SharedInformer<PodDisruptionBudget>,
    notes: Notes,
    clock: Clock,
    hands: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// The running scheduler.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) tasks: JoinSet<()>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) seats: Seats,
    pub(crate) events: EventWriter,
    /// What has been decided and is being carried out.
    pub(crate) tracker: TaskTracker,
    /// Ends the waits for volumes.
    pub(crate) stop: DropGuard,
}

/// Starts the scheduler.
pub(crate) fn start(context: &Context) -> Result<Running, Invalid> {
    let queue: WorkQueue<ObjectKey> = WorkQueue::builder().build()?;
    let (recorder, events) = EventWriter::start(context.client.clone(), SCHEDULER, "simulated-nodes");
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let informers = &context.informers;
    let scheduler = Arc::new(Scheduler {
        client: context.client.clone(),
        names: context.options.scheduler_names.clone(),
        state: Mutex::new(State::new(context.options.seed)),
        queue: queue.clone(),
        pods: informers.informer::<Pod>(selection()).store(),
        claims: informers.informer(selection()),
        budgets: informers.informer(selection()),
        notes: Notes::new(recorder),
        clock: context.clock,
        hands: Arc::new(Semaphore::new(AT_ONCE)),
        tracker: tracker.clone(),
        stop: stop.clone(),
    });
    let seats = listen(informers, &scheduler);
    let mut tasks = JoinSet::new();
    let (keys, synced, budgets) = (queue.clone(), seats.synced(), scheduler.budgets.clone());
    tasks.spawn(async move {
        for one in synced {
            one.wait().await;
        }
        let _stopped = budgets.synced().await;
        // One at a time, since each decision counts on the one before.
        let mut one = JoinSet::new();
        workers(&mut one, "scheduler", &keys, 1, move |key: ObjectKey| {
            let scheduler = scheduler.clone();
            async move { scheduler.turn(&key).await }
        });
        while one.join_next().await.is_some() {}
    });
    Ok(Running {
        tasks,
        queue,
        seats,
        events,
        tracker,
        stop: stop.drop_guard(),
    })
}

/// What a decision leads to.
enum Decision {
    Bind(String, Vec<Binding>),
    Wait {
        message: String,
        preemption: Option<Preemption>,
        nominated: Option<String>,
    },
}

impl Scheduler {
    async fn turn(self: &Arc<Self>, key: &ObjectKey) -> Outcome {
        let Some(cached) = self.pods.get(key) else {
            return Outcome::Done;
        };
        let Ok(pod) = cached.decode_once() else {
            return Outcome::Done;
        };
        let spec = pod.spec.as_ref();
        let has_node =
            spec.is_some_and(|spec| spec.node_name.as_deref().is_some_and(|name| !name.is_empty()));
        if has_node || pod.metadata.deletion_timestamp.is_some() {
            return Outcome::Done;
        }
        let hands = self.hands.clone().acquire_owned().await;
        let Some(decision) = self.decide(key, &pod) else {
            return Outcome::Done;
        };
        let scheduler = self.clone();
        // Decisions are made one after the other; carrying them out takes the server's time.
        self.tracker.spawn(async move {
            match decision {
                Decision::Bind(node, bindings) if bindings.is_empty() => {
                    scheduler.bind(&pod, &node, &bindings).await;
                }
                Decision::Bind(node, bindings) => {
                    // It may take minutes until volumes are there, for which nobody else waits.
                    drop(hands);
                    scheduler.bind(&pod, &node, &bindings).await;
                    return;
                }
                Decision::Wait {
                    message,
                    preemption,
                    nominated,
                } => scheduler.tell(&pod, message, preemption, nominated).await,
            }
            drop(hands);
        });
        Outcome::Done
    }

    /// Decides and takes what was decided for done.
    fn decide(&self, key: &ObjectKey, pod: &Pod) -> Option<Decision> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.assumed.contains_key(key) || state.snapshot.placed(key).is_some() {
            return None;
        }
        let wants = state.snapshot.wants(pod);
        let siblings = state.siblings(pod);
        let known = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.clone());
        let known = state
            .snapshot
            .nominated
            .get(key)
            .map(|(_, node)| node.to_string())
            .or(known);
        let request = Request {
            key,
            wants: &wants,
            siblings: siblings.as_ref(),
            nominated: known.as_deref(),
        };
        let nowhere = match schedule(request, &state.snapshot, &mut state.random) {
            Ok(choice) => {
                let node = state.snapshot.nodes[choice.node].name.to_string();
                state.snapshot.next = choice.next;
                state.snapshot.place(pod, &node);
                state.assumed.insert(key.clone(), pod.uid().unwrap_or_default());
                state.snapshot.nominated.remove(key);
                state.unpark(key);
                return Some(Decision::Bind(node, choice.bindings));
            }
            Err(nowhere) => *nowhere,
        };
        let mut why = nowhere.why.clone();
        let mut nominated = None;
        let mut preemption = None;
        if why.nodes > 0 {
            match preempt(request, &nowhere, &mut state.snapshot, &self.budgets()) {
                Ok(found) => {
                    nominated = Some(found.node.to_string());
                    let nomination = (wants.clone(), found.node.clone());
                    state.snapshot.nominated.insert(key.clone(), nomination);
                    preemption = Some(found);
                }
                Err(text) => {
                    // Whoever only has to wait for others to go keeps the node.
                    if text.starts_with("not eligible due to a terminating") {
                        nominated = known.clone();
                    } else {
                        state.snapshot.nominated.remove(key);
                    }
                    why.preemption = Some(text);
                }
            }
        }
        let parts = if preemption.is_some() || nominated.is_some() {
            why.parts.and(Part::Resources)
        } else {
            why.parts
        };
        let parts = if parts == Parts::default() {
            Parts::ALL
        } else {
            parts
        };
        state.park(key, parts, wants.priority, &self.queue);
        if !state.snapshot.nominated.contains_key(key) {
            state.snapshot.let_go(wants);
        }
        Some(Decision::Wait {
            message: why.to_string(),
            preemption,
            nominated,
        })
    }

    fn budgets(&self) -> Vec<Budget> {
        let all = self.budgets.store().list();
        let read = all.iter().filter_map(|cached| cached.decode_once().ok());
        read.map(|budget| {
            let status = budget.status.clone().unwrap_or_default();
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            Budget {
                namespace: budget.namespace().unwrap_or_default(),
                selector: Selector::of(selector),
                allowed: i64::from(status.disruptions_allowed.unwrap_or_default()),
                disrupted: status.disrupted_pods.unwrap_or_default().into_keys().collect(),
            }
        })
        .collect()
    }

    // === Carrying out ===

    async fn bind(&self, pod: &Pod, node: &str, bindings: &[Binding]) {
        let key = trimtab_client_cache::key_of(pod);
        match self.try_to_bind(pod, &key, node, bindings).await {
            Ok(()) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.note(pod, Note::normal("Scheduled", "Binding", message));
            }
            Err(why) => {
                if let Some(why) = why {
                    tracing::warn!(%key, node, why, "a pod was not bound");
                    let message = format!("binding rejected: {why}");
                    self.note(pod, Note::warning("FailedScheduling", "Scheduling", message));
                }
                let mut state = self.state.lock();
                let uid = pod.uid().unwrap_or_default();
                // Unless the watch has told of it by now.
                if state.assumed.get(&key) == Some(&uid) {
                    state.assumed.remove(&key);
                    state.snapshot.displace(&key);
                    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
                    state.park(&key, Parts::ALL, priority.unwrap_or_default(), &self.queue);
                    state.happened(Parts::ALL, &self.queue);
                }
            }
        }
    }

    /// `Err(None)`: there is nothing to be bound any more.
    async fn try_to_bind(
        &self,
        pod: &Pod,
        key: &ObjectKey,
        node: &str,
        bindings: &[Binding],
    ) -> Result<(), Option<String>> {
        let told = |error: RequestError| match error.code() {
            404 => None,
            _ => Some(error.to_string()),
        };
        for binding in bindings {
            self.prepare(binding, node).await.map_err(told)?;
        }
        let claims = bindings.iter().map(|binding| match binding {
            Binding::Provision(claim) | Binding::Bind(claim, _) => claim,
        });
        for claim in claims {
            self.await_volume(claim).await.map_err(Some)?;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let target = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid()},
            "target": {"kind": "Node", "name": node},
        });
        let params = post(SCHEDULER);
        let bound = api.create_subresource::<Value, Value>("binding", &key.name, &params, &target);
        patiently(bound).await.map(drop).map_err(told)
    }

    async fn prepare(&self, binding: &Binding, node: &str) -> Result<(), RequestError> {
        match binding {
            Binding::Provision(claim) => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
                let selected = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
                let changed = change(&api, &claim.name, SCHEDULER, Patch::Merge(selected)).await;
                changed.map(drop)
            }
            Binding::Bind(claim, volume) => {
                let of_claims: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &claim.namespace);
                let found = patiently(of_claims.get(&claim.name)).await?;
                let api: Api<PersistentVolume> = Api::all(self.client.clone());
                let reserved = json!({"spec": {"claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": claim.namespace,
                    "name": claim.name,
                    "uid": found.uid(),
                }}});
                let changed = change(&api, volume, SCHEDULER, Patch::Merge(reserved)).await;
                changed.map(drop)
            }
        }
    }

    /// Waits until the claim has its volume, which is others' work.
    async fn await_volume(&self, claim: &ObjectKey) -> Result<(), String> {
        let store = self.claims.store();
        // Of the cache, since the state may hear of it later.
        let bound = store.wait_for(claim, |cached| {
            let found = cached?.decode_once().ok()?;
            volumes::is_bound(&found).then_some(())
        });
        let waited = tokio::time::timeout(FOR_VOLUMES, bound);
        match self.stop.run_until_cancelled(waited).await {
            Some(Ok(_bound)) => Ok(()),
            Some(Err(_)) => Err(format!("timed out waiting for the volume of claim {claim}")),
            None => Err("the scheduler stops".to_owned()),
        }
    }

    /// Says why a pod has no node, and makes room for it if that is what was decided.
    async fn tell(
        &self,
        pod: &Pod,
        message: String,
        preemption: Option<Preemption>,
        nominated: Option<String>,
    ) {
        if let Some(preemption) = &preemption {
            for victim in &preemption.victims {
                if let Err(error) = self.evict(pod, victim).await {
                    tracing::warn!(victim = %victim.key, %error, "a pod could not be made to go");
                }
            }
        }
        self.note(
            pod,
            Note::warning("FailedScheduling", "Scheduling", message.clone()),
        );
        let status = pod.status.clone().unwrap_or_default();
        let before = status.conditions.iter().flatten();
        let before = before
            .into_iter()
            .find(|condition| condition.type_ == "PodScheduled");
        let same = before.is_some_and(|before| {
            before.status == "False"
                && before.reason.as_deref() == Some("Unschedulable")
                && before.message.as_deref() == Some(message.as_str())
        });
        if same && status.nominated_node_name == nominated {
            return;
        }
        let since = before
            .filter(|before| before.status == "False")
            .and_then(|before| before.last_transition_time.clone())
            .unwrap_or_else(|| seconds(self.clock.now()));
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": since,
            "observedGeneration": pod.metadata.generation,
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let status = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [condition], "nominatedNodeName": nominated},
        });
        let told = change_status(&api, &pod.name_any(), SCHEDULER, Patch::Strategic(status)).await;
        if let Err(error) = told.map_err(|error| (error.code(), error))
            && !matches!(error.0, 404 | 409)
        {
            tracing::warn!(pod = pod.name_any(), error = %error.1, "a pod was not told why it waits");
        }
    }

    async fn evict(&self, preemptor: &Pod, victim: &super::snapshot::Placed) -> Result<(), RequestError> {
        let key = &victim.key;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let by = self.names.first().map_or(SCHEDULER, String::as_str);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{by}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": seconds(self.clock.now()),
        });
        let status = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        match change_status(&api, &key.name, SCHEDULER, Patch::Strategic(status)).await {
            Err(error) if !matches!(error.code(), 404 | 409) => return Err(error),
            _ => {}
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match patiently(api.delete(&key.name, &params)).await {
            Err(error) if !matches!(error.code(), 404 | 409) => return Err(error),
            _ => {}
        }
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(victim.uid.clone()),
            ..ObjectReference::default()
        };
        let uid = preemptor.uid().unwrap_or_default();
        let message = format!("Preempted by pod {uid} on node {}", victim.node);
        self.notes
            .take(regarding, Note::normal("Preempted", "Preempting", message));
        Ok(())
    }

    fn note(&self, pod: &Pod, note: Note) {
        self.notes.take(pod.object_ref(&()), note);
    }
}

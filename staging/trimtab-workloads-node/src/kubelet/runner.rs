//! Runs the pods of all simulated nodes: one watch and one queue for all of them.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::cached::Cached;
use trimtab_client_cache::informer::{Registration, Selection};
use trimtab_client_cache::store::Store;
use trimtab_client_coordination::events::{EventWriter, Note};
use trimtab_client_workqueue::{Add, WorkQueue};

use super::fleet::Fleet;
use super::heartbeat::{Heart, is_wrong};
use super::lifecycle::{self, Host, Memory};
use super::staging::Player;
use super::{KUBELET, SILENT};
use crate::clock::Clock;
use crate::notes::Notes;
use crate::pool::{Outcome, workers};
use crate::requests::{RequestError, change_status, patiently};
use crate::set::{Context, Invalid};

/// How many pods are written at once.
const WORKERS: usize = 16;
/// The index of pods by node.
pub(crate) const BY_NODE: &str = "node";
const NODE_NAME: [&str; 2] = ["spec", "nodeName"];

/// The running kubelets.
#[derive(Debug)]
pub(crate) struct Kubelets {
    pub(crate) tasks: JoinSet<()>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    /// Nodes that go through stages.
    pub(crate) staged: WorkQueue<String>,
    pub(crate) pods: Registration<Pod>,
    pub(crate) nodes: Registration<Node>,
    pub(crate) events: EventWriter,
    /// Told when all nodes are registered.
    pub(crate) registered: oneshot::Receiver<()>,
}

/// What is remembered of a pod that has more to become.
#[derive(Debug, Default)]
struct Record {
    memory: Memory,
    /// The version that was written last: older ones are not looked at.
    written: u64,
}

struct Runner {
    client: Client,
    fleet: Arc<Fleet>,
    pods: Store<Pod>,
    records: Mutex<HashMap<String, Record>>,
    notes: Arc<Notes>,
    clock: Clock,
    player: Player,
    nodes: Store<Node>,
}

/// Starts the kubelets of all nodes.
pub(crate) fn start(context: &Context) -> Result<Kubelets, Invalid> {
    let queue: WorkQueue<ObjectKey> = WorkQueue::builder().build()?;
    let pods = context.informers.informer::<Pod>(selection());
    pods.store().add_index(by_node()).or_else(known_already)?;
    let nodes = context.informers.informer::<Node>(selection());
    let fleet = Arc::new(Fleet::default());
    let (recorder, events) = EventWriter::start(context.client.clone(), KUBELET, "simulated-nodes");
    let notes = Arc::new(Notes::new(recorder));
    let (stages, seed) = (context.options.stages.clone(), context.options.seed);
    let staged_nodes = stages.are_for("Node");
    let runner = Arc::new(Runner {
        client: context.client.clone(),
        fleet: fleet.clone(),
        pods: pods.store(),
        records: Mutex::default(),
        player: Player::new(stages, fleet.clone(), notes.clone(), context.clock, seed),
        notes,
        clock: context.clock,
        nodes: nodes.store(),
    });
    let heart = Heart {
        client: context.client.clone(),
        fleet: fleet.clone(),
        nodes: nodes.store(),
        options: context.options.clone(),
        clock: context.clock,
    };
    let (observer, keys) = (runner.clone(), queue.clone());
    let of_pods = pods.add_handler(move |delta| {
        let object = delta.object();
        let Some(node) = object.text(NODE_NAME) else {
            return;
        };
        if let trimtab_client_cache::Delta::Deleted { .. } = delta {
            observer.forget(&node, &object.uid());
        } else if observer.fleet.alive(&node).is_some() {
            let _refused_when_stopping = keys.add(delta.key().clone());
        }
    });
    let mut tasks = JoinSet::new();
    let (keys, of_fleet, on_nodes) = (queue.clone(), fleet, pods.store());
    let staged: WorkQueue<String> = WorkQueue::builder().build()?;
    let (names, observer) = (staged.clone(), runner.clone());
    // What nodes are told by annotations is done by a task of its own, so that the handler never waits.
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel::<String>();
    let of_nodes = nodes.add_handler(move |delta| {
        let name = &delta.key().name;
        if let trimtab_client_cache::Delta::Deleted { .. } = delta {
            of_fleet.remove(name);
            observer.player.forget(&delta.object().uid());
            return;
        }
        let object = delta.object();
        let silent = object.annotation(SILENT).is_some_and(|value| value != "false");
        let woken = of_fleet.silence(name, silent);
        if of_fleet.alive(name).is_none() {
            return;
        }
        if woken {
            let on_node = on_nodes.by_index(BY_NODE, name).unwrap_or_default();
            for pod in on_node {
                let _refused_when_stopping = keys.add(pod.key().clone());
            }
        }
        if staged_nodes {
            let _refused_when_stopping = names.add(name.clone());
        } else if woken || object.decode_once().is_ok_and(|node| is_wrong(&node)) {
            let _ended_when_stopping = report.send(name.clone());
        }
    });
    let (registered, is_registered) = oneshot::channel();
    let reporter = heart.clone();
    tasks.spawn(async move {
        while let Some(node) = reports.recv().await {
            if let Err(error) = reporter.report(&node).await {
                tracing::warn!(node, %error, "a node's status was not written");
            }
        }
    });
    // Nodes that are registered have their pods looked at, also those that were there before.
    let (told, enlisted) = oneshot::channel();
    tasks.spawn(heart.beat(told));
    let (keys, all, synced) = (queue.clone(), pods.store(), of_pods.sync_signal());
    let (names, of_all) = (staged.clone(), nodes.store());
    tasks.spawn(async move {
        let _ended_when_stopping = enlisted.await;
        synced.wait().await;
        let _refused_when_stopping =
            keys.add_all(all.list().iter().map(|pod| pod.key().clone()), &Add::now());
        if staged_nodes {
            let of_all = of_all.list();
            let _refused_when_stopping =
                names.add_all(of_all.iter().map(|node| node.name().to_owned()), &Add::now());
        }
        let _nobody_waits = registered.send(());
    });
    let player = runner.clone();
    workers(&mut tasks, "stages of nodes", &staged, 1, move |name: String| {
        let runner = player.clone();
        async move { runner.node_turn(&name).await }
    });
    workers(&mut tasks, "kubelets", &queue, WORKERS, move |key: ObjectKey| {
        let runner = runner.clone();
        async move { runner.turn(&key).await }
    });
    Ok(Kubelets {
        tasks,
        queue,
        staged,
        pods: of_pods,
        nodes: of_nodes,
        events,
        registered: is_registered,
    })
}

/// Which objects to watch: shared by all who watch pods and nodes here.
pub(crate) fn selection() -> Selection {
    Selection::all().without_bookkeeping()
}

pub(crate) fn by_node() -> trimtab_client_cache::index::Index<Pod> {
    trimtab_client_cache::index::Index::by_field(BY_NODE, NODE_NAME)
}

pub(crate) fn known_already(
    error: trimtab_client_cache::index::IndexError,
) -> Result<(), trimtab_client_cache::index::IndexError> {
    match error {
        trimtab_client_cache::index::IndexError::Exists(_) => Ok(()),
        other => Err(other),
    }
}

impl Runner {
    async fn turn(&self, key: &ObjectKey) -> Outcome {
        let Some(cached) = self.pods.get(key) else {
            return Outcome::Done;
        };
        let Some(node) = cached.text(NODE_NAME) else {
            return Outcome::Done;
        };
        let Some(seat) = self.fleet.alive(&node) else {
            return Outcome::Done;
        };
        if self.player.plays("Pod") {
            let api = Api::namespaced(self.client.clone(), &key.namespace);
            return self.player.turn::<Pod>(&api, &cached, &node, seat).await;
        }
        let uid = cached.uid().into_owned();
        let mut record = self.records.lock().remove(&uid).unwrap_or_default();
        if version(&cached) < record.written {
            // What was written last comes yet, and the pod with it.
            self.records.lock().insert(uid, record);
            return Outcome::Done;
        }
        let Ok(pod) = cached.decode_once() else {
            return Outcome::Done;
        };
        let ended = pod.status.as_ref().is_some_and(lifecycle::has_ended);
        let pod_address = self.address(&pod, &node, &uid, ended);
        let host = Host {
            address: seat.address,
            pod_address,
        };
        let step = lifecycle::step(&pod, host, &mut record.memory, self.clock.now());
        for (part, note) in step.notes {
            self.note(&pod, part, note);
        }
        let mut failed = None;
        if let Some(status) = &step.status {
            match self.write(key, &uid, status).await {
                Ok(written) => record.written = written.max(record.written),
                Err(error) => failed = Some(error),
            }
        }
        if step.gone && failed.is_none() {
            failed = self.delete(key, &uid).await.err();
        }
        let settled = step.status.is_none() && step.due.is_none();
        if !settled {
            self.records.lock().insert(uid.clone(), record);
            if self.pods.get(key).is_none_or(|now| now.uid() != uid) {
                self.forget(&node, &uid);
            }
        }
        match failed {
            Some(error) if error.code() == 404 => Outcome::Done,
            // Another pod of that name, or somebody was faster: what is now comes by itself.
            Some(error) if error.code() == 409 => Outcome::Retry,
            Some(error) => {
                tracing::warn!(%key, %error, "trying again");
                Outcome::Retry
            }
            None => step
                .due
                .map_or(Outcome::Done, |due| Outcome::After(self.clock.until(due))),
        }
    }

    /// Takes a node through its stages.
    async fn node_turn(&self, name: &str) -> Outcome {
        let found = self.nodes.get(&ObjectKey::cluster(name));
        let (Some(cached), Some(seat)) = (found, self.fleet.alive(name)) else {
            return Outcome::Done;
        };
        let api = Api::all(self.client.clone());
        self.player.turn::<Node>(&api, &cached, name, seat).await
    }

    /// The pod's own address, if it has or needs one.
    fn address(&self, pod: &Pod, node: &str, uid: &str, ended: bool) -> Option<Ipv4Addr> {
        if ended {
            self.fleet.release(node, uid);
            return None;
        }
        let spec = pod.spec.as_ref()?;
        if spec.host_network == Some(true) {
            return None;
        }
        let has = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let has = has.and_then(|address| address.parse().ok());
        let address = self.fleet.address(node, uid, has);
        if address.is_none() {
            tracing::warn!(node, "no address is left for a pod");
        }
        address
    }

    async fn write(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: &k8s_openapi::api::core::v1::PodStatus,
    ) -> Result<u64, RequestError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        // The UID makes sure that it is of this pod and not of one that has its name by now.
        let change = json!({"metadata": {"uid": uid}, "status": status});
        let pod = change_status(&api, &key.name, KUBELET, Patch::Merge(change)).await?;
        let version = pod.metadata.resource_version.unwrap_or_default();
        Ok(version.parse().unwrap_or_default())
    }

    async fn delete(&self, key: &ObjectKey, uid: &str) -> Result<(), RequestError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match patiently(api.delete(&key.name, &params)).await {
            // Its finalizers are somebody else's.
            Err(error) if matches!(error.code(), 404 | 409) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    fn note(&self, pod: &Pod, part: Option<String>, note: Note) {
        let regarding = ObjectReference {
            field_path: part,
            ..pod.object_ref(&())
        };
        self.notes.take(regarding, note);
    }

    fn forget(&self, node: &str, uid: &str) {
        self.records.lock().remove(uid);
        self.player.forget(uid);
        self.fleet.release(node, uid);
    }
}

fn version(cached: &Cached<Pod>) -> u64 {
    cached.resource_version().parse().unwrap_or_default()
}

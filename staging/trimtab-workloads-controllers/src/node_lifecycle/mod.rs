//! The controllers of nodes' lives: one says of nodes that are not heard of any more that nothing is known of them, and taints
//! them by their conditions; the other evicts the pods that do not tolerate it.

mod decide;
mod eviction;
mod zones;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Cached;
use trimtab_client_cache::index::Index;
use trimtab_client_cache::informer::Selection;
use trimtab_client_cache::store::Store;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::source::{Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use crate::live::patiently;
use crate::workload::clock::{Clock, later, until};
use crate::workload::pods::facts;
use decide::{Heard, say, taint};
use zones::{Zones, zone_of};

pub(crate) use decide::is_ready;
pub(crate) use eviction::{NAME as EVICTION, describe as describe_eviction};

/// The name of the controller that watches nodes.
pub(crate) const NAME: &str = "node-lifecycle-controller";

/// How many nodes are looked at at once. kube-controller-manager's figure.
const WORKERS: usize = 8;
/// Where nodes say that they live.
const LEASES: &str = "kube-node-lease";
/// How often a node that is not ready is looked at: whether it is given up depends on the others. kube-controller-manager's figure.
const PERIOD: Duration = Duration::from_secs(5);
/// The index of pods by their node.
const BY_NODE: &str = "node-of-pod";

/// Describes the controller that watches nodes.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    // Leases are renewed all the time: they are looked at when a node would be given up.
    let leases = Watch::<Lease>::new().selecting(Selection::in_namespace(LEASES));
    manager
        .controller::<Node, _>(Nodes {
            clock: options.clock,
            grace: options.node_monitor_grace,
            known: Mutex::default(),
            zones: Zones::default(),
        })
        .named(NAME)
        .reporting_as("node-controller")
        .source(Source::watch_cached(leases, |_| Vec::new()))
        .source(Source::watch_cached(Watch::<Pod>::new(), |_| Vec::new()))
        .writes::<Pod>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

struct Nodes {
    clock: Clock,
    /// How long a node may be silent.
    grace: Duration,
    known: Mutex<HashMap<String, Known>>,
    zones: Zones,
}

/// What is remembered of a node.
struct Known {
    uid: Option<String>,
    /// What it said last, and when that was heard: by this clock, since its own may differ.
    said: String,
    since: Timestamp,
}

impl Reconcile<Node> for Nodes {
    async fn reconcile(&self, turn: &mut Turn<Node>) -> Result<Next> {
        let name = turn.key().name.clone();
        let nodes = turn.store::<Node>()?;
        let decoded = || {
            nodes
                .list()
                .iter()
                .filter_map(|node| node.decode().ok())
                .collect()
        };
        self.zones.begin(decoded);
        let Some(node) = turn.latest() else {
            let known = self.known.lock().remove(&name);
            self.zones.forget(&name);
            if let Some(known) = known {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                let mut gone = Node::default();
                (gone.metadata.name, gone.metadata.uid) = (Some(name), known.uid);
                turn.event_on(&gone, Note::normal("RemovingNode", "Monitor", message));
            }
            return Ok(Next::Done);
        };
        let now = self.clock.now();
        let lease = turn.store::<Lease>()?.get(&ObjectKey {
            namespace: LEASES.to_owned(),
            name: name.clone(),
        });
        let (since, is_first) = self.heard_since(&node, lease.as_ref(), now);
        if is_first {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            turn.event(Note::normal("RegisteredNode", "Monitor", message));
        }
        let heard = match later(since, self.grace) <= now {
            true => Heard::Nothing,
            false => Heard::Lately,
        };
        let said = say(&node, heard, now);
        let zone = zone_of(&node);
        self.zones.learn(&name, &zone, said.ready);
        let evicts = |already| self.zones.evicts(&zone, already, now);
        if let Some(taints) = taint(&node, &said.conditions, evicts, now) {
            turn.merge_latest(json!({"spec": {"taints": taints}})).await?;
        }
        if said.is_new {
            let mut status = node.status.clone().unwrap_or_default();
            status.conditions = Some(said.conditions);
            turn.put_status(node.status.as_ref(), &status)?;
        }
        if said.lost {
            let message = format!("Node {name} status is now: NodeNotReady");
            turn.event(Note::normal("NodeNotReady", "Monitor", message));
        }
        if !said.ready {
            self.mark_pods(turn, &name, now).await?;
            return Ok(Next::After(PERIOD));
        }
        Ok(Next::After(until(later(since, self.grace), now)))
    }
}

impl Nodes {
    /// Since when the node has said nothing new, and whether this is the first that is heard of it.
    fn heard_since(&self, node: &Node, lease: Option<&Cached<Lease>>, now: Timestamp) -> (Timestamp, bool) {
        let renewed = lease.and_then(|lease| lease.text(["spec", "renewTime"]));
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut beats = conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition.type_ == "Ready");
        let beat = beats.next().and_then(|ready| ready.last_heartbeat_time.clone());
        let said = format!("{} {:?}", renewed.unwrap_or_default(), beat);
        let uid = node.metadata.uid.clone();
        let mut known = self.known.lock();
        match known.entry(node.metadata.name.clone().unwrap_or_default()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if known.said != said {
                    (known.said, known.since) = (said, now);
                }
                known.uid = uid;
                (known.since, false)
            }
            Entry::Vacant(unknown) => {
                let since = now;
                unknown.insert(Known { uid, said, since });
                (since, true)
            }
        }
    }

    /// Says of the pods of a node that is not ready that they are not, either.
    async fn mark_pods(&self, turn: &Turn<Node>, node: &str, now: Timestamp) -> Result<()> {
        for pod in on_node(&turn.store::<Pod>()?, node) {
            let seen = facts(&pod);
            if !seen.is_ready() || seen.deleting {
                continue;
            }
            let mut conditions: Vec<serde_json::Value> =
                pod.read(["status", "conditions"])?.unwrap_or_default();
            for condition in conditions
                .iter_mut()
                .filter(|condition| condition["type"] == "Ready")
            {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] =
                    json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
            let api: kube::Api<Pod> = kube::Api::namespaced(turn.client().clone(), pod.namespace());
            let patch = json!({"metadata": {"uid": pod.uid(), "resourceVersion": pod.resource_version()},
                "status": {"conditions": conditions}});
            let patch = kube::api::Patch::Merge(patch);
            match patiently(api.patch_status(pod.name(), &kube::api::PatchParams::default(), &patch)).await {
                Ok(_) => turn.event_on(
                    &*pod.decode()?,
                    Note::warning("NodeNotReady", "Monitor", "Node is not ready"),
                ),
                // It is gone, or has changed: the next look sees that.
                Err(error) if error.code() == 404 || error.is_conflict() => {}
                Err(error) => return Err(trimtab_controller_runtime::Error::other(error)),
            }
        }
        Ok(())
    }
}

/// The pods of a node.
fn on_node(pods: &Store<Pod>, node: &str) -> Vec<Cached<Pod>> {
    pods.by_index(BY_NODE, node).unwrap_or_else(|_| {
        // Who was faster has added the same one.
        let _added_or_there = pods.add_index(Index::by_field(BY_NODE, ["spec", "nodeName"]));
        pods.by_index(BY_NODE, node).unwrap_or_default()
    })
}

//! The collector of pods: those whose node is gone, those that go without ever having had one, and the oldest of too many that
//! have ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;
use serde_json::json;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Cached;
use trimtab_client_cache::store::Store;
use trimtab_controller_runtime::source::Source;
use trimtab_controller_runtime::{Keyed, Manager, Next, Reconcile, Result, Turn};

use crate::live::{LiveError, patiently};
use crate::workload::clock::{Clock, later};
use crate::workload::pods::{disruption_target, facts};

/// The controller's name.
pub(crate) const NAME: &str = "pod-garbage-collector-controller";

/// How often it looks. kube-controller-manager's figure.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be gone before its pods are. kube-controller-manager's figure.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How many pods that have ended are kept. kube-controller-manager's figure.
const KEPT: usize = 12_500;

type NodeMeta = PartialObjectMeta<Node>;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let tick = || async { Ok::<_, Infallible>(vec!["pods".to_owned()]) };
    manager
        .controller::<Keyed<String>, _>(Collector {
            clock: options.clock,
            missing: Mutex::default(),
        })
        .named(NAME)
        .watches::<Pod>(|_| Vec::new())
        .watches::<NodeMeta>(|_| Vec::new())
        .source(Source::every("time", PERIOD, tick))
        .start()
        .map(drop)
}

struct Collector {
    clock: Clock,
    /// Since when nodes are missing that pods name.
    missing: Mutex<HashMap<Box<str>, Timestamp>>,
}

/// Why a pod is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Its node is gone.
    Orphaned,
    /// It is being deleted and has no node that could end it.
    Unscheduled,
    /// It has ended, and so have too many others since.
    Ended,
}

impl Reconcile<Keyed<String>> for Collector {
    async fn reconcile(&self, turn: &mut Turn<Keyed<String>>) -> Result<Next> {
        let (pods, nodes) = (turn.store::<Pod>()?, turn.store::<NodeMeta>()?);
        for (pod, why) in self.found(&pods, &nodes, KEPT) {
            if let Err(error) = take(turn, &pod, why, self.clock.now()).await {
                tracing::warn!(pod = %pod.key(), %error, "a pod was not collected; trying again after the period");
            }
        }
        Ok(Next::Done)
    }
}

impl Collector {
    fn found(&self, pods: &Store<Pod>, nodes: &Store<NodeMeta>, kept: usize) -> Vec<(Cached<Pod>, Why)> {
        let now = self.clock.now();
        let (mut found, mut ended) = (Vec::new(), Vec::new());
        let mut missing = self.missing.lock();
        let mut still = HashMap::new();
        for pod in pods.list() {
            let seen = facts(&pod);
            if seen.node.is_empty() {
                if seen.deleting {
                    found.push((pod, Why::Unscheduled));
                } else if seen.has_ended() {
                    ended.push((seen.created, pod));
                }
                continue;
            }
            if nodes.get(&ObjectKey::cluster(&*seen.node)).is_none() {
                let since = missing.get(&seen.node).copied().unwrap_or(now);
                let over = later(since, QUARANTINE) <= now;
                // Those that come to the node after these wait as long again: who makes them is not to be driven.
                still.insert(seen.node.clone(), if over { now } else { since });
                if over {
                    found.push((pod, Why::Orphaned));
                    continue;
                }
            }
            if seen.has_ended() && !seen.deleting {
                ended.push((seen.created, pod));
            }
        }
        *missing = still;
        let surplus = ended.len().saturating_sub(kept);
        if surplus > 0 {
            ended.sort_by(|(a, x), (b, y)| (a, x.key()).cmp(&(b, y.key())));
            found.extend(ended.into_iter().take(surplus).map(|(_, pod)| (pod, Why::Ended)));
        }
        found
    }
}

/// Takes a pod at once, and says before that what became of it if nobody else can.
async fn take(
    turn: &Turn<Keyed<String>>,
    pod: &Cached<Pod>,
    why: Why,
    now: Timestamp,
) -> Result<(), LiveError> {
    let api: Api<Pod> = Api::namespaced(turn.client().clone(), pod.namespace());
    let uid = pod.uid().into_owned();
    if why == Why::Orphaned && !facts(pod).has_ended() {
        let generation = pod.meta().ok().and_then(|meta| meta.generation);
        let message = "PodGC: node no longer exists";
        let target = disruption_target(generation, "DeletionByPodGC", message, now);
        let status = json!({"phase": "Failed", "conditions": [target]});
        let patch = Patch::Strategic(json!({"metadata": {"uid": uid}, "status": status}));
        match patiently(api.patch_status(pod.name(), &PatchParams::default(), &patch)).await {
            Err(error) if is_another(&error) => return Ok(()),
            outcome => drop(outcome?),
        }
    }
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match patiently(api.delete(pod.name(), &params)).await {
        Err(error) if is_another(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Whether the pod is gone, or another one has its name by now.
fn is_another(error: &LiveError) -> bool {
    matches!(error.code(), 404 | 409)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use trimtab_client_cache::Form;
    use trimtab_client_cache::cached::Codec;
    use trimtab_client_cache::store::store;

    #[tokio::test(start_paused = true)]
    async fn pods_go_that_nobody_else_can_take() {
        let (pods, mut pod_writer) = store::<Pod>();
        let (nodes, mut node_writer) = store::<NodeMeta>();
        let mut codec = Codec::<Pod>::new(&(), Form::default());
        let mut put = |name: &str, node: Value, phase: &str, deleting: bool| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"},
                "spec": {"nodeName": node}, "status": {"phase": phase}});
            if deleting {
                pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            }
            let cached = codec.encode_json(pod.to_string().as_bytes()).expect("a pod");
            pod_writer.upsert(cached);
        };
        put("fine", json!("there"), "Running", false);
        put("going", json!("there"), "Running", true);
        put("orphaned", json!("gone"), "Running", false);
        put("unscheduled", Value::Null, "Pending", true);
        put("waiting", Value::Null, "Pending", false);
        put("ended-1", json!("there"), "Succeeded", false);
        put("ended-2", json!("there"), "Failed", false);
        let mut codec = Codec::<NodeMeta>::new(&(), Form::default());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "there", "uid": "n", "resourceVersion": "1"}});
        node_writer.upsert(codec.encode_json(node.to_string().as_bytes()).expect("a node"));
        let collector = Collector {
            clock: Clock::driven(Timestamp::UNIX_EPOCH),
            missing: Mutex::default(),
        };
        let found = |kept| -> Vec<(String, Why)> {
            let found = collector.found(&pods, &nodes, kept);
            found
                .into_iter()
                .map(|(pod, why)| (pod.name().to_owned(), why))
                .collect()
        };
        assert_eq!(found(2), [("unscheduled".to_owned(), Why::Unscheduled)]);
        tokio::time::advance(QUARANTINE).await;
        let expected = [
            ("orphaned".to_owned(), Why::Orphaned),
            ("unscheduled".to_owned(), Why::Unscheduled),
            ("ended-1".to_owned(), Why::Ended),
        ];
        assert_eq!(found(1), expected);
        // What is made in their place is not taken at once.
        assert_eq!(found(2), [("unscheduled".to_owned(), Why::Unscheduled)]);
        tokio::time::advance(QUARANTINE).await;
        assert_eq!(found(2)[0], ("orphaned".to_owned(), Why::Orphaned));
    }
}

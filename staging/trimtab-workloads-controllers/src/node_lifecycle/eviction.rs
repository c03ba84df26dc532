//! Evicts pods from nodes with taints that they do not tolerate, or not for ever.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Error, Keyed, Manager, Next, Reconcile, Result, Turn};

use super::on_node;
use crate::live::patiently;
use crate::workload::clock::{Clock, seconds_later, until};
use crate::workload::nodes::{Place, place_of, tolerates};
use crate::workload::pods::{disruption_target, facts};

/// The controller's name.
pub(crate) const NAME: &str = "taint-eviction-controller";

/// How many pods are looked at at once. kube-controller-manager's figure.
const WORKERS: usize = 8;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let moves = Predicate::new(|delta: &Delta<Pod>| match delta {
        Delta::Updated { old, new } => {
            facts(old).node != facts(new).node || !old.has_same(new, ["spec", "tolerations"])
        }
        Delta::Deleted { .. } => false,
        _ => true,
    });
    let changes = Predicate::new(|delta: &Delta<Node>| match delta {
        Delta::Updated { old, new } => {
            let (old, new) = (place_of(old), place_of(new));
            old.taints != new.taints && (drives_out(&old) || drives_out(&new))
        }
        delta => drives_out(&place_of(delta.object())),
    });
    manager
        .controller::<Keyed<ObjectKey>, _>(Evictions {
            clock: options.clock,
            since: Mutex::default(),
        })
        .named(NAME)
        .reporting_as(NAME)
        .source(Source::watch_related(Watch::new().when(moves), if_tainted))
        .source(Source::watch_related(Watch::new().when(changes), pods_of))
        .writes::<Pod>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// Whether pods have to leave the node, or some time.
fn drives_out(place: &Place) -> bool {
    place.taints.iter().any(|taint| taint.effect == "NoExecute")
}

/// A pod, if its node drives pods out.
fn if_tainted(pod: &Cached<Pod>, caches: &Caches) -> Vec<ObjectKey> {
    let node = facts(pod).node.clone();
    let nodes = caches.store::<Node>().filter(|_| !node.is_empty());
    let node = nodes.and_then(|nodes| nodes.get(&ObjectKey::cluster(&*node)));
    let tainted = node.is_some_and(|node| drives_out(&place_of(&node)));
    tainted.then(|| pod.key().clone()).into_iter().collect()
}

/// The pods of a node.
fn pods_of(node: &Cached<Node>, caches: &Caches) -> Vec<ObjectKey> {
    let pods = caches.store::<Pod>();
    let pods = pods.map(|pods| on_node(&pods, node.name())).unwrap_or_default();
    pods.iter().map(|pod| pod.key().clone()).collect()
}

struct Evictions {
    clock: Clock,
    /// Since when pods have had to leave that may stay for a while, where their taints do not say.
    since: Mutex<HashMap<ObjectKey, Timestamp>>,
}

/// When a pod has to leave. `None`: it may stay. `first` is since when it has had to, as far as taints do not say: people set
/// taints without times.
fn due(taints: &[Taint], tolerations: &[Toleration], first: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let mut due = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let mut fitting = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if fitting.peek().is_none() {
            return Some(now);
        }
        let since = taint.time_added.as_ref().map_or(first, |time| time.0);
        for seconds in fitting.filter_map(|toleration| toleration.toleration_seconds) {
            let then = seconds_later(since, seconds.max(0));
            due = Some(due.map_or(then, |soonest: Timestamp| soonest.min(then)));
        }
    }
    due
}

impl Reconcile<Keyed<ObjectKey>> for Evictions {
    async fn reconcile(&self, turn: &mut Turn<Keyed<ObjectKey>>) -> Result<Next> {
        let key = turn.key().clone();
        let first = self.since.lock().remove(&key);
        let Some(pod) = turn.store::<Pod>()?.get(&key) else {
            return Ok(Next::Done);
        };
        let seen = facts(&pod);
        let node = turn.store::<Node>()?.get(&ObjectKey::cluster(&*seen.node));
        let Some(node) = node.filter(|_| !seen.deleting) else {
            return Ok(Next::Done);
        };
        let now = self.clock.now();
        let tolerations: Option<Vec<Toleration>> = pod.read(["spec", "tolerations"])?;
        let since = first.unwrap_or(now);
        let due = due(
            &place_of(&node).taints,
            &tolerations.unwrap_or_default(),
            since,
            now,
        );
        let Some(due) = due else {
            if first.is_some() {
                let message = format!("Cancelling deletion of Pod {key}");
                let note = Note::normal("TaintManagerEviction", "Evict", message);
                turn.event_on(&*pod.decode()?, note);
            }
            return Ok(Next::Done);
        };
        if due > now {
            self.since.lock().insert(key, since);
            return Ok(Next::After(until(due, now)));
        }
        let message = format!("Marking for deletion Pod {}", pod.key());
        turn.event_on(
            &*pod.decode()?,
            Note::normal("TaintManagerEviction", "Evict", message),
        );
        let message = "Taint manager: deleting due to NoExecute taint";
        let target = disruption_target(pod.meta()?.generation, "DeletionByTaintManager", message, now);
        let patch =
            Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [target]}}));
        let api: Api<Pod> = Api::namespaced(turn.client().clone(), pod.namespace());
        match patiently(api.patch_status(pod.name(), &PatchParams::default(), &patch)).await {
            Err(error) if error.code() == 404 => return Ok(Next::Done),
            Err(error) => return Err(Error::other(error)),
            Ok(_) => {}
        }
        turn.delete_all(&[pod]).await.failure.map(|()| Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn pods_leave_when_they_tolerate_it_no_longer() {
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute", "timeAdded": at(100).to_string()});
        let forever = json!({"key": "a", "operator": "Exists"});
        let a_while = json!({"key": "a", "operator": "Exists", "tolerationSeconds": 300});
        let shorter = json!({"key": "b", "operator": "Exists", "tolerationSeconds": 60});
        #[rustfmt::skip]
        let cases = [
            (json!([]), json!([]), None),
            (json!([{"key": "a", "effect": "NoSchedule"}]), json!([]), None),
            (json!([taint("a")]), json!([]), Some(1000)),
            (json!([taint("a")]), json!([forever]), None),
            (json!([taint("a")]), json!([a_while]), Some(400)),
            (json!([taint("a"), taint("b")]), json!([a_while, shorter]), Some(160)),
            (json!([taint("a"), taint("b")]), json!([forever]), Some(1000)),
            (json!([{"key": "a", "effect": "NoExecute"}]), json!([a_while]), Some(1200)),
        ];
        for (taints, tolerations, expected) in cases {
            let parsed: Vec<Taint> = serde_json::from_value(taints.clone()).expect("taints");
            let tolerated: Vec<Toleration> =
                serde_json::from_value(tolerations.clone()).expect("tolerations");
            assert_eq!(
                due(&parsed, &tolerated, at(900), at(1000)),
                expected.map(at),
                "{taints} {tolerations}"
            );
        }
    }
}

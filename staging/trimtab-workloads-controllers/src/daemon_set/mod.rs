//! The controller of DaemonSets: a pod on every node that fits.

mod decide;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    PodTemplateSpec, Toleration,
};
use kube::ResourceExt;
use parking_lot::Mutex;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Cached;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::{Clock, later, until};
use crate::workload::history::{self, Settled, revision_of};
use crate::workload::nodes::{Place, place_of};
use crate::workload::pods::{Facts, REVISION, facts, next_available};
use crate::workload::template;
use crate::workload::words::{is_ending, name, tell_created, tell_deleted};
use decide::{Plan, Seen, decide};

/// The controller's name.
pub(crate) const NAME: &str = "daemonset-controller";

/// How many are worked on at once.
const WORKERS: usize = 8;
/// The wait before a failed pod is replaced again, doubled each time, and its limit. kube-controller-manager's figures.
const BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// How often the template was changed, in the days before revisions.
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let selector = |set: &DaemonSet| template::selector(&set.spec.as_ref()?.selector);
    // Nodes say all the time that they are well, which changes nothing here.
    let matters = Predicate::updates(|old: &Cached<Node>, new: &Cached<Node>| place_of(old) != place_of(new));
    manager
        .controller::<DaemonSet, _>(DaemonSets {
            clock: options.clock,
            failed: Mutex::default(),
        })
        .named(NAME)
        .reporting_as(NAME)
        .claims::<Pod>(selector)
        .claims::<ControllerRevision>(selector)
        .source(Source::watch_related(Watch::new().when(matters), all_sets))
        .workers(WORKERS)
        .start()
        .map(drop)
}

fn all_sets(_: &Cached<Node>, caches: &Caches) -> Vec<ObjectKey> {
    let sets = caches.store::<DaemonSet>().map(|sets| sets.list());
    sets.into_iter().flatten().map(|set| set.key().clone()).collect()
}

struct DaemonSets {
    clock: Clock,
    /// When a failed pod was replaced last on a node, and how long the wait after that is.
    failed: Mutex<Failed>,
}

impl Reconcile<DaemonSet> for DaemonSets {
    async fn reconcile(&self, turn: &mut Turn<DaemonSet>) -> Result<Next> {
        let Some(set) = turn.latest().filter(|_| !turn.is_deleting()) else {
            self.failed.lock().retain(|(key, _), _| key != turn.key());
            return Ok(Next::Done);
        };
        let Some(spec) = &set.spec else {
            return Ok(Next::Done);
        };
        let selector = template::selector(&spec.selector).unwrap_or_default();
        if selector.is_empty() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            turn.event(Note::warning("SelectingAll", "Select", message));
            return Ok(Next::Done);
        }
        let pods = turn.claim_cached::<Pod>(&selector).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let make = |number| revision(&set, spec, number, collisions);
        let settled = history::settle(turn, &selector, &spec.template, make).await?;
        let Settled::Known { all, newest } = settled else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions.unwrap_or_default() + 1);
            turn.put_status(set.status.as_ref(), &status)?;
            return Ok(Next::Again);
        };
        let nodes: Vec<Arc<Place>> = turn.store::<Node>()?.list().iter().map(place_of).collect();
        let made = pod_template(&set, spec, &newest.hash);
        let seen: Vec<_> = pods.iter().map(|pod| (target(pod), facts(pod))).collect();
        let seen: Vec<(Box<str>, &Facts)> = seen
            .iter()
            .map(|(node, facts)| (node.clone(), &**facts))
            .collect();
        let now = self.clock.now();
        let plan = {
            let known = Seen {
                spec,
                pod: &made.spec.clone().unwrap_or_default(),
                nodes: &nodes,
                pods: &seen,
                hash: &newest.hash,
                now,
            };
            let before = set.status.clone().unwrap_or_default();
            let mut failed = self.failed.lock();
            let may_replace = |node: &str| wait(&mut failed, (turn.key().clone(), node.into()), now);
            decide(&known, &before, set.metadata.generation, may_replace)
        };
        turn.put_status(set.status.as_ref(), &plan.status)?;
        let is_idle = plan.create.is_empty() && plan.delete.is_empty();
        let look_again = plan.look_again;
        self.carry_out(turn, &set, plan, &made, &pods).await?;
        if is_idle {
            let is_live = |revision: &history::Revision| {
                revision.name == newest.name || seen.iter().any(|(_, pod)| *pod.revision == *revision.hash)
            };
            let read: Vec<_> = all.iter().map(revision_of).collect();
            let surplus = history::surplus(&read, is_live, spec.revision_history_limit.unwrap_or(10));
            let surplus: Vec<_> = surplus.into_iter().map(|at| all[at].clone()).collect();
            turn.delete_all(&surplus).await.failure?;
        }
        let min_ready = spec.min_ready_seconds.unwrap_or_default();
        let available = next_available(seen.iter().map(|(_, pod)| *pod), min_ready, now);
        let next = available
            .filter(|_| min_ready > 0)
            .into_iter()
            .chain(look_again)
            .min();
        Ok(next.map_or(Next::Done, |next| Next::After(until(next, now))))
    }
}

impl DaemonSets {
    async fn carry_out(
        &self,
        turn: &mut Turn<DaemonSet>,
        set: &DaemonSet,
        plan: Plan,
        template: &PodTemplateSpec,
        pods: &[Cached<Pod>],
    ) -> Result<()> {
        for (failed, at, node) in plan.ended {
            let pod = pods[at].key();
            turn.event(match failed {
                true => {
                    let message =
                        format!("Found failed daemon pod {pod} on node {node}, will try to kill it");
                    Note::warning("FailedDaemonPod", "Delete", message)
                }
                false => {
                    let message =
                        format!("Found succeeded daemon pod {pod} on node {node}, will try to delete it");
                    Note::normal("SucceededDaemonPod", "Delete", message)
                }
            });
        }
        let meta = &set.metadata;
        let made = plan.create.iter().filter_map(|node| {
            let owner = template::owner_of(set)?;
            let mut pod = template::pod(name(meta), meta.namespace.as_deref(), template, owner);
            bind(pod.spec.get_or_insert_default(), node);
            Some(pod)
        });
        let written = turn.create_all::<Pod>(made.collect()).await;
        tell_created(turn, "pod", &written);
        let doomed: Vec<_> = plan.delete.into_iter().map(|at| pods[at].clone()).collect();
        let deleted = turn.delete_all(&doomed).await;
        tell_deleted(turn, &deleted);
        match written.failure {
            Err(error) if is_ending(&error) => {}
            outcome => outcome?,
        }
        deleted.failure
    }
}

/// By DaemonSet and node, when a failed pod was replaced, and how long to wait after that.
type Failed = HashMap<(ObjectKey, Box<str>), (Timestamp, Duration)>;

/// When a failed pod may be replaced; if that is now, takes note of it.
fn wait(failed: &mut Failed, key: (ObjectKey, Box<str>), now: Timestamp) -> Option<Timestamp> {
    let (since, delay) = failed.get(&key).copied().unwrap_or((now, Duration::ZERO));
    let due = later(since, delay);
    if due > now {
        return Some(due);
    }
    // Who was well for long begins anew.
    let forgotten = later(due, LONGEST_BACKOFF) < now;
    let next = if forgotten || delay.is_zero() {
        BACKOFF
    } else {
        (delay * 2).min(LONGEST_BACKOFF)
    };
    failed.insert(key, (now, next));
    None
}

/// The node that a pod is for, which it may not have yet.
fn target(pod: &Cached<Pod>) -> Box<str> {
    let facts = facts(pod);
    if !facts.node.is_empty() {
        return facts.node.clone();
    }
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let path = ["spec", "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"];
    let terms: Vec<NodeSelectorTerm> = pod.read(path).ok().flatten().unwrap_or_default();
    let mut fields = terms
        .into_iter()
        .flat_map(|term| term.match_fields.unwrap_or_default());
    let named = fields.find(|field| field.key == "metadata.name" && field.operator == "In");
    let values = named.and_then(|field| field.values).unwrap_or_default();
    values.into_iter().next().unwrap_or_default().into()
}

/// Has a pod go to this node, whatever else it requires: that was looked at.
fn bind(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
}

/// The template of the pods, which tolerate what happens to nodes.
fn pod_template(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    if let Some(generation) = set
        .annotations()
        .get(GENERATION)
        .filter(|text| text.parse::<i64>().is_ok())
    {
        labels.insert("pod-template-generation".to_owned(), generation.clone());
    }
    labels.insert(REVISION.to_owned(), hash.to_owned());
    let pod = template.spec.get_or_insert_default();
    let host_network = pod.host_network == Some(true);
    let tolerations = pod.tolerations.get_or_insert_default();
    let mut tolerate = |taint: &str, effect: &str| {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{taint}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        tolerations.retain(|other| (&other.key, &other.effect) != (&toleration.key, &toleration.effect));
        tolerations.push(toleration);
    };
    tolerate("not-ready", "NoExecute");
    tolerate("unreachable", "NoExecute");
    for pressure in [
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    ] {
        tolerate(pressure, "NoSchedule");
    }
    if host_network {
        tolerate("network-unavailable", "NoSchedule");
    }
    template
}

/// The revision of the set's template.
fn revision(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    number: i64,
    collisions: Option<i32>,
) -> Option<ControllerRevision> {
    let hash = template::hash(&spec.template, collisions);
    let name = format!("{}-{hash}", name(&set.metadata));
    let data = history::data(&spec.template);
    history::revision(set, &spec.template, number, name, (REVISION, hash), data)
}

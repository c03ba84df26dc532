//! Which nodes can take a pod: the demands of kube-scheduler's default profile, in its order, so that the first that is not met is
//! the one that is told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use trimtab_apimachinery_meta::ObjectKey;

use super::refusal::{Part, Reason, Refusal};
use super::snapshot::{Node, Snapshot};
use super::terms::{Labels, PodTerm, Taint};
use super::volumes::Needs;
use super::wants::{Spread, Wants};

/// The label by which a node is told from all others.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
const CORDON: &str = "node.kubernetes.io/unschedulable";

/// How many pods there are, by a label's name and its value on their nodes.
type Counts<'a> = HashMap<(&'a str, &'a str), usize>;

/// What has to be known of all nodes before one of them can be asked.
#[derive(Debug)]
pub(crate) struct Cycle<'a> {
    key: &'a ObjectKey,
    wants: &'a Wants,
    needs: Needs<'a>,
    spreads: Vec<Domains<'a>>,
    near: Counts<'a>,
    apart: Counts<'a>,
    /// Where pods are that do not want this one near.
    unwelcome: Counts<'a>,
}

/// How many pods a spread means, by the value of its label.
#[derive(Debug)]
struct Domains<'a> {
    spread: &'a Spread,
    counts: HashMap<&'a str, usize>,
    least: usize,
    itself: usize,
}

/// Remembers what was found out of pods that want the same.
#[derive(Debug, Default)]
pub(crate) struct Memo(RefCell<HashMap<*const Wants, bool>>);

impl Memo {
    pub(crate) fn get(&self, wants: &Arc<Wants>, find: impl FnOnce(&Wants) -> bool) -> bool {
        *self
            .0
            .borrow_mut()
            .entry(Arc::as_ptr(wants))
            .or_insert_with(|| find(wants))
    }
}

impl<'a> Cycle<'a> {
    /// Looks at all nodes for a pod.
    ///
    /// # Errors
    /// Why the pod cannot be on any node, whatever it is like.
    pub(crate) fn new(key: &'a ObjectKey, wants: &'a Wants, snapshot: &'a Snapshot) -> Result<Self, String> {
        let mut cycle = Self {
            key,
            wants,
            needs: snapshot.volumes.needs(wants)?,
            spreads: domains(wants, snapshot),
            near: Counts::new(),
            apart: Counts::new(),
            unwelcome: Counts::new(),
        };
        let own = !(wants.near.is_empty() && wants.apart.is_empty());
        if !own && snapshot.affine == 0 {
            return Ok(cycle);
        }
        let labels_of = |wants: &Wants| snapshot.namespaces.get(&wants.namespace);
        let near = Memo::default();
        let apart: Vec<Memo> = wants.apart.iter().map(|_| Memo::default()).collect();
        for node in &snapshot.nodes {
            for kind in &node.kinds {
                if !wants.near.is_empty()
                    && near.get(&kind.wants, |other| meant_by_all(&wants.near, other, snapshot))
                {
                    for term in &wants.near {
                        count(&mut cycle.near, node, &term.topology_key, kind.all);
                    }
                }
                for (term, memo) in wants.apart.iter().zip(&apart) {
                    if memo.get(&kind.wants, |other| means(term, other, snapshot)) {
                        count(&mut cycle.apart, node, &term.topology_key, kind.all);
                    }
                }
                for term in &kind.wants.apart {
                    if term.matches(&wants.namespace, labels_of(wants), &wants.labels) {
                        count(&mut cycle.unwelcome, node, &term.topology_key, kind.all);
                    }
                }
            }
        }
        Ok(cycle)
    }

    /// What the pod's claims demand.
    pub(crate) fn needs(&self) -> &Needs<'a> {
        &self.needs
    }

    /// Why the node does not take the pod; `None` if it does. The pods of higher importance that wait for the node count as if
    /// they were there.
    pub(crate) fn refuses(&self, node: &Node, snapshot: &Snapshot) -> Option<Refusal> {
        if snapshot.nominated.is_empty() {
            return self.refuses_as_it_is(node, snapshot);
        }
        let waiting = snapshot.nominated.iter().filter(|(key, (other, name))| {
            **name == *node.name && other.priority >= self.wants.priority && *key != self.key
        });
        let mut fuller = node.clone();
        let mut more = false;
        for (key, (wants, _)) in waiting {
            more = true;
            fuller.add(Arc::new(super::snapshot::Placed {
                key: key.clone(),
                uid: String::new(),
                wants: wants.clone(),
                node: node.name.clone(),
                started: i64::MAX,
                deleting: false,
                preempted: false,
            }));
        }
        if more && let Some(refusal) = self.refuses_as_it_is(&fuller, snapshot) {
            return Some(refusal);
        }
        self.refuses_as_it_is(node, snapshot)
    }

    fn refuses_as_it_is(&self, node: &Node, snapshot: &Snapshot) -> Option<Refusal> {
        let wants = self.wants;
        if node.cordoned && !tolerates(wants, &cordon()) {
            return Some(Refusal::final_one(
                Part::Unschedulable,
                "node(s) were unschedulable",
            ));
        }
        let hard = node.taints.iter().filter(|taint| taint.is_hard());
        if hard.into_iter().any(|taint| !tolerates(wants, taint)) {
            return Some(Refusal::final_one(
                Part::Taints,
                "node(s) had untolerated taint(s)",
            ));
        }
        if !wants.accepts(&node.name, &node.labels) {
            return Some(Refusal::final_one(
                Part::NodeAffinity,
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        if node.has_port_of(wants) {
            return Some(Refusal::passing(
                Part::Ports,
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        lacks(wants, node)
            .or_else(|| {
                let why = snapshot.volumes.refuses(&self.needs, node)?;
                Some(Refusal::final_one(Part::Volumes, why))
            })
            .or_else(|| self.spreads.iter().find_map(|domains| domains.refuse(node)))
            .or_else(|| self.affinity_refuses(node, snapshot))
    }

    fn affinity_refuses(&self, node: &Node, snapshot: &Snapshot) -> Option<Refusal> {
        let at = |counts: &Counts<'_>, key: &str| {
            let value = node.labels.get(key)?;
            counts.get(&(key, value.as_str())).copied()
        };
        let near = &self.wants.near;
        let reachable = near
            .iter()
            .all(|term| node.labels.contains_key(&term.topology_key));
        let found = near
            .iter()
            .all(|term| at(&self.near, &term.topology_key).is_some_and(|count| count > 0));
        // The first of a series that wants to be near itself may be anywhere.
        let is_first = || self.near.is_empty() && meant_by_all(near, self.wants, snapshot);
        if !near.is_empty() && !(reachable && (found || is_first())) {
            return Some(Refusal::final_one(
                Part::PodAffinity,
                "node(s) didn't match pod affinity rules",
            ));
        }
        let apart = self.wants.apart.iter();
        if apart
            .map(|term| at(&self.apart, &term.topology_key))
            .any(|count| count.is_some_and(|count| count > 0))
        {
            return Some(Refusal::passing(
                Part::PodAffinity,
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        let unwelcome = |((key, value), count): (&(&str, &str), &usize)| {
            *count > 0 && node.labels.get(*key).is_some_and(|own| own == value)
        };
        self.unwelcome.iter().any(unwelcome).then(|| {
            Refusal::passing(
                Part::PodAffinity,
                "node(s) didn't satisfy existing pods anti-affinity rules",
            )
        })
    }
}

fn cordon() -> Taint {
    Taint {
        key: CORDON.to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    }
}

pub(crate) fn tolerates(wants: &Wants, taint: &Taint) -> bool {
    wants
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(taint))
}

/// Whether a term means pods that want this.
pub(crate) fn means(term: &PodTerm, other: &Wants, snapshot: &Snapshot) -> bool {
    let namespace_labels = snapshot.namespaces.get(&other.namespace);
    term.matches(&other.namespace, namespace_labels, &other.labels)
}

fn meant_by_all(terms: &[PodTerm], other: &Wants, snapshot: &Snapshot) -> bool {
    terms.iter().all(|term| means(term, other, snapshot))
}

fn count<'a>(counts: &mut Counts<'a>, node: &'a Node, key: &'a str, more: usize) {
    if let Some(value) = node.labels.get(key) {
        *counts.entry((key, value.as_str())).or_default() += more;
    }
}

/// What the node has too little of.
fn lacks(wants: &Wants, node: &Node) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let count = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if count >= node.most_pods {
        reasons.push(Reason::Said("Too many pods"));
    }
    let (all, used, asked) = (&node.allocatable, &node.requested, &wants.requests);
    let mut need = |name: &str, asked: i64, all: i64, used: i64| {
        if asked > 0 && asked > all.saturating_sub(used) {
            reasons.push(Reason::Insufficient(name.to_owned()));
            resolvable &= asked <= all;
        }
    };
    need("cpu", asked.cpu, all.cpu, used.cpu);
    need("memory", asked.memory, all.memory, used.memory);
    need("ephemeral-storage", asked.disk, all.disk, used.disk);
    for (name, amount) in &asked.others {
        let of = |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(name).copied().unwrap_or(0);
        need(name, *amount, of(&all.others), of(&used.others));
    }
    (!reasons.is_empty()).then_some(Refusal {
        part: Part::Resources,
        reasons,
        resolvable,
    })
}

// === Domains ===

fn domains<'a>(wants: &'a Wants, snapshot: &'a Snapshot) -> Vec<Domains<'a>> {
    let hard: Vec<&Spread> = wants.spreads.iter().filter(|spread| spread.hard).collect();
    let has_all = |labels: &Labels| {
        hard.iter()
            .all(|spread| labels.contains_key(&spread.topology_key))
    };
    let of = |spread: &'a Spread| {
        let memo = Memo::default();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for node in snapshot.nodes.iter().filter(|node| has_all(&node.labels)) {
            if !spread.includes(wants, node) {
                continue;
            }
            let value = node.labels[&spread.topology_key].as_str();
            *counts.entry(value).or_default() += spread.count(wants, node, &memo);
        }
        let fewest = counts.values().copied().min().unwrap_or_default();
        let least = if counts.len() < spread.min_domains {
            0
        } else {
            fewest
        };
        let selector = spread.selector.as_ref();
        let itself = selector.is_some_and(|selector| selector.matches(&wants.labels));
        Domains {
            spread,
            counts,
            least,
            itself: usize::from(itself),
        }
    };
    hard.iter().copied().map(of).collect()
}

impl Domains<'_> {
    fn refuse(&self, node: &Node) -> Option<Refusal> {
        let Some(value) = node.labels.get(&self.spread.topology_key) else {
            return Some(Refusal::final_one(
                Part::Spread,
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ));
        };
        let here = self.counts.get(value.as_str()).copied().unwrap_or_default();
        let allowed = usize::try_from(self.spread.max_skew).unwrap_or_default();
        ((here + self.itself).saturating_sub(self.least) > allowed).then(|| {
            Refusal::passing(
                Part::Spread,
                "node(s) didn't match pod topology spread constraints",
            )
        })
    }
}

impl Spread {
    /// Whether the node counts at all.
    pub(crate) fn includes(&self, wants: &Wants, node: &Node) -> bool {
        let affine = !self.honour_affinity || wants.accepts(&node.name, &node.labels);
        let mut hard = node.taints.iter().filter(|taint| taint.is_hard());
        affine && (!self.honour_taints || hard.all(|taint| tolerates(wants, taint)))
    }

    /// How many of the node's pods are meant.
    pub(crate) fn count(&self, wants: &Wants, node: &Node, memo: &Memo) -> usize {
        let Some(selector) = self.selector.as_ref().filter(|selector| !selector.is_empty()) else {
            return 0;
        };
        let meant = node.kinds.iter().filter(|kind| {
            memo.get(&kind.wants, |other| {
                other.namespace == wants.namespace && selector.matches(&other.labels)
            })
        });
        meant.map(|kind| kind.staying).sum()
    }
}

//! Making room: which pods of lower priority have to go for a pod to have a place. No I/O; the snapshot is as before afterwards.

use std::cmp::Reverse;
use std::sync::Arc;

use trimtab_apimachinery_meta::ObjectKey;

use super::filter::Cycle;
use super::refusal::Unschedulable;
use super::schedule::{Nowhere, Request};
use super::snapshot::{Placed, Snapshot};
use super::terms::Selector;

/// How many candidates are enough: a tenth of the nodes, and not fewer than these. kube-scheduler's figures.
const ENOUGH: usize = 100;
const ONE_IN: usize = 10;

/// A disruption budget, as far as it counts here.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) namespace: String,
    pub(crate) selector: Option<Selector>,
    pub(crate) allowed: i64,
    /// Pods that are counted already.
    pub(crate) disrupted: Vec<String>,
}

/// Who has to go, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Preemption {
    pub(crate) node: Arc<str>,
    pub(crate) victims: Vec<Arc<Placed>>,
}

struct Candidate {
    node: usize,
    victims: Vec<Arc<Placed>>,
    violations: usize,
}

/// Finds the node where making room does the least harm.
///
/// # Errors
/// Why room cannot be made, as it is told; the nomination stays if it is only not the time.
pub(crate) fn preempt(
    request: Request<'_>,
    nowhere: &Nowhere,
    snapshot: &mut Snapshot,
    budgets: &[Budget],
) -> Result<Preemption, String> {
    if request.wants.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = request.nominated.and_then(|name| snapshot.index(name));
    if let Some(at) = nominated.filter(|at| nowhere.crowded.contains(at)) {
        let leaving = |pod: &Arc<Placed>| pod.preempted && pod.wants.priority < request.wants.priority;
        if snapshot.nodes[at].pods.iter().any(leaving) {
            return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
        }
    }
    let enough = (snapshot.nodes.len() / ONE_IN).max(ENOUGH);
    let mut candidates = Vec::new();
    let mut why = Unschedulable {
        nodes: snapshot.nodes.len(),
        ..Unschedulable::default()
    };
    let mut unharmed = false;
    for &node in &nowhere.crowded {
        match victims(request, node, snapshot, budgets) {
            Ok((victims, violations)) => {
                unharmed |= violations == 0;
                candidates.push(Candidate {
                    node,
                    victims,
                    violations,
                });
            }
            Err(reasons) => reasons.into_iter().for_each(|reason| why.count(reason)),
        }
        if unharmed && candidates.len() >= enough {
            break;
        }
    }
    let best = candidates.into_iter().min_by_key(Candidate::harm);
    let Some(best) = best else {
        for _ in nowhere.crowded.len()..snapshot.nodes.len() {
            why.count("Preemption is not helpful for scheduling".to_owned());
        }
        return Err(why.to_string());
    };
    Ok(Preemption {
        node: snapshot.nodes[best.node].name.clone(),
        victims: best.victims,
    })
}

impl Candidate {
    /// The less, the better: budgets that are violated, the highest priority, all priorities together, how many pods, and how
    /// long they have been running.
    fn harm(&self) -> (usize, i32, i64, usize, Reverse<i64>) {
        let highest = self.victims.first().map_or(i32::MIN, |pod| pod.wants.priority);
        let raised = |pod: &Arc<Placed>| i64::from(pod.wants.priority) + i64::from(i32::MAX) + 1;
        let most_important = self.victims.iter().filter(|pod| pod.wants.priority == highest);
        let earliest = most_important.map(|pod| pod.started).min();
        (
            self.violations,
            highest,
            self.victims.iter().map(raised).sum(),
            self.victims.len(),
            Reverse(earliest.unwrap_or(i64::MIN)),
        )
    }
}

/// Who has to go from this node, the most important first, and how many budgets that violates; or why it would not help.
fn victims(
    request: Request<'_>,
    at: usize,
    snapshot: &mut Snapshot,
    budgets: &[Budget],
) -> Result<(Vec<Arc<Placed>>, usize), Vec<String>> {
    let before = snapshot.nodes[at].clone();
    let lower = |pod: &&Arc<Placed>| pod.wants.priority < request.wants.priority;
    let mut lesser: Vec<Arc<Placed>> = before.pods.iter().filter(lower).cloned().collect();
    if lesser.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    for pod in &lesser {
        snapshot.nodes[at].remove(&pod.key);
    }
    let refused = refused(request, at, snapshot);
    if let Some(reasons) = refused {
        snapshot.nodes[at] = before;
        return Err(reasons);
    }
    lesser.sort_by_key(|pod| (Reverse(pod.wants.priority), pod.started));
    let (violating, others) = split(&lesser, budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    let reprieves = violating
        .iter()
        .map(|pod| (pod, true))
        .chain(others.iter().map(|pod| (pod, false)));
    for (pod, violates) in reprieves {
        snapshot.nodes[at].add(pod.clone());
        if self::refused(request, at, snapshot).is_some() {
            snapshot.nodes[at].remove(&pod.key);
            victims.push(pod.clone());
            violations += usize::from(violates);
        }
    }
    snapshot.nodes[at] = before;
    victims.sort_by_key(|pod| (Reverse(pod.wants.priority), pod.started));
    Ok((victims, violations))
}

fn refused(request: Request<'_>, at: usize, snapshot: &Snapshot) -> Option<Vec<String>> {
    match Cycle::new(request.key, request.wants, snapshot) {
        Ok(cycle) => {
            let refusal = cycle.refuses(&snapshot.nodes[at], snapshot)?;
            Some(refusal.reasons.iter().map(ToString::to_string).collect())
        }
        Err(why) => Some(vec![why]),
    }
}

/// Those whose end violates a budget, and the others, each in the order given.
fn split(pods: &[Arc<Placed>], budgets: &[Budget]) -> (Vec<Arc<Placed>>, Vec<Arc<Placed>>) {
    let mut allowed: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    let violates = |pod: &&Arc<Placed>| {
        let mut violated = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            if budget.covers(&pod.key, &pod.wants.labels) {
                *allowed -= 1;
                violated |= *allowed < 0;
            }
        }
        violated
    };
    let (violating, others): (Vec<_>, Vec<_>) = pods.iter().partition(violates);
    let owned = |pods: Vec<&Arc<Placed>>| pods.into_iter().cloned().collect();
    (owned(violating), owned(others))
}

impl Budget {
    fn covers(&self, key: &ObjectKey, labels: &super::terms::Labels) -> bool {
        let selector = self.selector.as_ref().filter(|selector| !selector.is_empty());
        self.namespace == key.namespace
            && !labels.is_empty()
            && selector.is_some_and(|selector| selector.matches(labels))
            && !self.disrupted.contains(&key.name)
    }
}

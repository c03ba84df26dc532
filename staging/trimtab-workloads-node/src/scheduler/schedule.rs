//! The decision: a pod and the snapshot in, a node or the reasons against each out. No I/O.

use trimtab_apimachinery_meta::ObjectKey;

use super::filter::Cycle;
use super::refusal::{Parts, Unschedulable};
use super::score::scores;
use super::snapshot::{Node, Snapshot};
use super::terms::Selector;
use super::volumes::Binding;
use super::wants::Wants;

/// How many nodes are found at least before the best is chosen. kube-scheduler's figure, as are those below.
const FEW: usize = 100;
/// Which part of many nodes is looked for, in percent: this less one for each 125 nodes.
const PART: usize = 50;
const LEAST_PART: usize = 5;

/// A pod that is to get a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) wants: &'a Wants,
    /// The pods that it is one of, if a Service or an owner says so.
    pub(crate) siblings: Option<&'a Selector>,
    /// The node on which others were deleted for it.
    pub(crate) nominated: Option<&'a str>,
}

/// Where the pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The node's number in the snapshot.
    pub(crate) node: usize,
    /// What is to be done about the pod's claims before.
    pub(crate) bindings: Vec<Binding>,
    /// Where the next search begins.
    pub(crate) next: usize,
}

/// Why the pod goes nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nowhere {
    pub(crate) why: Unschedulable,
    /// The nodes that might take the pod if others made room.
    pub(crate) crowded: Vec<usize>,
}

/// Finds the best node for a pod. Of equal ones chance decides, by `random`.
pub(crate) fn schedule(
    request: Request<'_>,
    snapshot: &Snapshot,
    random: &mut fastrand::Rng,
) -> Result<Choice, Box<Nowhere>> {
    let count = snapshot.nodes.len();
    let mut nowhere = Nowhere::default();
    nowhere.why.nodes = count;
    let cycle = match Cycle::new(request.key, request.wants, snapshot) {
        Ok(cycle) => cycle,
        Err(why) => {
            nowhere.why.beforehand = Some(why);
            nowhere.why.parts = Parts::of(&[super::refusal::Part::Volumes]);
            return Err(Box::new(nowhere));
        }
    };
    let choose = |node: usize, next: usize| Choice {
        node,
        bindings: snapshot
            .volumes
            .bindings(cycle.needs(), &snapshot.nodes[node])
            .unwrap_or_default(),
        next,
    };
    let nominated = request.nominated.and_then(|name| snapshot.index(name));
    if let Some(at) = nominated
        && cycle.refuses(&snapshot.nodes[at], snapshot).is_none()
    {
        return Ok(choose(at, snapshot.next));
    }
    let wanted = enough(count);
    let mut found = Vec::new();
    let mut asked = 0;
    while asked < count && found.len() < wanted {
        let at = (snapshot.next + asked) % count;
        asked += 1;
        match cycle.refuses(&snapshot.nodes[at], snapshot) {
            None => found.push(at),
            Some(refusal) => {
                nowhere.why.parts = nowhere.why.parts.and(refusal.part);
                for reason in &refusal.reasons {
                    nowhere.why.count(reason.to_string());
                }
                if refusal.resolvable {
                    nowhere.crowded.push(at);
                }
            }
        }
    }
    let next = if count == 0 {
        0
    } else {
        (snapshot.next + asked) % count
    };
    match found[..] {
        [] => {
            if count == 0 {
                nowhere.why.parts = Parts::ALL;
            }
            Err(Box::new(nowhere))
        }
        [only] => Ok(choose(only, next)),
        _ => {
            let nodes: Vec<&Node> = found.iter().map(|at| &snapshot.nodes[*at]).collect();
            let scores = scores(request.wants, request.siblings, &nodes, snapshot);
            let best = scores.iter().copied().max().unwrap_or_default();
            let equal: Vec<usize> = found
                .iter()
                .zip(&scores)
                .filter(|(_, score)| **score == best)
                .map(|(at, _)| *at)
                .collect();
            let at = equal[random.usize(..equal.len())];
            Ok(choose(at, next))
        }
    }
}

/// How many nodes that can take a pod are enough to choose from.
fn enough(count: usize) -> usize {
    if count < FEW {
        return count;
    }
    let part = PART.saturating_sub(count / 125).max(LEAST_PART);
    (count * part / 100).max(FEW)
}

#[cfg(test)]
mod tests;

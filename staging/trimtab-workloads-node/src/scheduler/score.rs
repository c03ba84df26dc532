//! Which of the nodes that can take a pod is the best: kube-scheduler's default scores and weights.

use std::collections::HashMap;

use super::filter::{HOSTNAME, Memo, means};
use super::snapshot::{Node, Snapshot};
use super::terms::Selector;
use super::wants::{Spread, Wants};

/// The best score there is.
const MOST: i64 = 100;
const ZONE: &str = "topology.kubernetes.io/zone";
/// What a pod counts for that demands to be near this one.
const HARD_WEIGHT: i64 = 1;

/// The weights of the default profile.
const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;

/// The scores of `nodes`, which can take the pod. `siblings` are the pods that the pod is one of, if anything says so.
pub(crate) fn scores(
    wants: &Wants,
    siblings: Option<&Selector>,
    nodes: &[&Node],
    snapshot: &Snapshot,
) -> Vec<i64> {
    let mut totals: Vec<i64> = nodes
        .iter()
        .map(|node| room(wants, node) + balance(wants, node))
        .collect();
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    if nodes
        .iter()
        .any(|node| node.taints.iter().any(|taint| !taint.is_hard()))
    {
        let scores = nodes.iter().map(|node| resented(wants, node)).collect();
        add(TAINTS, normalized(scores, true));
    }
    if !wants.node_preferences.is_empty() {
        let scores = nodes.iter().map(|node| preference(wants, node)).collect();
        add(NODE_AFFINITY, normalized(scores, false));
    }
    if let Some(scores) = spread(wants, siblings, nodes, snapshot) {
        add(SPREAD, scores);
    }
    if let Some(scores) = company(wants, nodes, snapshot) {
        add(POD_AFFINITY, scores);
    }
    totals
}

/// How much is left of processors and memory.
fn room(wants: &Wants, node: &Node) -> i64 {
    let left = |asked: i64, used: i64, all: i64| match all {
        0 => None,
        all if used + asked > all => Some(0),
        all => Some((all - used - asked) * MOST / all),
    };
    average([
        left(wants.usual.0, node.usual.0, node.allocatable.cpu),
        left(wants.usual.1, node.usual.1, node.allocatable.memory),
    ])
}

fn average(scores: [Option<i64>; 2]) -> i64 {
    let there: Vec<i64> = scores.into_iter().flatten().collect();
    let count = i64::try_from(there.len()).unwrap_or(1).max(1);
    there.iter().sum::<i64>() / count
}

/// Whether the pod makes the use of processors and memory more even, or less.
fn balance(wants: &Wants, node: &Node) -> i64 {
    if wants.asks_for_nothing() {
        return 0;
    }
    let evenness = |cpu: i64, memory: i64| {
        let part = |used: i64, all: i64| (all != 0).then(|| (real(used) / real(all)).min(1.0));
        let deviation = match (
            part(cpu, node.allocatable.cpu),
            part(memory, node.allocatable.memory),
        ) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            _ => 0.0,
        };
        whole((1.0 - deviation) * 100.0)
    };
    let used = &node.requested;
    let with = evenness(used.cpu + wants.requests.cpu, used.memory + wants.requests.memory);
    let without = evenness(used.cpu, used.memory);
    MOST / 2 + (MOST / 2 + with - without) / 2
}

#[allow(clippy::cast_precision_loss)] // beyond 2^53 it is rounded, and parts of a hundred are wanted
fn real(amount: impl TryInto<i64>) -> f64 {
    amount.try_into().unwrap_or(i64::MAX) as f64
}

#[allow(clippy::cast_possible_truncation)] // what is beyond is cut
fn whole(score: f64) -> i64 {
    score as i64
}

/// How many taints ask the pod to stay away.
fn resented(wants: &Wants, node: &Node) -> i64 {
    let about: Vec<_> = wants
        .tolerations
        .iter()
        .filter(|toleration| toleration.is_about_preferences())
        .collect();
    let soft = node
        .taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule");
    let resented = soft.filter(|taint| !about.iter().any(|toleration| toleration.tolerates(taint)));
    i64::try_from(resented.count()).unwrap_or(i64::MAX)
}

fn preference(wants: &Wants, node: &Node) -> i64 {
    let met = wants
        .node_preferences
        .iter()
        .filter(|(_, term)| term.matches(&node.name, &node.labels));
    met.map(|(weight, _)| i64::from(*weight)).sum()
}

/// From nothing to the most, or the other way round.
fn normalized(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or_default();
    let scale = |score: i64| match (most, reverse) {
        (0, true) => MOST,
        (0, false) => score,
        (_, true) => MOST - MOST * score / most,
        (_, false) => MOST * score / most,
    };
    scores.into_iter().map(scale).collect()
}

// === Spreading ===

fn spread(
    wants: &Wants,
    siblings: Option<&Selector>,
    nodes: &[&Node],
    snapshot: &Snapshot,
) -> Option<Vec<i64>> {
    let said = !wants.spreads.is_empty();
    let usual = |key: &str, max_skew: i32| Spread {
        max_skew,
        topology_key: key.to_owned(),
        selector: siblings.cloned(),
        min_domains: 1,
        hard: false,
        honour_affinity: true,
        honour_taints: false,
    };
    let spreads: Vec<Spread> = if said {
        wants
            .spreads
            .iter()
            .filter(|spread| !spread.hard)
            .cloned()
            .collect()
    } else if siblings.is_some_and(|siblings| !siblings.is_empty()) {
        vec![usual(HOSTNAME, 3), usual(ZONE, 5)]
    } else {
        Vec::new()
    };
    if spreads.is_empty() {
        return None;
    }
    let has_all = |node: &Node| {
        spreads
            .iter()
            .all(|spread| node.labels.contains_key(&spread.topology_key))
    };
    let ignored: Vec<bool> = nodes.iter().map(|node| said && !has_all(node)).collect();
    let mut scores = vec![0.0; nodes.len()];
    for spread in &spreads {
        let memo = Memo::default();
        let key = spread.topology_key.as_str();
        let per_node = key == HOSTNAME;
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let candidates = || nodes.iter().zip(&ignored).filter(|(_, ignored)| !**ignored);
        if !per_node {
            for (node, _) in candidates() {
                counts.insert(node.labels.get(key).map_or("", String::as_str), 0);
            }
            for node in &snapshot.nodes {
                if (said && !has_all(node)) || !spread.includes(wants, node) {
                    continue;
                }
                let value = node.labels.get(key).map_or("", String::as_str);
                if let Some(count) = counts.get_mut(value) {
                    *count += spread.count(wants, node, &memo);
                }
            }
        }
        let domains = if per_node {
            candidates().count()
        } else {
            counts.len()
        };
        let weight = real(domains + 2).ln();
        for ((node, ignored), score) in nodes.iter().zip(&ignored).zip(&mut scores) {
            let Some(value) = node.labels.get(key).filter(|_| !ignored) else {
                continue;
            };
            let count = match per_node {
                true => spread.count(wants, node, &memo),
                false => counts.get(value.as_str()).copied().unwrap_or_default(),
            };
            *score += real(count) * weight + f64::from(spread.max_skew - 1);
        }
    }
    let scores: Vec<Option<i64>> = scores
        .iter()
        .zip(&ignored)
        .map(|(score, ignored)| (!ignored).then(|| whole(score.round())))
        .collect();
    let there = || scores.iter().flatten().copied();
    let (least, most) = (
        there().min().unwrap_or_default(),
        there().max().unwrap_or_default(),
    );
    let scale = |score: &Option<i64>| match score {
        None => 0,
        Some(_) if most == 0 => MOST,
        Some(score) => MOST * (most + least - score) / most,
    };
    Some(scores.iter().map(scale).collect())
}

// === Company ===

/// How much the pod likes the pods that are near each node, and they it.
fn company(wants: &Wants, nodes: &[&Node], snapshot: &Snapshot) -> Option<Vec<i64>> {
    let own = &wants.pod_preferences;
    if own.is_empty() && snapshot.affine == 0 {
        return None;
    }
    let mut liked: HashMap<(&str, &str), i64> = HashMap::new();
    let memos: Vec<Memo> = own.iter().map(|_| Memo::default()).collect();
    for node in &snapshot.nodes {
        for kind in &node.kinds {
            if own.is_empty() && !kind.wants.has_affinity() {
                continue;
            }
            let count = i64::try_from(kind.all).unwrap_or(i64::MAX);
            for ((weight, term), memo) in own.iter().zip(&memos) {
                if memo.get(&kind.wants, |other| means(term, other, snapshot)) {
                    like(&mut liked, node, &term.topology_key, i64::from(*weight) * count);
                }
            }
            for term in &kind.wants.near {
                if means(term, wants, snapshot) {
                    like(&mut liked, node, &term.topology_key, HARD_WEIGHT * count);
                }
            }
            for (weight, term) in &kind.wants.pod_preferences {
                if means(term, wants, snapshot) {
                    like(&mut liked, node, &term.topology_key, i64::from(*weight) * count);
                }
            }
        }
    }
    if liked.is_empty() {
        return None;
    }
    let score = |node: &&Node| -> i64 {
        let here = liked
            .iter()
            .filter(|((key, value), _)| node.labels.get(*key).is_some_and(|own| own == value));
        here.map(|(_, score)| score).sum()
    };
    let scores: Vec<i64> = nodes.iter().map(score).collect();
    let (least, most) = (
        scores.iter().copied().min().unwrap_or_default(),
        scores.iter().copied().max().unwrap_or_default(),
    );
    let scale = |score: i64| match most - least {
        0 => 0,
        range => whole(100.0 * (real(score - least) / real(range))),
    };
    Some(scores.into_iter().map(scale).collect())
}

fn like<'a>(liked: &mut HashMap<(&'a str, &'a str), i64>, node: &'a Node, key: &'a str, score: i64) {
    if let Some((key, value)) = node.labels.get_key_value(key) {
        *liked.entry((key.as_str(), value.as_str())).or_default() += score;
    }
}

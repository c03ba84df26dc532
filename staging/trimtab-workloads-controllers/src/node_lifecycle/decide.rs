//! What is said of a node, and how it is tainted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Whether a node was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Lately,
    Nothing,
}

/// What is said of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) conditions: Vec<NodeCondition>,
    /// Whether the conditions are others than it has.
    pub(super) is_new: bool,
    /// Whether the node is ready.
    pub(super) ready: bool,
    /// Whether it was until now.
    pub(super) lost: bool,
}

/// The taints that are this controller's, by what follows `node.kubernetes.io/`.
const PREFIX: &str = "node.kubernetes.io/";
const BY_CONDITION: [(&str, &str); 4] = [
    ("MemoryPressure", "memory-pressure"),
    ("DiskPressure", "disk-pressure"),
    ("PIDPressure", "pid-pressure"),
    ("NetworkUnavailable", "network-unavailable"),
];
/// Those of a node that is not ready: it says so, or it says nothing.
const BY_HEALTH: [&str; 2] = ["not-ready", "unreachable"];

/// What is to be said of the node.
pub(super) fn say(node: &Node, heard: Heard, now: Timestamp) -> Said {
    let before = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut conditions = before.clone();
    let was_ready = is_ready(&before);
    if heard == Heard::Nothing && status_of(&before, "Ready") != Some("Unknown") {
        for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            forget(&mut conditions, type_, now);
        }
    }
    let ready = is_ready(&conditions);
    Said {
        is_new: conditions != before,
        conditions,
        ready,
        lost: was_ready && !ready,
    }
}

/// The node's taints, if they are to be others. `evicts` says whether the pods of one that is not ready are to be evicted, by
/// whether they are already.
pub(super) fn taint(
    node: &Node,
    conditions: &[NodeCondition],
    evicts: impl FnOnce(bool) -> bool,
    now: Timestamp,
) -> Option<Vec<Taint>> {
    let there = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let taints = taints(&there, node, conditions, evicts, now);
    (taints != there).then_some(taints)
}

/// Whether conditions say that a node is ready.
pub(crate) fn is_ready(conditions: &[NodeCondition]) -> bool {
    status_of(conditions, "Ready") == Some("True")
}

fn status_of<'a>(conditions: &'a [NodeCondition], type_: &str) -> Option<&'a str> {
    let mut found = conditions.iter().filter(|condition| condition.type_ == type_);
    found.next().map(|condition| &*condition.status)
}

/// Says of a condition that it is not known any more.
fn forget(conditions: &mut Vec<NodeCondition>, type_: &str, now: Timestamp) {
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(condition) if condition.status == "Unknown" => {}
        Some(condition) => {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
            condition.message = Some("Kubelet stopped posting node status.".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
        None => conditions.push(NodeCondition {
            type_: type_.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusNeverUpdated".to_owned()),
            message: Some("Kubelet never posted node status.".to_owned()),
            last_transition_time: Some(Time(now)),
            last_heartbeat_time: None,
        }),
    }
}

/// The taints that follow from conditions, after those that are others'. Those that are there stay as they are.
fn taints(
    there: &[Taint],
    node: &Node,
    conditions: &[NodeCondition],
    evicts: impl FnOnce(bool) -> bool,
    now: Timestamp,
) -> Vec<Taint> {
    let health = |taint: &&Taint| {
        let name = taint.key.strip_prefix(PREFIX);
        name.is_some_and(|name| BY_HEALTH.contains(&name))
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let not_ready = match status_of(conditions, "Ready") {
        Some("True") => None,
        Some("False") => Some(BY_HEALTH[0]),
        Some(_) => Some(BY_HEALTH[1]),
        // It has just come, and tells of itself in a moment.
        None => {
            let kept = there
                .iter()
                .filter(|taint| taint.key == "node.kubernetes.io/not-ready");
            wanted.extend(kept.map(|taint| (BY_HEALTH[0], &*taint.effect)));
            None
        }
    };
    if let Some(name) = not_ready {
        wanted.push((name, "NoSchedule"));
        if evicts(
            there
                .iter()
                .filter(health)
                .any(|taint| taint.effect == "NoExecute"),
        ) {
            wanted.push((name, "NoExecute"));
        }
    }
    for (type_, taint) in BY_CONDITION {
        if status_of(conditions, type_) == Some("True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if node
        .spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true))
    {
        wanted.push(("unschedulable", "NoSchedule"));
    }
    let is_ours = |taint: &Taint| {
        let Some(name) = taint.key.strip_prefix(PREFIX) else {
            return false;
        };
        let by_condition = BY_CONDITION.iter().any(|(_, known)| *known == name) || name == "unschedulable";
        let by_health = BY_HEALTH.contains(&name);
        (by_condition && taint.effect == "NoSchedule") || (by_health && taint.effect != "PreferNoSchedule")
    };
    let is_wanted = |taint: &Taint| {
        let name = taint.key.strip_prefix(PREFIX).unwrap_or_default();
        wanted.contains(&(name, &*taint.effect))
    };
    let mut taints: Vec<Taint> = there
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (name, effect) in wanted {
        let key = format!("{PREFIX}{name}");
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key,
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn node(conditions: Value, spec: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}),
        )
        .expect("a node")
    }

    fn words(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key.trim_start_matches(PREFIX), taint.effect))
            .collect()
    }

    #[test]
    fn nodes_are_tainted_by_what_they_say_or_do_not() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let tainted = json!({"taints": [{"key": "own", "effect": "NoExecute"}, {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]});
        type Case<'a> = (&'a str, Value, Value, Heard, bool, &'a [&'a str]);
        #[rustfmt::skip]
        let cases: Vec<Case<'_>> = vec![
            ("well", ready.clone(), json!({}), Heard::Lately, true, &[]),
            ("closed", ready.clone(), json!({"unschedulable": true}), Heard::Lately, true, &["unschedulable:NoSchedule"]),
            ("well again", ready.clone(), tainted.clone(), Heard::Lately, true, &["own:NoExecute"]),
            ("not ready", json!([{"type": "Ready", "status": "False"}]), json!({}), Heard::Lately, true, &["not-ready:NoSchedule", "not-ready:NoExecute"]),
            ("silent", ready.clone(), json!({}), Heard::Nothing, true, &["unreachable:NoSchedule", "unreachable:NoExecute"]),
            ("silent, as too many are", ready.clone(), tainted.clone(), Heard::Nothing, false, &["own:NoExecute", "unreachable:NoSchedule"]),
            ("full", json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]), json!({}), Heard::Lately, true, &["disk-pressure:NoSchedule"]),
            ("new", json!([]), tainted, Heard::Lately, false, &["own:NoExecute", "not-ready:NoExecute"]),
        ];
        for (why, conditions, spec, heard, evicts, expected) in cases {
            let node = node(conditions, spec);
            let said = say(&node, heard, at(1000));
            let taints = taint(&node, &said.conditions, |_| evicts, at(1000));
            let there = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
            assert_eq!(words(&taints.clone().unwrap_or(there)), expected, "{why}");
            // What is done is done.
            let mut after = node.clone();
            if let (Some(spec), Some(taints)) = (&mut after.spec, taints) {
                spec.taints = Some(taints);
            }
            if let Some(status) = &mut after.status {
                status.conditions = Some(said.conditions);
            }
            let again = say(&after, heard, at(1001));
            let taints = taint(&after, &again.conditions, |_| evicts, at(1001));
            assert_eq!((taints, again.is_new, again.lost), (None, false, false), "{why}");
        }
        let lost = say(&node(ready, json!({})), Heard::Nothing, at(1000));
        let conditions = lost.conditions;
        assert!(lost.lost && !lost.ready);
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(conditions.len(), 4);
    }
}

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

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The conditions, if they are to be others.
    pub(super) conditions: Option<Vec<NodeCondition>>,
    /// The taints, if they are to be others.
    pub(super) taints: Option<Vec<Taint>>,
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

/// Decides.
pub(super) fn decide(node: &Node, heard: Heard, now: Timestamp) -> Plan {
    let before = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut conditions = before.clone();
    let was_ready = status_of(&before, "Ready") == Some("True");
    if heard == Heard::Nothing && status_of(&before, "Ready") != Some("Unknown") {
        for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            forget(&mut conditions, type_, now);
        }
    }
    let taints = taints(node, &conditions, now);
    let ready = status_of(&conditions, "Ready") == Some("True");
    let there = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    Plan {
        conditions: (conditions != before).then_some(conditions),
        taints: (taints != there).then_some(taints),
        ready,
        lost: was_ready && !ready,
    }
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
fn taints(node: &Node, conditions: &[NodeCondition], now: Timestamp) -> Vec<Taint> {
    let spec = node.spec.as_ref();
    let there = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match status_of(conditions, "Ready") {
        Some("True") => {}
        Some("False") => wanted.extend([("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]),
        Some(_) => wanted.extend([("unreachable", "NoSchedule"), ("unreachable", "NoExecute")]),
        // It has just come, and tells of itself in a moment.
        None => wanted.extend(
            there
                .iter()
                .filter(|taint| taint.key == "node.kubernetes.io/not-ready")
                .map(|taint| {
                    (
                        "not-ready",
                        if taint.effect == "NoExecute" {
                            "NoExecute"
                        } else {
                            "NoSchedule"
                        },
                    )
                }),
        ),
    }
    for (type_, taint) in BY_CONDITION {
        if status_of(conditions, type_) == Some("True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push(("unschedulable", "NoSchedule"));
    }
    let is_ours = |taint: &Taint| {
        let Some(name) = taint.key.strip_prefix(PREFIX) else {
            return false;
        };
        let by_condition = BY_CONDITION.iter().any(|(_, known)| *known == name) || name == "unschedulable";
        let by_health = matches!(name, "not-ready" | "unreachable");
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
        #[rustfmt::skip]
        let cases: Vec<(&str, Value, Value, Heard, &[&str])> = vec![
            ("well", ready.clone(), json!({}), Heard::Lately, &[]),
            ("closed", ready.clone(), json!({"unschedulable": true}), Heard::Lately, &["unschedulable:NoSchedule"]),
            ("well again", ready.clone(), tainted.clone(), Heard::Lately, &["own:NoExecute"]),
            ("not ready", json!([{"type": "Ready", "status": "False"}]), json!({}), Heard::Lately, &["not-ready:NoSchedule", "not-ready:NoExecute"]),
            ("silent", ready.clone(), json!({}), Heard::Nothing, &["unreachable:NoSchedule", "unreachable:NoExecute"]),
            ("full", json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]), json!({}), Heard::Lately, &["disk-pressure:NoSchedule"]),
            ("new", json!([]), tainted, Heard::Lately, &["own:NoExecute", "not-ready:NoExecute"]),
        ];
        for (why, conditions, spec, heard, expected) in cases {
            let node = node(conditions, spec);
            let plan = decide(&node, heard, at(1000));
            let there = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
            assert_eq!(words(&plan.taints.clone().unwrap_or(there)), expected, "{why}");
            // What is done is done.
            let mut after = node.clone();
            if let (Some(spec), Some(taints)) = (&mut after.spec, plan.taints) {
                spec.taints = Some(taints);
            }
            if let (Some(status), Some(conditions)) = (&mut after.status, plan.conditions) {
                status.conditions = Some(conditions);
            }
            let again = decide(&after, heard, at(1001));
            assert_eq!(
                (again.taints, again.conditions, again.lost),
                (None, None, false),
                "{why}"
            );
        }
        let lost = decide(&node(ready, json!({})), Heard::Nothing, at(1000));
        let conditions = lost.conditions.unwrap_or_default();
        assert!(lost.lost && !lost.ready);
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(conditions.len(), 4);
    }
}

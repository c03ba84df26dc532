//! Autoscalers in the form of autoscaling/v1: CPU in two fields, and all that v2 has beyond in annotations.

use serde_json::{Map, Value, json};

use super::{DEFAULT_UTILIZATION, cpu_metric};
use crate::strategies::checks::{default_to, is_empty, items, object, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// All annotations that stand for fields of v2; the last two are of a time before the behavior had them.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// A field of a metric: its path in v2 and its name in v1.
type Field = (&'static [&'static str], &'static str);

/// For each source what its fields in a spec are called. A type of target follows from what is given.
const SPECS: [(&str, &[Field]); 5] = [
    (
        "resource",
        &[
            (&["name"], "name"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            (&["name"], "name"),
            (&["container"], "container"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "averageValue"),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
];

/// The same for what is observed.
const STATUSES: [(&str, &[Field]); 5] = [
    (
        "resource",
        &[
            (&["name"], "name"),
            (&["current", "averageUtilization"], "currentAverageUtilization"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            (&["name"], "name"),
            (&["container"], "container"),
            (&["current", "averageUtilization"], "currentAverageUtilization"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
    (
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["current", "value"], "currentValue"),
            (&["current", "averageValue"], "averageValue"),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["current", "value"], "currentValue"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
];

pub(super) fn default_status(scaler: &mut Value) {
    let status = object(scaler, "status");
    default_to(status, "currentReplicas", 0);
    default_to(status, "desiredReplicas", 0);
}

pub(super) fn default(scaler: &mut Value) {
    default_status(scaler);
    let metrics = annotated(scaler, METRICS);
    let spec = object(scaler, "spec");
    default_to(spec, "minReplicas", 1);
    if is_empty(&metrics) {
        default_to(spec, "targetCPUUtilizationPercentage", DEFAULT_UTILIZATION);
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

/// What an annotation holds; null when there is none, or it makes no sense.
fn annotated(scaler: &Value, annotation: &str) -> Value {
    let text = text(&scaler["metadata"]["annotations"][annotation]);
    serde_json::from_str(text).unwrap_or_default()
}

/// An autoscaler of v1 as v2 has it.
pub(crate) fn to_v2(scaler: &Value) -> Value {
    let mut new = scaler.clone();
    new["apiVersion"] = "autoscaling/v2".into();
    drop_annotations(&mut new);
    let mut metrics = other_way(&annotated(scaler, METRICS), &SPECS, true);
    let spec = object(&mut new, "spec");
    if let Some(cpu) = taken(spec, "targetCPUUtilizationPercentage").as_i64() {
        metrics.push(cpu_metric(cpu));
    }
    if metrics.is_empty() {
        metrics.push(cpu_metric(DEFAULT_UTILIZATION));
    }
    spec["metrics"] = metrics.into();
    let behavior = recased(&annotated(scaler, BEHAVIOR), char::to_ascii_lowercase);
    if !is_empty(&behavior) {
        spec["behavior"] = behavior;
    }
    let status = object(&mut new, "status");
    let mut current = other_way(&annotated(scaler, CURRENT_METRICS), &STATUSES, false);
    if let Some(cpu) = taken(status, "currentCPUUtilizationPercentage").as_i64()
        && current.is_empty()
    {
        current.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": cpu}}}));
    }
    status["currentMetrics"] = if current.is_empty() {
        Value::Null
    } else {
        current.into()
    };
    if status["currentReplicas"] == 0 {
        taken(status, "currentReplicas");
    }
    let conditions = annotated(scaler, CONDITIONS);
    if !is_empty(&conditions) {
        status["conditions"] = conditions;
    }
    new
}

/// An autoscaler of v2 as v1 has it.
pub(crate) fn from_v2(scaler: Value) -> Value {
    let mut new = scaler;
    drop_annotations(&mut new);
    let spec = object(&mut new, "spec");
    let (metrics, behavior) = (taken(spec, "metrics"), taken(spec, "behavior"));
    let (cpu, others): (Vec<&Value>, Vec<&Value>) = items(&metrics).iter().partition(|m| is_cpu(m, "target"));
    if let Some(cpu) = cpu.first() {
        spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"].clone();
    }
    let others: Value = others.into_iter().cloned().collect();
    let status = object(&mut new, "status");
    let (current, conditions) = (taken(status, "currentMetrics"), taken(status, "conditions"));
    if let Some(cpu) = items(&current).iter().find(|m| is_cpu(m, "current")) {
        status["currentCPUUtilizationPercentage"] = cpu["resource"]["current"]["averageUtilization"].clone();
    }
    default_to(status, "currentReplicas", 0);
    let kept = [
        (METRICS, Value::from(one_way(&others, &SPECS))),
        (CURRENT_METRICS, Value::from(one_way(&current, &STATUSES))),
        (CONDITIONS, conditions),
        (BEHAVIOR, recased(&behavior, char::to_ascii_uppercase)),
    ];
    for (annotation, value) in kept {
        if !is_empty(&value) {
            object(object(&mut new, "metadata"), "annotations")[annotation] = value.to_string().into();
        }
    }
    new
}

/// Whether a metric is the CPU's utilization, for which v1 has a field.
fn is_cpu(metric: &Value, part: &str) -> bool {
    let resource = &metric["resource"];
    text(&metric["type"]) == "Resource"
        && text(&resource["name"]) == "cpu"
        && !resource[part]["averageUtilization"].is_null()
}

fn taken(parent: &mut Value, field: &str) -> Value {
    parent
        .as_object_mut()
        .and_then(|p| p.remove(field))
        .unwrap_or_default()
}

fn drop_annotations(scaler: &mut Value) {
    let Some(metadata) = scaler.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let mut empty = false;
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        let before = annotations.len();
        annotations.retain(|name, _| !ANNOTATIONS.contains(&name.as_str()));
        empty = annotations.is_empty() && before > 0;
    }
    if empty {
        metadata.remove("annotations");
    }
}

/// Metrics of v2 as v1 has them.
fn one_way(metrics: &Value, sources: &[(&str, &[Field])]) -> Vec<Value> {
    let convert = |metric: &Value| {
        let mut new = json!({"type": metric["type"]});
        for (source, fields) in sources.iter().filter(|(source, _)| !metric[*source].is_null()) {
            for (path, name) in *fields {
                let value = path.iter().fold(&metric[*source], |value, field| &value[*field]);
                if !value.is_null() {
                    new[*source][*name] = value.clone();
                }
            }
        }
        new
    };
    items(metrics).iter().map(convert).collect()
}

/// Metrics of v1 as v2 has them; targets (`typed`) say of what type they are.
fn other_way(metrics: &Value, sources: &[(&str, &[Field])], typed: bool) -> Vec<Value> {
    let convert = |metric: &Value| {
        let mut new = json!({"type": metric["type"]});
        for (source, fields) in sources.iter().filter(|(source, _)| !metric[*source].is_null()) {
            for (path, name) in *fields {
                let value = &metric[*source][*name];
                if !value.is_null() {
                    let place = path
                        .iter()
                        .fold(&mut new[*source], |place, field| &mut place[*field]);
                    *place = value.clone();
                }
            }
            if typed {
                let target = &mut new[*source]["target"];
                let given = |field: &str| target.get(field).is_some_and(|v| !v.is_null());
                let type_ = match (
                    *source,
                    given("averageUtilization"),
                    given("averageValue"),
                    given("value"),
                ) {
                    ("resource" | "containerResource", true, ..) => "Utilization",
                    ("object", _, false, _) | ("external", _, _, true) => "Value",
                    _ => "AverageValue",
                };
                target["type"] = type_.into();
            }
        }
        new
    };
    items(metrics).iter().map(convert).collect()
}

/// A value with the first letter of each field's name changed: the behavior is annotated as Go's own struct.
fn recased(value: &Value, change: fn(&char) -> char) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| recased(item, change)).collect(),
        Value::Object(fields) => {
            let named = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| {
                    let mut letters = name.chars();
                    let first = letters.next().map(|c| change(&c));
                    (first.into_iter().chain(letters).collect(), recased(value, change))
                });
            Value::Object(named.collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_is_v2_with_fields_and_annotations() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": [
                {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "30"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"},
                    "metric": {"name": "r"}, "target": {"type": "Value", "value": "2k"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                    "averageUtilization": 50}}}],
                "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
            "status": {"desiredReplicas": 2, "currentReplicas": 1, "conditions": [{"type": "AbleToScale"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 20, "averageValue": "10m"}}}]}});
        let v1 = from_v2(v2.clone());
        assert_eq!(
            v1["spec"],
            json!({"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 50})
        );
        assert_eq!(
            v1["status"],
            json!({"desiredReplicas": 2, "currentReplicas": 1,
            "currentCPUUtilizationPercentage": 20})
        );
        assert_eq!(
            annotated(&v1, BEHAVIOR)["ScaleUp"]["Policies"][0]["PeriodSeconds"],
            15
        );
        assert_eq!(to_v2(&v1), v2);
    }

    #[test]
    fn a_plain_v1_aims_at_the_cpu() {
        let mut v1 =
            json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "h"}, "spec": {"maxReplicas": 2}});
        default(&mut v1);
        assert_eq!(
            v1["spec"],
            json!({"maxReplicas": 2, "minReplicas": 1, "targetCPUUtilizationPercentage": 80})
        );
        let v2 = to_v2(&v1);
        assert_eq!(v2["spec"]["metrics"], json!([cpu_metric(80)]));
        assert_eq!(
            v2["status"],
            json!({"currentMetrics": null, "desiredReplicas": 0})
        );
        let mut back = from_v2(v2);
        back["apiVersion"] = json!("autoscaling/v1");
        assert_eq!(back, v1);
    }
}

//! What an autoscaler looks at: resources of pods, and metrics of pods, objects and the world outside.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::checks::{int, invalid_for, items, one_of, text};
use crate::strategies::fields::quantity;

/// The sources, in the order in which they are looked at: the field, and the type that names it.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

/// What is wrong with the metrics of a spec.
pub(super) fn validate_metrics(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let metrics = items(&spec["metrics"]);
    let mut errors = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        errors.extend(validate_metric(metric, &at.index(i)));
    }
    let outside = |metric: &Value| matches!(text(&metric["type"]), "Object" | "External");
    if spec["minReplicas"] == 0 && !metrics.iter().any(outside) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(at, why));
    }
    errors
}

/// A reference to an object: its kind and name, and its API group unless it needs none (`core`). `known` references
/// have been accepted before.
pub(super) fn object_reference(
    reference: &Value,
    known: bool,
    core: bool,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["kind", "name"] {
        let (value, at) = (&reference[field], at.child(field));
        if text(value).is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            errors.extend(invalid_for(names::path_segment(text(value)), value, &at));
        }
    }
    let version = text(&reference["apiVersion"]);
    let wrong = match version.matches('/').count() {
        0 if !core => Some("apiVersion must specify API group".to_owned()),
        0 | 1 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    };
    if let Some(why) = wrong.filter(|_| !known) {
        errors.push(FieldError::invalid(&at.child("apiVersion"), version, why));
    }
    errors
}

fn validate_metric(metric: &Value, at: &FieldPath) -> Vec<FieldError> {
    const SUPPORTED: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let type_ = text(&metric["type"]);
    let mut errors = Vec::new();
    if type_.is_empty() {
        let why = "must specify a metric source type";
        errors.push(FieldError::required(&at.child("type"), why));
    }
    errors.extend(one_of(&metric["type"], &SUPPORTED, &at.child("type")));
    let present: Vec<&str> = SOURCES
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| !metric[*field].is_null())
        .collect();
    if let Some(first) = present.first() {
        errors.extend(validate_source(first, &metric[*first], &at.child(first)));
    }
    let own = SOURCES
        .iter()
        .find(|(_, named)| *named == type_)
        .map(|(field, _)| *field);
    match own {
        Some(field) if metric[field].is_null() => {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(&at.child(field), why));
        }
        Some(_) => {}
        None => errors.extend(one_of(&metric["type"], &SUPPORTED, &at.child("type"))),
    }
    if present.len() != 1 {
        for other in present.iter().filter(|field| Some(**field) != own) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&at.child(other), why));
        }
    }
    errors
}

fn validate_source(kind: &str, source: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (target, target_at) = (&source["target"], at.child("target"));
    let given = |field: &str| !target[field].is_null();
    match kind {
        "resource" | "containerResource" => {
            if text(&source["name"]).is_empty() {
                errors.push(FieldError::required(
                    &at.child("name"),
                    "must specify a resource name",
                ));
            }
            let container = &source["container"];
            if kind == "containerResource" && text(container).is_empty() {
                errors.push(FieldError::required(
                    &at.child("container"),
                    "must specify a container",
                ));
            } else if kind == "containerResource" {
                let messages = names::dns1123_label(text(container));
                errors.extend(invalid_for(messages, container, &at.child("container")));
            }
            errors.extend(validate_target(target, &target_at));
            let (raw, utilization) = (given("averageValue"), given("averageUtilization"));
            if !raw && !utilization {
                let why = "must set either a target raw value or a target utilization";
                errors.push(FieldError::required(&target_at.child("averageUtilization"), why));
            }
            if raw && utilization {
                let why = "may not set both a target raw value and a target utilization";
                errors.push(FieldError::forbidden(&target_at.child("averageValue"), why));
            }
            return errors;
        }
        "object" => {
            let described = &source["describedObject"];
            errors.extend(object_reference(
                described,
                false,
                true,
                &at.child("describedObject"),
            ));
        }
        _ => {}
    }
    let (name, name_at) = (&source["metric"]["name"], at.child("metric").child("name"));
    if text(name).is_empty() {
        errors.push(FieldError::required(&name_at, "must specify a metric name"));
    } else {
        errors.extend(invalid_for(names::path_segment(text(name)), name, &name_at));
    }
    errors.extend(validate_target(target, &target_at));
    let average_at = target_at.child("averageValue");
    let missing = match (kind, given("value"), given("averageValue")) {
        ("pods", _, false) => Some("must specify a positive target averageValue"),
        ("object", false, false) => Some("must set either a target value or averageValue"),
        ("external", false, false) => Some("must set either a target value for metric or a per-pod target"),
        ("external", true, true) => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&target_at.child("value"), why));
            None
        }
        _ => None,
    };
    errors.extend(missing.map(|why| FieldError::required(&average_at, why)));
    errors
}

fn validate_target(target: &Value, at: &FieldPath) -> Vec<FieldError> {
    let type_ = text(&target["type"]);
    let mut errors = Vec::new();
    if type_.is_empty() {
        errors.push(FieldError::required(
            &at.child("type"),
            "must specify a metric target type",
        ));
    }
    if !matches!(type_, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&at.child("type"), type_, why));
    }
    for field in ["value", "averageValue"] {
        if quantity(&target[field]).is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.push(FieldError::invalid(
                &at.child(field),
                target[field].clone(),
                "must be positive",
            ));
        }
    }
    let utilization = &target["averageUtilization"];
    if !utilization.is_null() && int(utilization) < 1 {
        let at = at.child("averageUtilization");
        errors.push(FieldError::invalid(
            &at,
            utilization.clone(),
            "must be greater than 0",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn metrics_have_one_source_and_a_target() {
        let cases: [(Value, &[&str]); 3] = [
            (
                json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                    "averageUtilization": 50}}}),
                &[],
            ),
            (
                json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue",
                    "averageValue": "0"}}}),
                &["metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive"],
            ),
            (
                json!({"type": "External", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
                &[
                    "metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a \
                     target utilization",
                    "metrics[0].external: Required value: must populate information for the given metric source",
                ],
            ),
        ];
        for (metric, expected) in cases {
            let spec = json!({"metrics": [metric]});
            assert_eq!(
                told(&validate_metrics(&spec, &FieldPath::new("metrics"))),
                expected,
                "{metric}"
            );
        }
    }
}

//! HorizontalPodAutoscalers, in the form of autoscaling/v2; [`v1`] has the older form.

mod metrics;
pub(crate) mod v1;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use self::metrics::{object_reference, validate_metrics};
use super::checks::{all_non_negative, default_to, int, is_empty, items, object, one_of};
use super::fields::quantity;
use super::rules::Rules;

/// The percentage of the requested CPU that is aimed at when nothing else is said.
const DEFAULT_UTILIZATION: i64 = 80;
/// The longest that rules may look back, and the longest period of a policy, in seconds.
const LONGEST_WINDOW: i64 = 3600;
const LONGEST_PERIOD: i64 = 1800;

/// The rules of a kind of this group in one of its versions.
pub(super) fn rules(version: &str, kind: &str) -> Option<Rules> {
    if kind != "HorizontalPodAutoscaler" {
        return None;
    }
    let validate_status = |new: &Value, _: &Value| {
        let counts = ["currentReplicas", "desiredReplicas"];
        all_non_negative(&new["status"], &counts, &FieldPath::new("status"))
    };
    Some(if version == "v1" {
        Rules {
            default: v1::default,
            prepare_create: |_, scaler| v1::default_status(scaler),
            validate: |scaler| validate(&v1::to_v2(scaler), &Value::Null),
            validate_update: Some(|new, old| validate(&v1::to_v2(new), &v1::to_v2(old))),
            validate_status,
            ..Rules::ORDINARY
        }
    } else {
        Rules {
            default,
            prepare_create: |_, scaler| default_status(scaler),
            validate: |scaler| validate(scaler, &Value::Null),
            validate_update: Some(validate),
            validate_status,
            ..Rules::ORDINARY
        }
    })
}

/// The metric that is used when there is none.
fn cpu_metric(utilization: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

fn default_status(scaler: &mut Value) {
    let status = object(scaler, "status");
    default_to(status, "desiredReplicas", 0);
    if status["currentMetrics"].is_null() {
        status["currentMetrics"] = Value::Null;
    }
}

fn default(scaler: &mut Value) {
    default_status(scaler);
    let spec = object(scaler, "spec");
    default_to(spec, "minReplicas", 1);
    if spec.get("metrics").is_none_or(is_empty) {
        spec["metrics"] = json!([cpu_metric(DEFAULT_UTILIZATION)]);
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) else {
        return;
    };
    let policy = |type_: &str, value: i64| json!({"type": type_, "value": value, "periodSeconds": 15});
    let up = object(behavior, "scaleUp");
    default_to(up, "stabilizationWindowSeconds", 0);
    default_to(up, "selectPolicy", "Max");
    default_to(up, "policies", json!([policy("Pods", 4), policy("Percent", 100)]));
    let down = object(behavior, "scaleDown");
    default_to(down, "selectPolicy", "Max");
    default_to(down, "policies", json!([policy("Percent", 100)]));
}

fn validate(scaler: &Value, old: &Value) -> Vec<FieldError> {
    let (of, at) = (&scaler["spec"], FieldPath::new("spec"));
    let mut errors = Vec::new();
    let (min, max) = (of["minReplicas"].as_i64(), int(&of["maxReplicas"]));
    let least = i64::from(old["spec"]["minReplicas"] != 0);
    if let Some(min) = min.filter(|min| *min < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.push(FieldError::invalid(&at.child("minReplicas"), min, why));
    }
    let max_at = at.child("maxReplicas");
    if max == 0 {
        errors.push(FieldError::required(&max_at, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(FieldError::invalid(
            &max_at,
            max,
            "must be greater than or equal to 1",
        ));
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&max_at, max, why));
    }
    let (target, was) = (&of["scaleTargetRef"], &old["spec"]["scaleTargetRef"]);
    let same = !was.is_null() && ["apiVersion", "kind"].iter().all(|f| target[*f] == was[*f]);
    let core = target["kind"] == "ReplicationController";
    errors.extend(object_reference(target, same, core, &at.child("scaleTargetRef")));
    errors.extend(validate_metrics(of, &at.child("metrics")));
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &of["behavior"][direction];
        if !rules.is_null() {
            errors.extend(scaling_rules(rules, &at.child("behavior").child(direction)));
        }
    }
    errors
}

fn scaling_rules(rules: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let window = &rules["stabilizationWindowSeconds"];
    let wrong = if int(window) < 0 {
        Some("must be greater than or equal to zero".to_owned())
    } else if int(window) > LONGEST_WINDOW {
        Some(format!("must be less than or equal to {LONGEST_WINDOW}"))
    } else {
        None
    };
    let window_at = at.child("stabilizationWindowSeconds");
    errors.extend(wrong.map(|why| FieldError::invalid(&window_at, window.clone(), why)));
    if !rules["selectPolicy"].is_null() {
        let supported = ["Disabled", "Max", "Min"];
        errors.extend(one_of(
            &rules["selectPolicy"],
            &supported,
            &at.child("selectPolicy"),
        ));
    }
    let (policies, policies_at) = (items(&rules["policies"]), at.child("policies"));
    if policies.is_empty() {
        errors.push(FieldError::required(
            &policies_at,
            "must specify at least one Policy",
        ));
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = policies_at.index(i);
        errors.extend(one_of(&policy["type"], &["Percent", "Pods"], &at.child("type")));
        for field in ["value", "periodSeconds"] {
            if int(&policy[field]) <= 0 {
                let shown = int(&policy[field]);
                errors.push(FieldError::invalid(
                    &at.child(field),
                    shown,
                    "must be greater than zero",
                ));
            }
        }
        if int(&policy["periodSeconds"]) > LONGEST_PERIOD {
            let why = format!("must be less than or equal to {LONGEST_PERIOD}");
            let shown = policy["periodSeconds"].clone();
            errors.push(FieldError::invalid(&at.child("periodSeconds"), shown, why));
        }
    }
    if quantity(&rules["tolerance"]).is_some_and(|q| q.is_negative()) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &at.child("tolerance"),
            rules["tolerance"].clone(),
            why,
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
        let cases: [(Value, &[&str]); 4] = [
            (
                json!({"maxReplicas": 3, "scaleTargetRef": target, "behavior": {}}),
                &[],
            ),
            (
                json!({"minReplicas": 0, "scaleTargetRef": {"kind": "Deployment"}}),
                &[
                    "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                    "spec.maxReplicas: Required value: must be set and greater than 0",
                    "spec.scaleTargetRef.name: Required value",
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
                    "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to \
                     zero replicas",
                ],
            ),
            (
                json!({"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": target}),
                &["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
            ),
            (
                json!({"maxReplicas": 1, "scaleTargetRef": target, "behavior": {"scaleUp": {"selectPolicy": "Any",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}}),
                &[
                    "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Any\": supported values: \"Disabled\", \
                     \"Max\", \"Min\"",
                    "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let mut scaler = json!({"spec": spec});
            default(&mut scaler);
            assert_eq!(told(&validate(&scaler, &Value::Null)), expected, "{spec}");
        }
    }
}

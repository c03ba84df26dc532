//! Deployments and ReplicaSets.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::template::{
    default_template, required_selector, runs_for_ever, selected_template, spec, validate_template, warnings,
};
use crate::strategies::checks::{
    all_non_negative, at_most_100_percent, default_text, default_to, immutable_selector, int, int_or_percent,
    int_or_percent_value, object, text,
};
use crate::strategies::rules::{Rules, carry_over};

pub(super) const DEPLOYMENT: Rules = Rules {
    generation: true,
    default: default_deployment,
    prepare_update: |new, old| {
        // Annotations are copied to replica sets, so controllers must look again when they change.
        if new["metadata"]["annotations"] != old["metadata"]["annotations"] && new["spec"] == old["spec"] {
            new["metadata"]["generation"] = (int(&old["metadata"]["generation"]) + 1).into();
        }
    },
    prepare_status: |new, old| carry_over(&mut new["metadata"], &old["metadata"], "labels"),
    validate: validate_deployment,
    validate_update: Some(|new, old| {
        let mut errors = validate_deployment(new);
        errors.extend(same_selector(new, old));
        errors
    }),
    validate_status: deployment_status,
    warnings,
    ..Rules::ORDINARY
};

pub(super) const REPLICA_SET: Rules = Rules {
    generation: true,
    default: |set| {
        let spec = object(set, "spec");
        default_to(spec, "replicas", 1);
        default_template(object(spec, "template"));
    },
    validate: validate_replica_set,
    validate_update: Some(|new, old| {
        let mut errors = validate_replica_set(new);
        errors.extend(same_selector(new, old));
        errors
    }),
    validate_status: |new, _| {
        let fields = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ];
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        counts(new, &fields, &parts)
    },
    warnings,
    ..Rules::ORDINARY
};

fn default_deployment(deployment: &mut Value) {
    let spec = object(deployment, "spec");
    default_template(object(spec, "template"));
    default_to(spec, "replicas", 1);
    let strategy = object(spec, "strategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(&strategy["type"]) == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default_to(rolling, "maxUnavailable", "25%");
        default_to(rolling, "maxSurge", "25%");
    }
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "progressDeadlineSeconds", 600);
}

fn validate_deployment(deployment: &Value) -> Vec<FieldError> {
    let of = &deployment["spec"];
    let mut errors = all_non_negative(of, &["replicas"], &spec());
    errors.extend(template(deployment));
    errors.extend(strategy(&of["strategy"]));
    let fields = [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ];
    errors.extend(all_non_negative(of, &fields, &spec()));
    let deadline = &of["progressDeadlineSeconds"];
    if !deadline.is_null() && int(deadline) <= int(&of["minReadySeconds"]) {
        errors.push(FieldError::invalid(
            &spec().child("progressDeadlineSeconds"),
            deadline.clone(),
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

fn validate_replica_set(set: &Value) -> Vec<FieldError> {
    let mut errors = all_non_negative(&set["spec"], &["replicas", "minReadySeconds"], &spec());
    errors.extend(template(set));
    errors
}

/// The selector and the template; the words are those of Deployments and ReplicaSets, which share them.
fn template(object: &Value) -> Vec<FieldError> {
    let mut errors = required_selector(&object["spec"]["selector"], "deployment");
    match selected_template(object, "invalid label selector") {
        Err(senseless) => errors.push(senseless),
        Ok(unselected) => {
            errors.extend(unselected);
            let template = &object["spec"]["template"];
            errors.extend(validate_template(template, &spec().child("template")));
            errors.extend(runs_for_ever(object, "ReplicaSet"));
        }
    }
    errors
}

fn same_selector(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = spec().child("selector");
    immutable_selector(&new["spec"]["selector"], &old["spec"]["selector"], &at)
}

fn strategy(strategy: &Value) -> Vec<FieldError> {
    let at = spec().child("strategy");
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "Recreate" if rolling.is_null() => Vec::new(),
        "Recreate" => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            vec![FieldError::forbidden(&at.child("rollingUpdate"), why)]
        }
        "RollingUpdate" => {
            let (most_down, most_up) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let at = at.child("rollingUpdate");
            let mut errors = int_or_percent(most_down, &at.child("maxUnavailable"));
            errors.extend(int_or_percent(most_up, &at.child("maxSurge")));
            if int_or_percent_value(most_down) == 0 && int_or_percent_value(most_up) == 0 {
                errors.push(FieldError::invalid(
                    &at.child("maxUnavailable"),
                    most_down.clone(),
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            errors.extend(at_most_100_percent(most_down, &at.child("maxUnavailable")));
            errors
        }
        other => {
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            vec![FieldError::not_supported(
                &at,
                shown,
                &["Recreate", "RollingUpdate"],
            )]
        }
    }
}

fn deployment_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    let mut errors = counts(new, &fields, &parts);
    errors.extend(not_decremented(new, old));
    errors
}

/// Counts of a status: none negative, no part more than the whole.
fn counts(object: &Value, fields: &[&str], parts: &[&str]) -> Vec<FieldError> {
    let errors = part_counts(object, fields, parts);
    with_available(object, errors, "cannot be greater than readyReplicas")
}

/// Counts of which those in `parts` may not be more than the count of replicas.
pub(super) fn part_counts(object: &Value, fields: &[&str], parts: &[&str]) -> Vec<FieldError> {
    let status = &object["status"];
    let at = FieldPath::new("status");
    let mut errors = all_non_negative(status, fields, &at);
    let all = int(&status["replicas"]);
    for part in parts {
        if int(&status[*part]) > all {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&at.child(part), int(&status[*part]), why));
        }
    }
    errors
}

/// What is available is ready.
pub(super) fn with_available(object: &Value, mut errors: Vec<FieldError>, why: &str) -> Vec<FieldError> {
    let status = &object["status"];
    let available = int(&status["availableReplicas"]);
    if available > int(&status["readyReplicas"]) {
        let at = FieldPath::new("status").child("availableReplicas");
        errors.push(FieldError::invalid(&at, available, why));
    }
    errors
}

/// Collisions are counted up only.
pub(super) fn not_decremented(new: &Value, old: &Value) -> Option<FieldError> {
    let (new, old) = (&new["status"]["collisionCount"], &old["status"]["collisionCount"]);
    let at = FieldPath::new("status").child("collisionCount");
    (!old.is_null() && (new.is_null() || int(new) < int(old)))
        .then(|| FieldError::invalid(&at, int(new), "cannot be decremented"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    fn deployment(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": "Always",
                "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
                    "terminationMessagePolicy": "File"}], "dnsPolicy": "ClusterFirst"}}}});
        for (field, value) in spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        default_deployment(&mut object);
        object
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let mut object = deployment(json!({}));
        let once = object.clone();
        default_deployment(&mut object);
        assert_eq!(object, once);
        let rolling = json!({"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        assert_eq!(object["spec"]["strategy"], rolling);
        assert_eq!(object["spec"]["replicas"], 1);
        let object = deployment(json!({"strategy": {"type": "Recreate"}}));
        assert_eq!(object["spec"]["strategy"], json!({"type": "Recreate"}));
    }

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let cases: [(Value, &[&str]); 6] = [
            (json!({}), &[]),
            (
                json!({"replicas": -1}),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({"selector": null, "minReadySeconds": 600}),
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template \
                     `labels`",
                    "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
                ],
            ),
            (
                json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Nope"}]}}),
                &[
                    "spec.selector.matchExpressions[0].operator: Invalid value: \"Nope\": not a valid selector operator",
                    "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Nope\"}]}: \
                     invalid label selector",
                ],
            ),
            (
                json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(
                told(&validate_deployment(&deployment(spec.clone()))),
                expected,
                "{spec}"
            );
        }
        let status = |status: Value| json!({"status": status});
        let errors = deployment_status(
            &status(json!({"replicas": 1, "updatedReplicas": 2, "availableReplicas": 1})),
            &status(json!({"collisionCount": 1})),
        );
        let expected = [
            "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
            "status.collisionCount: Invalid value: 0: cannot be decremented",
        ];
        assert_eq!(told(&errors), expected);
    }
}

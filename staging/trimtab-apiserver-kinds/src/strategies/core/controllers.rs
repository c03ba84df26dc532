//! `ReplicationController`s and `PodTemplate`s.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::pod_spec::{default_pod_template, pod_spec_warnings, validate_pod_template_spec};
use crate::strategies::apps::template::name_warning;
use crate::strategies::checks::{all_non_negative, default_to, int, is_empty, object, one_of, or_null};
use crate::strategies::rules::Rules;

pub(super) const REPLICATION_CONTROLLER: Rules = Rules {
    generation: true,
    orphans: true,
    default: default_controller,
    validate: validate_controller,
    validate_status: |new, _| validate_status(&new["status"]),
    warnings: |new, old| {
        // Of the template, users are warned when it is new or something is changed.
        let unchanged = old.is_some_and(|old| old["spec"] == new["spec"]);
        let mut warnings: Vec<String> = old
            .is_none()
            .then(|| name_warning(new))
            .flatten()
            .into_iter()
            .collect();
        if !unchanged {
            let at = FieldPath::new("spec").child("template").child("spec");
            warnings.extend(pod_spec_warnings(&new["spec"]["template"]["spec"], &at));
        }
        warnings
    },
    selectable: &["status.replicas"],
    select: |controller, field| {
        (field == "status.replicas").then(|| int(&controller["status"]["replicas"]).to_string())
    },
    ..Rules::ORDINARY
};

pub(super) const POD_TEMPLATE: Rules = Rules {
    generation: true,
    default: |template| default_pod_template(object(template, "template")),
    validate: |template| validate_pod_template_spec(&template["template"], &FieldPath::new("template")),
    ..Rules::NO_STATUS
};

fn default_controller(controller: &mut Value) {
    let labels = controller["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        let spec = object(controller, "spec");
        if is_empty(&spec["selector"]) {
            spec["selector"] = labels.clone();
        }
        let metadata = object(controller, "metadata");
        if is_empty(&metadata["labels"]) {
            metadata["labels"] = labels;
        }
    }
    let spec = object(controller, "spec");
    default_to(spec, "replicas", 1);
    if spec["template"].is_object() {
        default_pod_template(&mut spec["template"]);
    }
}

fn validate_controller(controller: &Value) -> Vec<FieldError> {
    let (spec, at) = (&controller["spec"], FieldPath::new("spec"));
    let mut errors = all_non_negative(spec, &["minReadySeconds"], &at);
    if is_empty(&spec["selector"]) {
        errors.push(FieldError::required(&at.child("selector"), ""));
    }
    errors.extend(all_non_negative(spec, &["replicas"], &at));
    let (template, at) = (&spec["template"], at.child("template"));
    if !template.is_object() {
        errors.push(FieldError::required(&at, ""));
        return errors;
    }
    let labels = &template["metadata"]["labels"];
    let mut wanted = spec["selector"].as_object().into_iter().flatten();
    if !wanted.all(|(key, value)| labels.get(key) == Some(value)) {
        let why = "`selector` does not match template `labels`";
        let at = at.child("metadata").child("labels");
        errors.push(FieldError::invalid(&at, or_null(labels), why));
    }
    errors.extend(validate_pod_template_spec(template, &at));
    let (pod, at) = (&template["spec"], at.child("spec"));
    errors.extend(one_of(
        &pod["restartPolicy"],
        &["Always"],
        &at.child("restartPolicy"),
    ));
    if !pod["activeDeadlineSeconds"].is_null() {
        let why = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.push(FieldError::forbidden(&at.child("activeDeadlineSeconds"), why));
    }
    errors
}

fn validate_status(status: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    let mut errors = all_non_negative(status, &counts, &at);
    let mut at_most = |part: &str, whole: &str, why: &str| {
        let count = int(&status[part]);
        if count > int(&status[whole]) {
            errors.push(FieldError::invalid(&at.child(part), count, why));
        }
    };
    for part in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        at_most(part, "replicas", "cannot be greater than status.replicas");
    }
    at_most(
        "availableReplicas",
        "readyReplicas",
        "cannot be greater than readyReplicas",
    );
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn controllers_select_their_template() {
        let mut controller = json!({"spec": {"template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        default_controller(&mut controller);
        assert_eq!(controller["spec"]["selector"], json!({"app": "x"}));
        assert_eq!(controller["metadata"]["labels"], json!({"app": "x"}));
        assert_eq!(told(&validate_controller(&controller)), [""; 0]);
        controller["spec"]["selector"] = json!({"app": "y"});
        controller["spec"]["replicas"] = (-1).into();
        let expected = [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
        ];
        assert_eq!(told(&validate_controller(&controller)), expected);
        let status = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 2});
        let expected = [
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
        ];
        assert_eq!(told(&validate_status(&status)), expected);
    }
}

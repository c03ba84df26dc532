//! What the pod templates of all workload controllers have in common.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

pub(in crate::strategies) use crate::strategies::core::pod_spec::{
    default_pod_template as default_template, pod_spec_warnings,
    validate_pod_template_spec as validate_template,
};

use crate::strategies::checks::{label_selector, or_null, selector_json, selects, selects_everything, text};

/// The path of the spec.
pub(in crate::strategies) fn spec() -> FieldPath {
    FieldPath::new("spec")
}

/// The selector of a workload whose selector is required.
pub(in crate::strategies) fn required_selector(selector: &Value, kind: &str) -> Vec<FieldError> {
    let at = spec().child("selector");
    if selector.is_null() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors = label_selector(selector, &at);
    if selects_everything(selector) {
        let why = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid(&at, selector.clone(), why));
    }
    errors
}

/// That the selector selects the pods made of the template; `senseless` is said of one that makes no sense.
pub(in crate::strategies) fn selected_template(
    object: &Value,
    senseless: &str,
) -> Result<Vec<FieldError>, FieldError> {
    let selector = &object["spec"]["selector"];
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let Some(selected) = selects(selector, labels) else {
        let at = spec().child("selector");
        let error = FieldError::invalid(&at, selector.clone(), senseless);
        return Err(error.shown_as(selector_json(selector)));
    };
    if selected {
        return Ok(Vec::new());
    }
    let at = spec().child("template").child("metadata").child("labels");
    let why = "`selector` does not match template `labels`";
    Ok(vec![FieldError::invalid(&at, or_null(labels), why)])
}

/// That pods run on until they are deleted.
pub(in crate::strategies) fn runs_for_ever(object: &Value, kind: &str) -> Vec<FieldError> {
    let pod = &object["spec"]["template"]["spec"];
    let at = spec().child("template").child("spec");
    let mut errors = Vec::new();
    if text(&pod["restartPolicy"]) != "Always" {
        errors.push(FieldError::not_supported(
            &at.child("restartPolicy"),
            text(&pod["restartPolicy"]),
            &["Always"],
        ));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        errors.push(FieldError::forbidden(
            &at.child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
    errors
}

/// A warning about a name that does not fit into names of pods.
pub(in crate::strategies) fn name_warning(object: &Value) -> Option<String> {
    let messages = names::dns1123_label(text(&object["metadata"]["name"]));
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// What to warn of in a new template, or in one whose object's generation an update counts up.
pub(in crate::strategies) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    if old.is_some_and(|old| generation(new) == generation(old)) {
        return Vec::new();
    }
    let pod = &new["spec"]["template"]["spec"];
    pod_spec_warnings(pod, &spec().child("template").child("spec"))
}

/// The same, with a warning about the name of a new object.
pub(in crate::strategies) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(name_warning(new));
    }
    warnings.extend(template_warnings(new, old));
    warnings
}

//! What is wrong with pod specs and pod templates.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

/// What is wrong with a pod template, its metadata included; `at` is the path of the template.
pub(in crate::strategies) fn validate_pod_template_spec(template: &Value, at: &FieldPath) -> Vec<FieldError> {
    validate_pod_spec(&template["spec"], &at.child("spec"))
}

/// What is wrong with a pod spec; `at` is the path of the spec.
pub(in crate::strategies) fn validate_pod_spec(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let _ = (spec, at);
    Vec::new()
}

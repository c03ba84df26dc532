//! Leases: who leads, and until when.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::checks::{int, non_negative};
use super::rules::Rules;

/// The rules of a kind of `coordination.k8s.io`.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    (kind == "Lease").then_some(Rules {
        create_on_update: true,
        unconditional_update: false,
        prepare_create: |_, lease| drop_coordinated(lease, &Value::Null),
        prepare_update: drop_coordinated,
        validate,
        ..Rules::NO_STATUS
    })
}

/// Kubernetes 1.36 has elections by a coordinator behind a feature gate that is off.
fn drop_coordinated(lease: &mut Value, old: &Value) {
    let Some(spec) = lease.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["strategy", "preferredHolder"] {
        if old["spec"][field].is_null() {
            spec.remove(field);
        }
    }
}

fn validate(lease: &Value) -> Vec<FieldError> {
    let (of, at) = (&lease["spec"], FieldPath::new("spec"));
    let mut errors = Vec::new();
    let duration = &of["leaseDurationSeconds"];
    if !duration.is_null() && int(duration) <= 0 {
        let at = at.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(
            &at,
            duration.clone(),
            "must be greater than 0",
        ));
    }
    errors.extend(non_negative(
        &of["leaseTransitions"],
        &at.child("leaseTransitions"),
    ));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn durations_are_positive() {
        let cases = [
            (json!({"leaseDurationSeconds": 1, "leaseTransitions": 0}), vec![]),
            (
                json!({"leaseDurationSeconds": 0, "leaseTransitions": -1}),
                vec![
                    "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                    "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(told(&validate(&json!({"spec": spec}))), expected, "{spec}");
        }
    }
}

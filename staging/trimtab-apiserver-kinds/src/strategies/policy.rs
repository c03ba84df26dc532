//! PodDisruptionBudgets.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{
    all_non_negative, at_most_100_percent, default_to, int_or_percent, label_selector, object, one_of,
};
use super::rules::Rules;

/// The rules of a kind of `policy`.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    (kind == "PodDisruptionBudget").then_some(Rules {
        generation: true,
        name: names::path_segment,
        unconditional_update: false,
        default,
        prepare_create: |_, budget| default(budget),
        validate,
        validate_status: |new, _| all_non_negative(&new["status"], &COUNTS, &FieldPath::new("status")),
        ..Rules::ORDINARY
    })
}

const COUNTS: [&str; 4] = [
    "disruptionsAllowed",
    "currentHealthy",
    "desiredHealthy",
    "expectedPods",
];

/// Counts are written even when they are zero.
fn default(budget: &mut Value) {
    let status = object(budget, "status");
    for count in COUNTS {
        default_to(status, count, 0);
    }
}

fn validate(budget: &Value) -> Vec<FieldError> {
    let (of, at) = (&budget["spec"], FieldPath::new("spec"));
    let mut errors = Vec::new();
    let (min, max) = (&of["minAvailable"], &of["maxUnavailable"]);
    if !min.is_null() && !max.is_null() {
        let shown = json!({"MinAvailable": min, "Selector": of["selector"], "MaxUnavailable": max,
            "UnhealthyPodEvictionPolicy": of["unhealthyPodEvictionPolicy"]});
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&at, shown, why));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let at = at.child(field);
        errors.extend(int_or_percent(&of[field], &at));
        errors.extend(at_most_100_percent(&of[field], &at));
    }
    errors.extend(label_selector(&of["selector"], &at.child("selector")));
    let eviction = &of["unhealthyPodEvictionPolicy"];
    if !eviction.is_null() {
        let supported = ["AlwaysAllow", "IfHealthyBudget"];
        errors.extend(one_of(
            eviction,
            &supported,
            &at.child("unhealthyPodEvictionPolicy"),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn one_bound_is_given_and_it_makes_sense() {
        let cases = [
            (json!({"minAvailable": "50%", "selector": {}}), vec![]),
            (
                json!({"maxUnavailable": "150%", "unhealthyPodEvictionPolicy": "x"}),
                vec![
                    "spec.maxUnavailable: Invalid value: \"150%\": must not be greater than 100%",
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \
                     \"IfHealthyBudget\"",
                ],
            ),
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                vec![
                    "spec: Invalid value: {\"MaxUnavailable\":1,\"MinAvailable\":1,\"Selector\":null,\
                    \"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(told(&validate(&json!({"spec": spec}))), expected, "{spec}");
        }
    }
}

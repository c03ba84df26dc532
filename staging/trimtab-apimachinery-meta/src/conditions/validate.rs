//! What an API server refuses in a list of conditions, in its words.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{FALSE, TRUE, UNKNOWN};
use crate::field::{FieldError, FieldPath};
use crate::names;

/// The longest reason, in bytes. From `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.
pub const REASON_MAX: usize = 1024;
/// The longest message, in bytes. From `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.
pub const MESSAGE_MAX: usize = 32 * 1024;

/// The time that is none in Go: the first second of the year 1.
const GO_ZERO_SECOND: i64 = -62_135_596_800;

/// What is wrong with the conditions, as Go's `ValidateConditions` says it; empty when nothing is. `path` is that of the
/// list, as `status.conditions`.
///
/// A type is a CamelCase word, perhaps with the domain of its inventor, as `Ready` or `example.com/Ready`; a reason is a
/// CamelCase word. API servers ask this of their own kinds, and of custom resources if the schema does, as those made by
/// controller-gen do. The schema of `k8s-openapi`'s `Condition` has no patterns, so that a controller in Rust learns of a bad
/// reason from this function, in a test, or not at all.
pub fn validate(conditions: &[Condition], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if conditions[..index]
            .iter()
            .any(|earlier| earlier.type_ == condition.type_)
        {
            errors.push(FieldError::duplicate(&at.child("type"), condition.type_.as_str()));
        }
        check(condition, &at, &mut errors);
    }
    errors
}

fn check(condition: &Condition, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let type_ = at.child("type");
    for why in names::qualified_name(&condition.type_) {
        errors.push(FieldError::invalid(&type_, condition.type_.as_str(), why));
    }
    if ![TRUE, FALSE, UNKNOWN].contains(&condition.status.as_str()) {
        let known = [FALSE, TRUE, UNKNOWN];
        errors.push(FieldError::not_supported(
            &at.child("status"),
            condition.status.as_str(),
            &known,
        ));
    }
    if let Some(observed) = condition.observed_generation.filter(|generation| *generation < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(
            &at.child("observedGeneration"),
            observed,
            why,
        ));
    }
    if condition.last_transition_time.0 == Timestamp::constant(GO_ZERO_SECOND, 0) {
        errors.push(FieldError::required(
            &at.child("lastTransitionTime"),
            "must be set",
        ));
    }
    let reason = at.child("reason");
    if condition.reason.is_empty() {
        errors.push(FieldError::required(&reason, "must be set"));
    } else {
        for why in names::condition_reason(&condition.reason) {
            errors.push(FieldError::invalid(&reason, condition.reason.as_str(), why));
        }
        if condition.reason.len() > REASON_MAX {
            errors.push(FieldError::too_long(&reason, REASON_MAX));
        }
    }
    if condition.message.len() > MESSAGE_MAX {
        errors.push(FieldError::too_long(&at.child("message"), MESSAGE_MAX));
    }
}

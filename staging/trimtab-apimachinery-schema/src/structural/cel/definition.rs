//! What `x-kubernetes-validations` of a definition may say.

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::super::openapi::{list, text};

type Node = Map<String, Value>;

/// The texts of rules, before they are understood.
pub(crate) fn check_texts(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    for (index, rule) in list(node, "x-kubernetes-validations").iter().enumerate() {
        let Some(rule) = rule.as_object() else { continue };
        let at = path.child("x-kubernetes-validations").index(index);
        let lines = |text: &str| text.contains(['\n', '\r']);
        let (expression, message) = (text(rule, "rule"), text(rule, "message"));
        if expression.trim().is_empty() {
            errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(
                &at.child("message"),
                message,
                "must be non-empty if specified",
            ));
        } else if lines(message.trim()) {
            errors.push(FieldError::invalid(
                &at.child("message"),
                message,
                "must not contain line breaks",
            ));
        } else if lines(expression.trim()) && message.trim().is_empty() {
            errors.push(FieldError::required(
                &at.child("message"),
                "message must be specified if rule contains line breaks",
            ));
        }
        let message_expression = text(rule, "messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            errors.push(FieldError::required(
                &at.child("messageExpression"),
                "messageExpression must be non-empty if specified",
            ));
        }
        let reason = text(rule, "reason");
        if rule.contains_key("reason") && !REASONS.contains(&reason) {
            errors.push(FieldError::not_supported(&at.child("reason"), reason, &REASONS));
        }
        let field_path = text(rule, "fieldPath");
        let at = at.child("fieldPath");
        if !field_path.is_empty() && field_path.trim().is_empty() {
            errors.push(FieldError::invalid(
                &at,
                field_path,
                "must be non-empty if specified",
            ));
        }
        if lines(field_path) {
            errors.push(FieldError::invalid(
                &at,
                field_path,
                "must not contain line breaks",
            ));
        }
    }
}

/// Whether the rules compile, given what they are about.
pub(crate) fn check_rules(
    node: &Node,
    path: &FieldPath,
    root: bool,
    uncorrelated: Option<&FieldPath>,
    errors: &mut Vec<FieldError>,
) {
    let _ = (node, path, root, uncorrelated, errors);
}

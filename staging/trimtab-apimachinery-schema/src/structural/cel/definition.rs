//! What `x-kubernetes-validations` of a definition may say.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::super::openapi::{list, text};
use super::costs::Costs;
use super::declared::Declared;
use super::types::Kind;
use super::{checker, estimate, path as paths, rule};
use crate::Schema;
use crate::schema::Rule;

type Node = Map<String, Value>;

/// The texts of rules, before they are understood.
pub(crate) fn check_texts(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    let read = || Arc::new(Schema::from_openapi(&Value::Object(node.clone())));
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
        if !field_path.is_empty() && paths::resolve(field_path, &read()).is_none() {
            errors.push(FieldError::invalid(&at, field_path, "must be a valid path"));
        }
    }
}

/// Whether the rules compile, given the schema they are about, and cost no more than they may. `times` is how many values of
/// that schema an object can have, as far as the schemas around it limit that.
pub(crate) fn check_rules(
    node: &Node,
    path: &FieldPath,
    root: bool,
    uncorrelated: Option<&FieldPath>,
    times: Option<u64>,
    costs: &mut Costs,
    errors: &mut Vec<FieldError>,
) {
    let rules = list(node, "x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    let read = Arc::new(Schema::from_openapi(&Value::Object(node.clone())));
    let at = path.child("x-kubernetes-validations");
    let Some(kind) = Kind::of(&read, root || read.embedded_resource) else {
        errors.push(FieldError::internal(
            &at,
            "internal error: failed to retrieve type information for x-kubernetes-validations",
        ));
        return;
    };
    let about = Declared::of(&read, root || read.embedded_resource).unwrap_or_default();
    let mut budget = Budget {
        times: times.unwrap_or_else(|| about.most_in_a_request()),
        about,
        costs,
    };
    for (index, (stated, rule)) in rules.iter().zip(&read.rules).enumerate() {
        let at = at.index(index);
        check_rule(stated, rule, &kind, &at, uncorrelated, &mut budget, errors);
    }
}

/// What the costs of rules about one schema depend on.
struct Budget<'a> {
    about: Arc<Declared>,
    times: u64,
    costs: &'a mut Costs,
}

fn check_rule(
    stated: &Value,
    rule: &Rule,
    kind: &Kind,
    at: &FieldPath,
    uncorrelated: Option<&FieldPath>,
    budget: &mut Budget<'_>,
    errors: &mut Vec<FieldError>,
) {
    let old = if rule.optional_old_self {
        Kind::Dyn
    } else {
        kind.clone()
    };
    let variables = [("self", kind.clone()), ("oldSelf", old)];
    let mut uses_old_self = false;
    let compiled = rule::compile(&rule.rule).and_then(|program| {
        uses_old_self = program.references().has_variable("oldSelf");
        let checked = checker::check(&program, &variables);
        let (kind, kinds) = checked.map_err(|faults| format!("compilation failed: {faults}"))?;
        Ok((kind, estimate::cost(program.expression(), &budget.about, &kinds)))
    });
    let refused = match compiled {
        Err(fault) => Some(fault),
        Ok((Kind::Simple("bool") | Kind::Dyn, cost)) => {
            let cost = cost.saturating_mul(budget.times);
            budget.costs.add(&at.child("rule"), "rule", cost, errors);
            None
        }
        Ok(_) => Some("cel expression must evaluate to a bool".to_owned()),
    };
    let failed = refused.is_some();
    if let Some(detail) = refused {
        errors.push(FieldError::invalid(&at.child("rule"), printed(stated), detail));
    }
    if !failed && !rule.message_expression.is_empty() {
        let compiled = rule::compile(&rule.message_expression).and_then(|program| {
            let checked = checker::check(&program, &variables);
            let (kind, kinds) = checked.map_err(|faults| format!("compilation failed: {faults}"))?;
            Ok((kind, estimate::cost(program.expression(), &budget.about, &kinds)))
        });
        let detail = match compiled {
            Err(fault) => Some(format!("messageExpression {fault}")),
            Ok((Kind::Simple("string") | Kind::Dyn, cost)) => {
                let at = at.child("messageExpression");
                budget.costs.add(&at, "messageExpression", cost, errors);
                None
            }
            Ok(_) => Some("messageExpression must evaluate to a string".to_owned()),
        };
        if let Some(detail) = detail {
            let at = at.child("messageExpression");
            errors.push(FieldError::invalid(&at, printed(stated), detail));
        }
    }
    if uses_old_self && !failed {
        if let Some(within) = uncorrelated {
            errors.push(FieldError::invalid(
                &at.child("rule"),
                rule.rule.as_str(),
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"),
            ));
        }
    } else if let Some(optional) = stated.get("optionalOldSelf").filter(|v| !v.is_null()) {
        errors.push(FieldError::invalid(
            &at.child("optionalOldSelf"),
            optional.clone(),
            "may not be set if oldSelf is not used in rule",
        ));
    }
}

/// A rule as kube-apiserver prints it: by the names of its own fields.
fn printed(rule: &Value) -> Value {
    let field = |name: &str| rule.get(name).cloned();
    let text = |name: &str| field(name).unwrap_or_else(|| "".into());
    json!({
        "Rule": text("rule"),
        "Message": text("message"),
        "MessageExpression": text("messageExpression"),
        "Reason": field("reason"),
        "FieldPath": text("fieldPath"),
        "OptionalOldSelf": field("optionalOldSelf"),
    })
}

//! Policies that are checked in the server itself, and what binds them.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::{FAILURE_POLICIES, MATCH_POLICIES, validate_conditions, validate_rule};
use crate::strategies::apps::template::spec;
use crate::strategies::checks::{invalid_for, is_empty, items, label_selector, one_of, text};

/// What is wrong with a ValidatingAdmissionPolicy.
pub(super) fn validate_policy(policy: &Value) -> Vec<FieldError> {
    let of = &policy["spec"];
    let mut errors = one_of(
        &of["failurePolicy"],
        &FAILURE_POLICIES,
        &spec().child("failurePolicy"),
    );
    if !of["paramKind"].is_null() {
        errors.extend(param_kind(&of["paramKind"], &spec().child("paramKind")));
    }
    let (constraints, at) = (&of["matchConstraints"], spec().child("matchConstraints"));
    if constraints.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(match_resources(constraints, &at));
        if is_empty(&constraints["resourceRules"]) {
            errors.push(FieldError::required(&at.child("resourceRules"), ""));
        }
    }
    errors.extend(validate_conditions(
        &of["matchConditions"],
        &spec().child("matchConditions"),
        |_| None,
    ));
    for (i, variable) in items(&of["variables"]).iter().enumerate() {
        let at = spec().child("variables").index(i);
        for field in ["name", "expression"] {
            if text(&variable[field]).trim().is_empty() {
                errors.push(FieldError::required(
                    &at.child(field),
                    format!("{field} is not specified"),
                ));
            }
        }
    }
    let (validations, audits) = (items(&of["validations"]), items(&of["auditAnnotations"]));
    if validations.is_empty() && audits.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(&spec().child(field), why));
        }
    }
    for (i, validation) in validations.iter().enumerate() {
        errors.extend(validate_validation(
            validation,
            &spec().child("validations").index(i),
        ));
    }
    errors.extend(audit_annotations(policy, audits));
    errors
}

fn param_kind(kind: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (version, version_at) = (text(&kind["apiVersion"]), at.child("apiVersion"));
    let mut errors = Vec::new();
    let mut wrong =
        |at: &FieldPath, shown: &str, why: String| errors.push(FieldError::invalid(at, shown, why));
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => {}
        [.., version_part] if version.matches('/').count() <= 1 => {
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let messages = names::dns1123_subdomain(group);
            if !group.is_empty() && !messages.is_empty() {
                wrong(&version_at, group, messages.join(","));
            }
            let messages = names::dns1035_label(version_part);
            if version_part.is_empty() {
                wrong(&version_at, version, "version must be specified".to_owned());
            } else if !messages.is_empty() {
                wrong(&version_at, version_part, messages.join(","));
            }
        }
        _ => wrong(
            &version_at,
            version,
            format!("unexpected GroupVersion string: {version}"),
        ),
    }
    let name = text(&kind["kind"]);
    let messages = if name.is_empty() {
        Vec::new()
    } else {
        names::dns1035_label(&name.to_lowercase())
    };
    if !messages.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            messages.join(",")
        );
        wrong(&at.child("kind"), name, why);
    }
    for (field, value) in [("apiVersion", version), ("kind", name)] {
        if value.is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    errors
}

fn match_resources(resources: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = one_of(
        &resources["matchPolicy"],
        &MATCH_POLICIES,
        &at.child("matchPolicy"),
    );
    for selector in ["namespaceSelector", "objectSelector"] {
        errors.extend(label_selector(&resources[selector], &at.child(selector)));
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in items(&resources[rules]).iter().enumerate() {
            let at = at.child(rules).index(i);
            let names_ = items(&rule["resourceNames"]);
            for (i, name) in names_.iter().enumerate() {
                let at = at.child("resourceNames").index(i);
                errors.extend(invalid_for(names::path_segment(text(name)), name, &at));
                if names_.iter().take(i).any(|earlier| earlier == name) {
                    errors.push(FieldError::duplicate(&at, name.clone()));
                }
            }
            errors.extend(validate_rule(rule, &at));
        }
    }
    errors
}

fn validate_validation(validation: &Value, at: &FieldPath) -> Vec<FieldError> {
    const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    let mut errors = Vec::new();
    if text(&validation["expression"]).trim().is_empty() {
        errors.push(FieldError::required(
            &at.child("expression"),
            "expression is not specified",
        ));
    }
    for field in ["messageExpression", "message"] {
        let value = text(&validation[field]);
        let why = if !value.is_empty() && value.trim().is_empty() {
            "must be non-empty if specified"
        } else if field == "message" && value.trim().contains(['\n', '\r']) {
            "must not contain line breaks"
        } else {
            continue;
        };
        errors.push(FieldError::invalid(&at.child(field), value, why));
    }
    if !validation["reason"].is_null() {
        errors.extend(one_of(&validation["reason"], &REASONS, &at.child("reason")));
    }
    errors
}

fn audit_annotations(policy: &Value, audits: &[Value]) -> Vec<FieldError> {
    const MOST: usize = 20;
    const LONGEST: usize = 5 * 1024;
    let at = spec().child("auditAnnotations");
    let mut errors = Vec::new();
    if audits.len() > MOST {
        let why = format!("must not have more than {MOST} auditAnnotations");
        errors.push(FieldError::invalid(&at, audits.to_vec(), why));
    }
    for (i, audit) in audits.iter().enumerate() {
        let at = at.index(i);
        let key = Value::from(format!(
            "{}/{}",
            text(&policy["metadata"]["name"]),
            text(&audit["key"])
        ));
        errors.extend(invalid_for(
            names::qualified_name(text(&key)),
            &key,
            &at.child("key"),
        ));
        let expression = text(&audit["valueExpression"]).trim();
        if expression.is_empty() {
            let why = "valueExpression is not specified";
            errors.push(FieldError::required(&at.child("valueExpression"), why));
        } else if expression.len() > LONGEST {
            let why = format!("must not exceed {LONGEST} bytes in length");
            errors.push(FieldError::required(&at.child("valueExpression"), why));
        }
        if audits
            .iter()
            .take(i)
            .any(|earlier| earlier["key"] == audit["key"])
        {
            errors.push(FieldError::duplicate(&at.child("key"), audit["key"].clone()));
        }
    }
    errors
}

/// What is wrong with a ValidatingAdmissionPolicyBinding.
pub(super) fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let of = &binding["spec"];
    let mut errors = Vec::new();
    let (policy, at) = (&of["policyName"], spec().child("policyName"));
    if text(policy).is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(invalid_for(names::dns1123_subdomain(text(policy)), policy, &at));
    }
    if !of["paramRef"].is_null() {
        errors.extend(param_ref(&of["paramRef"], &spec().child("paramRef")));
    }
    if !of["matchResources"].is_null() {
        errors.extend(match_resources(
            &of["matchResources"],
            &spec().child("matchResources"),
        ));
    }
    let (actions, at) = (items(&of["validationActions"]), spec().child("validationActions"));
    for (i, action) in actions.iter().enumerate() {
        errors.extend(one_of(action, &["Audit", "Deny", "Warn"], &at.index(i)));
        if actions.iter().take(i).any(|earlier| earlier == action) {
            errors.push(FieldError::duplicate(&at.index(i), action.clone()));
        }
    }
    if ["Deny", "Warn"]
        .iter()
        .all(|both| actions.iter().any(|action| action == both))
    {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(FieldError::invalid(&at, of["validationActions"].clone(), why));
    }
    if actions.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    errors
}

fn param_ref(reference: &Value, at: &FieldPath) -> Vec<FieldError> {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (&reference["name"], &reference["selector"]);
    let (named, selected) = (!text(name).is_empty(), !selector.is_null());
    let mut errors = Vec::new();
    if named {
        errors.extend(invalid_for(
            names::path_segment(text(name)),
            name,
            &at.child("name"),
        ));
    }
    if named && selected {
        errors.push(FieldError::forbidden(&at.child("name"), EITHER));
    }
    if selected {
        errors.extend(label_selector(selector, &at.child("selector")));
    }
    if named && selected {
        errors.push(FieldError::forbidden(&at.child("selector"), EITHER));
    }
    if !named && !selected {
        errors.push(FieldError::required(
            at,
            "one of name or selector must be specified",
        ));
    }
    let (action, at) = (
        &reference["parameterNotFoundAction"],
        at.child("parameterNotFoundAction"),
    );
    if text(action).is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(one_of(action, &["Deny", "Allow"], &at));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn policies_validate_something() {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        let matched = json!({"matchPolicy": "Exact", "resourceRules": [rule]});
        let cases: [(Value, &[&str]); 3] = [
            (
                json!({"failurePolicy": "Fail", "matchConstraints": matched, "validations": [{"expression": "true"}]}),
                &[],
            ),
            (
                json!({"failurePolicy": "Fail"}),
                &[
                    "spec.matchConstraints: Required value",
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            (
                json!({"failurePolicy": "Fail", "matchConstraints": matched, "paramKind": {"apiVersion": "a/b/c", "kind": "K"},
                    "validations": [{"expression": "true", "message": " "}]}),
                &[
                    "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                    "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let policy = json!({"metadata": {"name": "p"}, "spec": spec});
            assert_eq!(told(&validate_policy(&policy)), expected, "{spec}");
        }
    }

    #[test]
    fn bindings_name_a_policy_and_actions() {
        let binding =
            json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {}}});
        let expected = [
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the \
             same validation failure information in the API response and headers serves no purpose)",
        ];
        assert_eq!(told(&validate_binding(&binding)), expected);
    }
}

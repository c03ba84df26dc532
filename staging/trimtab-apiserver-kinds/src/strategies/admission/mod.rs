//! Kinds of `admissionregistration.k8s.io`: who else looks at requests, and at which.

mod policies;
mod webhooks;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use self::policies::{
    validate_binding, validate_mutating_binding, validate_mutating_policy, validate_policy, warn_of_name,
};
use super::checks::{default_to, invalid_for, is_empty, items, items_mut, object, one_of, text};
use super::rules::Rules;
use super::storage::keep_metadata;

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    const ANY: Rules = Rules {
        generation: true,
        unconditional_update: false,
        ..Rules::NO_STATUS
    };
    Some(match kind {
        "ValidatingWebhookConfiguration" => Rules {
            default: |configuration| webhooks::default(configuration, false),
            validate: |configuration| webhooks::validate(configuration, false),
            ..ANY
        },
        "MutatingWebhookConfiguration" => Rules {
            default: |configuration| webhooks::default(configuration, true),
            validate: |configuration| webhooks::validate(configuration, true),
            ..ANY
        },
        "ValidatingAdmissionPolicy" => Rules {
            status: true,
            default: default_policy,
            prepare_status: keep_metadata,
            validate: |policy| validate_policy(policy, None),
            validate_update: Some(|policy, old| validate_policy(policy, Some(old))),
            validate_status: |policy, _| policies::validate_status(policy),
            warnings: |policy, _| warn_of_name(policy),
            ..ANY
        },
        "MutatingAdmissionPolicy" => Rules {
            default: default_policy,
            validate: |policy| validate_mutating_policy(policy, None),
            validate_update: Some(|policy, old| validate_mutating_policy(policy, Some(old))),
            warnings: |policy, _| warn_of_name(policy),
            ..ANY
        },
        "ValidatingAdmissionPolicyBinding" => Rules {
            default: default_binding,
            validate: validate_binding,
            warnings: |binding, _| warn_of_name(binding),
            ..ANY
        },
        "MutatingAdmissionPolicyBinding" => Rules {
            default: default_binding,
            validate: validate_mutating_binding,
            warnings: |binding, _| warn_of_name(binding),
            ..ANY
        },
        _ => return None,
    })
}

fn default_policy(policy: &mut Value) {
    let spec = object(policy, "spec");
    default_to(spec, "failurePolicy", "Fail");
    default_match(spec, "matchConstraints");
}

fn default_binding(binding: &mut Value) {
    if let Some(spec) = binding.get_mut("spec") {
        default_match(spec, "matchResources");
    }
}

/// Fills in what says which objects are looked at.
fn default_selectors(parent: &mut Value) {
    default_to(parent, "matchPolicy", "Equivalent");
    default_to(parent, "namespaceSelector", json!({}));
    default_to(parent, "objectSelector", json!({}));
}

fn default_match(spec: &mut Value, field: &str) {
    let Some(resources) = spec.get_mut(field).filter(|r| r.is_object()) else {
        return;
    };
    default_selectors(resources);
    for rules in ["resourceRules", "excludeResourceRules"] {
        default_scopes(resources, rules);
    }
}

fn default_scopes(parent: &mut Value, rules: &str) {
    for rule in items_mut(parent, rules) {
        default_to(rule, "scope", "*");
    }
}

/// A star, which stands for all, stands alone.
fn alone(list: &Value, others: &str, at: &FieldPath) -> Option<FieldError> {
    let all = items(list);
    (all.len() > 1 && all.iter().any(|item| item == "*")).then(|| {
        let why = format!("if '*' is present, must not specify other {others}");
        FieldError::invalid(at, list.clone(), why)
    })
}

/// What is wrong with a rule of operations and resources.
fn validate_rule(rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let mut errors = Vec::new();
    for (field, others) in [
        ("operations", "operations"),
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
    ] {
        let (list, at) = (&rule[field], at.child(field));
        if is_empty(list) {
            errors.push(FieldError::required(&at, ""));
        }
        errors.extend(alone(list, others, &at));
        for (i, item) in items(list).iter().enumerate() {
            match field {
                "operations" => errors.extend(one_of(item, &OPERATIONS, &at.index(i))),
                "apiVersions" if text(item).is_empty() => errors.push(FieldError::required(&at.index(i), "")),
                _ => {}
            }
        }
    }
    errors.extend(validate_resources(&rule["resources"], &at.child("resources")));
    if !rule["scope"].is_null() {
        errors.extend(one_of(
            &rule["scope"],
            &["*", "Cluster", "Namespaced"],
            &at.child("scope"),
        ));
    }
    errors
}

fn validate_resources(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let resources: Vec<&str> = items(list).iter().map(text).collect();
    let mut errors = Vec::new();
    if resources.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    let (mut all_of_resource, mut of_all_resources) = (Vec::new(), Vec::new());
    let mut plain = false;
    for (i, resource) in resources.iter().enumerate() {
        let at = at.index(i);
        if resource.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let Some((own, sub)) = resource.split_once('/') else {
            plain = *resource != "*";
            continue;
        };
        if all_of_resource.contains(&own) {
            let why = format!("if '{own}/*' is present, must not specify {resource}");
            errors.push(FieldError::invalid(&at, *resource, why));
        }
        if of_all_resources.contains(&sub) {
            let why = format!("if '*/{sub}' is present, must not specify {resource}");
            errors.push(FieldError::invalid(&at, *resource, why));
        }
        if sub == "*" {
            all_of_resource.push(own);
        }
        if own == "*" {
            of_all_resources.push(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(at, list.clone(), why));
    }
    if resources.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(at, list.clone(), why));
    }
    errors
}

/// What is wrong with conditions on requests; `fault` says what is wrong with an expression.
fn validate_conditions(
    conditions: &Value,
    at: &FieldPath,
    fault: impl Fn(&str) -> Option<String>,
) -> Vec<FieldError> {
    const MOST: usize = 64;
    let all = items(conditions);
    let mut errors = Vec::new();
    if all.len() > MOST {
        errors.push(FieldError::too_many(at, all.len(), MOST));
    }
    for (i, condition) in all.iter().enumerate() {
        let at = at.index(i);
        let expression = text(&condition["expression"]).trim();
        if expression.is_empty() {
            errors.push(FieldError::required(&at.child("expression"), ""));
        } else if let Some(why) = fault(expression) {
            errors.push(FieldError::invalid(&at.child("expression"), expression, why));
        }
        let (name, at) = (&condition["name"], at.child("name"));
        if text(name).is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let messages = trimtab_apimachinery_meta::names::qualified_name(text(name));
        errors.extend(invalid_for(messages, name, &at));
        if all.iter().take(i).any(|earlier| earlier["name"] == *name) {
            errors.push(FieldError::duplicate(&at, name.clone()));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn rules_name_operations_and_resources() {
        let rule = |change: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "*"});
            for (field, value) in change.as_object().into_iter().flatten() {
                rule[field] = value.clone();
            }
            rule
        };
        let cases: [(Value, &[&str]); 4] = [
            (json!({}), &[]),
            (
                json!({"operations": ["*", "MAKE"], "apiVersions": []}),
                &[
                    "r.operations: Invalid value: [\"*\",\"MAKE\"]: if '*' is present, must not specify other operations",
                    "r.operations[1]: Unsupported value: \"MAKE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \
                     \"DELETE\", \"UPDATE\"",
                    "r.apiVersions: Required value",
                ],
            ),
            (
                json!({"resources": ["pods/*", "pods/status"]}),
                &[
                    "r.resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
                ],
            ),
            (
                json!({"resources": ["*", "pods"], "scope": "All"}),
                &[
                    "r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources \
                     without subresources",
                    "r.scope: Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
                ],
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(
                told(&validate_rule(&rule(change.clone()), &FieldPath::new("r"))),
                expected,
                "{change}"
            );
        }
    }
}

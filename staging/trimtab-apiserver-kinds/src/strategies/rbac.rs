//! Roles and who has them.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{default_text, invalid_for, is_empty, items, items_mut, label_selector, object, text};
use super::rules::Rules;

const GROUP: &str = "rbac.authorization.k8s.io";

const ANY: Rules = Rules {
    create_on_update: true,
    name: names::path_segment,
    ..Rules::NO_STATUS
};

const BINDING: Rules = Rules {
    default: default_binding,
    ..ANY
};

/// The rules of a kind of `rbac.authorization.k8s.io`.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "Role" => Rules {
            default: default_role,
            validate: |role| policy_rules(role, true),
            ..ANY
        },
        "ClusterRole" => Rules {
            default: default_role,
            validate: |role| {
                let mut errors = policy_rules(role, false);
                errors.extend(aggregation(&role["aggregationRule"]));
                errors
            },
            ..ANY
        },
        "RoleBinding" => Rules {
            validate: |binding| validate_binding(binding, true),
            validate_update: Some(|new, old| update_binding(new, old, true)),
            ..BINDING
        },
        "ClusterRoleBinding" => Rules {
            validate: |binding| validate_binding(binding, false),
            validate_update: Some(|new, old| update_binding(new, old, false)),
            ..BINDING
        },
        _ => return None,
    })
}

/// Go writes the rules even when there are none.
fn default_role(role: &mut Value) {
    if role["rules"].is_null() {
        role["rules"] = Value::Null;
    }
}

fn default_binding(binding: &mut Value) {
    default_text(object(binding, "roleRef"), "apiGroup", GROUP);
    for subject in items_mut(binding, "subjects") {
        if matches!(text(&subject["kind"]), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

fn policy_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, rule) in items(&role["rules"]).iter().enumerate() {
        let at = FieldPath::new("rules").index(i);
        let mut required = |field: &str, why: &str| {
            if is_empty(&rule[field]) {
                errors.push(FieldError::required(&at.child(field), why));
            }
        };
        required("verbs", "verbs must contain at least one value");
        let urls = &rule["nonResourceURLs"];
        if is_empty(urls) {
            required("apiGroups", "resource rules must supply at least one api group");
            required("resources", "resource rules must supply at least one resource");
            continue;
        }
        let at = at.child("nonResourceURLs");
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&at, urls.clone(), why));
        }
        if ["apiGroups", "resources", "resourceNames"]
            .iter()
            .any(|field| !is_empty(&rule[*field]))
        {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&at, urls.clone(), why));
        }
    }
    errors
}

fn aggregation(rule: &Value) -> Vec<FieldError> {
    if rule.is_null() {
        return Vec::new();
    }
    let at = FieldPath::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = items(&rule["clusterRoleSelectors"]);
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        return vec![FieldError::required(&at, why)];
    }
    let mut errors = Vec::new();
    for (i, selector) in selectors.iter().enumerate() {
        let wrong = label_selector(selector, &at.index(i));
        let senseless = !wrong.is_empty();
        errors.extend(wrong);
        if senseless {
            errors.push(FieldError::invalid(
                &at.index(i),
                Value::Null,
                "invalid label selector.",
            ));
        }
    }
    errors
}

fn validate_binding(binding: &Value, namespaced: bool) -> Vec<FieldError> {
    let (role, at) = (&binding["roleRef"], FieldPath::new("roleRef"));
    let mut errors = Vec::new();
    if text(&role["apiGroup"]) != GROUP {
        let at = at.child("apiGroup");
        errors.push(FieldError::not_supported(&at, text(&role["apiGroup"]), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&text(&role["kind"])) {
        errors.push(FieldError::not_supported(
            &at.child("kind"),
            text(&role["kind"]),
            kinds,
        ));
    }
    if text(&role["name"]).is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        let messages = names::path_segment(text(&role["name"]));
        errors.extend(invalid_for(messages, &role["name"], &at.child("name")));
    }
    for (i, subject) in items(&binding["subjects"]).iter().enumerate() {
        let at = FieldPath::new("subjects").index(i);
        errors.extend(validate_subject(subject, namespaced, &at));
    }
    errors
}

fn validate_subject(subject: &Value, namespaced: bool, at: &FieldPath) -> Vec<FieldError> {
    let (name, group) = (text(&subject["name"]), text(&subject["apiGroup"]));
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    let own_group = match text(&subject["kind"]) {
        "ServiceAccount" => "",
        "User" | "Group" => GROUP,
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(&at.child("kind"), other, &kinds));
            return errors;
        }
    };
    if own_group.is_empty() && !name.is_empty() {
        let messages = names::dns1123_subdomain(name);
        errors.extend(invalid_for(messages, &subject["name"], &at.child("name")));
    }
    if group != own_group {
        errors.push(FieldError::not_supported(
            &at.child("apiGroup"),
            group,
            &[own_group],
        ));
    }
    if own_group.is_empty() && !namespaced && text(&subject["namespace"]).is_empty() {
        errors.push(FieldError::required(&at.child("namespace"), ""));
    }
    errors
}

fn update_binding(new: &Value, old: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = validate_binding(new, namespaced);
    let role = &new["roleRef"];
    if *role != old["roleRef"] {
        let part = |field: &str| text(&role[field]);
        let shown = json!({"APIGroup": part("apiGroup"), "Kind": part("kind"), "Name": part("name")});
        errors.push(FieldError::invalid(
            &FieldPath::new("roleRef"),
            shown,
            "cannot change roleRef",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn rules_are_about_resources_or_about_urls() {
        let cases: [(Value, &[&str]); 3] = [
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
                &[],
            ),
            (
                json!({}),
                &[
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            (
                json!({"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and \
                     non-resource URLs",
                ],
            ),
        ];
        for (rule, expected) in cases {
            assert_eq!(
                told(&policy_rules(&json!({"rules": [rule]}), true)),
                expected,
                "{rule}"
            );
        }
    }

    #[test]
    fn bindings_keep_their_role() {
        let mut old = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "S"}]});
        default_binding(&mut old);
        assert_eq!(old["subjects"][0]["apiGroup"], GROUP);
        assert!(old["subjects"][1].get("apiGroup").is_none());
        let mut new = old.clone();
        new["roleRef"]["name"] = "other".into();
        new["subjects"] = json!([{"kind": "ServiceAccount", "apiGroup": "x"}]);
        let expected = [
            "subjects[0].name: Required value",
            "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"\"",
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"other\"}: \
             cannot change roleRef",
        ];
        assert_eq!(told(&update_binding(&new, &old, true)), expected);
    }
}

//! The rules of flow schemas: which requests they may be about.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{is_empty, items, text};

const EVERY: &str = "*";
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// What is wrong with the things that the subjects of a rule do.
pub(super) fn validate_things(rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, rule) in items(&rule["resourceRules"]).iter().enumerate() {
        let at = at.child("resourceRules").index(i);
        errors.extend(verbs(rule, &at));
        for (field, what, one) in [
            ("apiGroups", "api groups", "api group"),
            ("resources", "resources", "resource"),
        ] {
            let (list, at) = (&rule[field], at.child(field));
            if is_empty(list) {
                let why = format!("resource rules must supply at least one {one}");
                errors.push(FieldError::required(&at, why));
            } else {
                errors.extend(more_than_all(list, &at, what));
            }
        }
        errors.extend(namespaces(rule, &at));
    }
    for (i, rule) in items(&rule["nonResourceRules"]).iter().enumerate() {
        let at = at.child("nonResourceRules").index(i);
        errors.extend(verbs(rule, &at));
        errors.extend(paths(rule, &at));
    }
    errors
}

fn has_all(list: &Value) -> bool {
    items(list).iter().any(|item| text(item) == EVERY)
}

fn more_than_all(list: &Value, at: &FieldPath, what: &str) -> Option<FieldError> {
    let more = has_all(list) && items(list).len() > 1;
    let why = format!("if '*' is present, must not specify other {what}");
    more.then(|| FieldError::invalid(at, list.clone(), why))
}

fn verbs(rule: &Value, at: &FieldPath) -> Option<FieldError> {
    let (verbs, at) = (&rule["verbs"], at.child("verbs"));
    if is_empty(verbs) {
        return Some(FieldError::required(&at, "verbs must contain at least one value"));
    }
    if has_all(verbs) {
        return more_than_all(verbs, &at, "verbs");
    }
    let unknown = items(verbs).iter().any(|verb| !VERBS.contains(&text(verb)));
    unknown.then(|| FieldError::not_supported(&at, verbs.clone(), &VERBS))
}

fn namespaces(rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (namespaces, at) = (&rule["namespaces"], at.child("namespaces"));
    if is_empty(namespaces) && rule["clusterScope"].as_bool() != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        return vec![FieldError::required(&at, why)];
    }
    if has_all(namespaces) {
        return more_than_all(namespaces, &at, "namespaces").into_iter().collect();
    }
    let mut errors = Vec::new();
    for (i, namespace) in items(namespaces).iter().enumerate() {
        for why in names::dns1123_label(text(namespace)) {
            let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            errors.push(FieldError::invalid(&at.index(i), namespace.clone(), why));
        }
    }
    errors
}

fn paths(rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (paths, at) = (&rule["nonResourceURLs"], at.child("nonResourceURLs"));
    if is_empty(paths) {
        let why = "nonResourceURLs must contain at least one value";
        return vec![FieldError::required(&at, why)];
    }
    if has_all(paths) {
        return more_than_all(paths, &at, "non-resource URLs")
            .into_iter()
            .collect();
    }
    let wrong = items(paths).iter().enumerate();
    wrong
        .filter_map(|(i, path)| {
            Some(FieldError::invalid(
                &at.index(i),
                path.clone(),
                fault(text(path))?,
            ))
        })
        .collect()
}

/// Why this is no path.
fn fault(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    Some(match path {
        "/" => return None,
        "" => "must not be empty",
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn rules_say_what_they_are_about() {
        let verbs = "\"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"";
        let cases = [
            (
                json!({"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["a/b"], "namespaces": ["*"]}],
                       "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/", "/a/*", "/b"]}]}),
                vec![],
            ),
            (
                json!({"resourceRules": [{"clusterScope": true}]}),
                vec![
                    "r.resourceRules[0].verbs: Required value: verbs must contain at least one value".to_owned(),
                    "r.resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group".to_owned(),
                    "r.resourceRules[0].resources: Required value: resource rules must supply at least one resource".to_owned(),
                ],
            ),
            (
                json!({"resourceRules": [{"verbs": ["*", "get"], "apiGroups": ["", "*"], "resources": ["*"], "namespaces": []}]}),
                vec![
                    "r.resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs".to_owned(),
                    "r.resourceRules[0].apiGroups: Invalid value: [\"\",\"*\"]: if '*' is present, must not specify other api groups".to_owned(),
                    "r.resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at \
                     least one namespace".to_owned(),
                ],
            ),
            (
                json!({"nonResourceRules": [{"verbs": ["head"], "nonResourceURLs": ["a", "/a*", "/a b", "//"]}]}),
                vec![
                    format!("r.nonResourceRules[0].verbs: Unsupported value: [\"head\"]: supported values: {verbs}"),
                    "r.nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash".to_owned(),
                    "r.nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do suffix matching".to_owned(),
                    "r.nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"/a b\": must not contain white-space".to_owned(),
                    "r.nonResourceRules[0].nonResourceURLs[3]: Invalid value: \"//\": must not contain double slash".to_owned(),
                ],
            ),
        ];
        for (rule, expected) in cases {
            assert_eq!(
                told(&validate_things(&rule, &FieldPath::new("r"))),
                expected,
                "{rule}"
            );
        }
    }
}

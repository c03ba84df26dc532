//! Configurations of webhooks.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};
use trimtab_apimachinery_schema::structural::Condition;

use super::{
    FAILURE_POLICIES, MATCH_POLICIES, default_scopes, default_selectors, validate_conditions, validate_rule,
};
use crate::strategies::checks::{default_to, int, items, items_mut, label_selector, one_of, text};
use crate::strategies::webhook_client::{validate_service, validate_url};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn default(configuration: &mut Value, mutating: bool) {
    for hook in items_mut(configuration, "webhooks") {
        default_to(hook, "failurePolicy", "Fail");
        default_selectors(hook);
        default_to(hook, "timeoutSeconds", 10);
        if mutating {
            default_to(hook, "reinvocationPolicy", "Never");
        }
        default_scopes(hook, "rules");
        let service = hook.get_mut("clientConfig").and_then(|c| c.get_mut("service"));
        if let Some(service) = service {
            default_to(service, "port", 443);
        }
    }
}

pub(super) fn validate(configuration: &Value, mutating: bool) -> Vec<FieldError> {
    let hooks = items(&configuration["webhooks"]);
    let mut errors = Vec::new();
    for (i, hook) in hooks.iter().enumerate() {
        let at = FieldPath::new("webhooks").index(i);
        errors.extend(validate_hook(hook, mutating, &at));
        errors.extend(review_versions(
            &hook["admissionReviewVersions"],
            &at.child("admissionReviewVersions"),
        ));
        let name = text(&hook["name"]);
        if !name.is_empty() && hooks.iter().take(i).any(|earlier| text(&earlier["name"]) == name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
    }
    errors
}

fn validate_hook(hook: &Value, mutating: bool, at: &FieldPath) -> Vec<FieldError> {
    const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
    let mut errors: Vec<FieldError> = qualified(text(&hook["name"]), &at.child("name"))
        .into_iter()
        .collect();
    for (i, rule) in items(&hook["rules"]).iter().enumerate() {
        errors.extend(validate_rule(rule, &at.child("rules").index(i)));
    }
    errors.extend(one_of(
        &hook["failurePolicy"],
        &FAILURE_POLICIES,
        &at.child("failurePolicy"),
    ));
    errors.extend(one_of(
        &hook["matchPolicy"],
        &MATCH_POLICIES,
        &at.child("matchPolicy"),
    ));
    let effects_at = at.child("sideEffects");
    if hook["sideEffects"].is_null() {
        let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
        errors.push(FieldError::required(&effects_at, why));
    } else {
        errors.extend(one_of(&hook["sideEffects"], &SIDE_EFFECTS, &effects_at));
    }
    let timeout = &hook["timeoutSeconds"];
    if !timeout.is_null() && !(1..=30).contains(&int(timeout)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(
            &at.child("timeoutSeconds"),
            timeout.clone(),
            why,
        ));
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        errors.extend(label_selector(&hook[selector], &at.child(selector)));
    }
    if mutating {
        let supported = ["IfNeeded", "Never"];
        errors.extend(one_of(
            &hook["reinvocationPolicy"],
            &supported,
            &at.child("reinvocationPolicy"),
        ));
    }
    errors.extend(client(&hook["clientConfig"], &at.child("clientConfig")));
    errors.extend(validate_conditions(
        &hook["matchConditions"],
        &at.child("matchConditions"),
        |expression| Condition::new(expression).fault().map(str::to_owned),
    ));
    errors
}

/// A domain name of three parts.
fn qualified(name: &str, at: &FieldPath) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::required(at, ""));
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        return Some(FieldError::invalid(at, name, wrong.join(",")));
    }
    let why = "should be a domain with at least three segments separated by dots";
    (name.split('.').count() < 3).then(|| FieldError::invalid(at, name, why))
}

fn review_versions(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let versions: Vec<&str> = items(list).iter().map(text).collect();
    if versions.is_empty() {
        let why = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        return vec![FieldError::required(at, why)];
    }
    let mut errors = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        if versions.iter().take(i).any(|earlier| earlier == version) {
            errors.push(FieldError::invalid(&at.index(i), *version, "duplicate version"));
            continue;
        }
        let messages = names::dns1035_label(version);
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(&at.index(i), *version, m)),
        );
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(at, list.clone(), why));
    }
    errors
}

fn client(config: &Value, at: &FieldPath) -> Vec<FieldError> {
    match (config["url"].as_str(), &config["service"]) {
        (Some(url), Value::Null) => validate_url(url, &at.child("url")),
        (None, service) if !service.is_null() => validate_service(service, &at.child("service")),
        _ => vec![FieldError::required(
            at,
            "exactly one of url or service is required",
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let hook = json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/x"}}});
        let cases: [(Value, &[&str]); 4] = [
            (json!({}), &[]),
            (
                json!({"name": "a", "sideEffects": "Some", "timeoutSeconds": 31}),
                &[
                    "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
                    "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ],
            ),
            (
                json!({"clientConfig": {"url": "http://u@h/p?q#f"}, "admissionReviewVersions": ["v2"]}),
                &[
                    "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired \
                     format: https://host[/path]",
                    "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                    "webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
                    "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
                    "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
                ],
            ),
            (
                json!({"clientConfig": {}, "matchConditions": [{"name": "c", "expression": " "},
                    {"name": "d", "expression": "foo"}, {"name": "e", "expression": "object.n == 1"}]}),
                &[
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                    "webhooks[0].matchConditions[0].expression: Required value",
                    "webhooks[0].matchConditions[1].expression: Invalid value: \"foo\": compilation failed: ERROR: \
                     <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^",
                ],
            ),
        ];
        for (change, expected) in cases {
            let mut hook = hook.clone();
            for (field, value) in change.as_object().into_iter().flatten() {
                hook[field] = value.clone();
            }
            let mut configuration = json!({"webhooks": [hook]});
            default(&mut configuration, true);
            assert_eq!(told(&validate(&configuration, true)), expected, "{change}");
        }
    }
}

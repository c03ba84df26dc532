//! Configurations of webhooks.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::{
    FAILURE_POLICIES, MATCH_POLICIES, default_scopes, default_selectors, validate_conditions, validate_rule,
};
use crate::strategies::checks::{
    default_text, default_to, int, items, items_mut, label_selector, one_of, text,
};
use crate::strategies::core::words::port_number;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn default(configuration: &mut Value, mutating: bool) {
    for hook in items_mut(configuration, "webhooks") {
        default_text(hook, "failurePolicy", "Fail");
        default_selectors(hook);
        default_to(hook, "timeoutSeconds", 10);
        if mutating {
            default_text(hook, "reinvocationPolicy", "Never");
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

fn validate_url(url: &str, at: &FieldPath) -> Vec<FieldError> {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = match url.contains("://") {
        true => rest.split('/').next().unwrap_or_default(),
        false => "",
    };
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(u, h)| (Some(u), h));
    let mut errors = Vec::new();
    let mut wrong = |shown: &str, why: String| errors.push(FieldError::invalid(at, shown, why));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        wrong(host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        wrong(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL".to_owned());
    }
    errors
}

fn validate_service(service: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // Kubernetes takes the one for the other when it tells of them.
    for (field, told_as) in [("namespace", "name"), ("name", "namespace")] {
        if text(&service[field]).is_empty() {
            errors.push(FieldError::required(&at.child(told_as), ""));
        }
    }
    let port = int(&service["port"]);
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&at.child("port"), port, why));
    }
    let path = text(&service["path"]);
    if matches!(path, "" | "/") {
        return errors;
    }
    let mut wrong = |why: String| errors.push(FieldError::invalid(&at.child("path"), path, why));
    if path == "//" {
        wrong("segment[0] may not be empty".to_owned());
        return errors;
    }
    if !path.starts_with('/') {
        wrong("must start with a '/'".to_owned());
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            wrong(format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            wrong(format!("segment[{i}]: {message}"));
        }
    }
    errors
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
                json!({"clientConfig": {}, "matchConditions": [{"name": "c", "expression": " "}]}),
                &[
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                    "webhooks[0].matchConditions[0].expression: Required value",
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

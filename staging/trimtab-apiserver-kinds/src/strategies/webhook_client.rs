//! What the `clientConfig` of a webhook may say, be it called for admission or for conversion.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{int, text};
use super::core::words::port_number;

/// What is wrong with the `url` of a webhook.
pub fn validate_url(url: &str, at: &FieldPath) -> Vec<FieldError> {
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

/// What is wrong with the `service` of a webhook.
pub fn validate_service(service: &Value, at: &FieldPath) -> Vec<FieldError> {
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

//! What names of ports, variables and keys may look like; the messages are those of Kubernetes.

use trimtab_apimachinery_meta::names;

/// The largest number that most counts of seconds and users may have.
pub(super) const MAX_INT32: i64 = i32::MAX as i64;

/// What is wrong with a text, in words.
pub(super) type Rule = fn(&str) -> Vec<String>;

/// What is said of a number outside of its bounds.
pub(super) fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// What is wrong with a number that is to lie between two others.
pub(super) fn in_range(number: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&number) {
        Vec::new()
    } else {
        vec![between(low, high)]
    }
}

/// What is wrong with the number of a port.
pub(in crate::strategies) fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// What is wrong with the name of a port, as IANA registers them.
pub(in crate::strategies) fn port_name(name: &str) -> Vec<String> {
    let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push("must be no more than 15 characters");
    }
    if name.is_empty() || !name.bytes().all(known) {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen");
    }
    errors.into_iter().map(str::to_owned).collect()
}

/// What is wrong with the name of an environment variable.
pub(super) fn variable_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(why.to_owned());
    }
    errors
}

/// What is wrong with a key of a `ConfigMap` or `Secret`.
pub(super) fn config_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > names::SUBDOMAIN_MAX {
        errors.push(format!(
            "must be no more than {} characters",
            names::SUBDOMAIN_MAX
        ));
    }
    let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    if key.is_empty() || !key.bytes().all(known) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match key {
        "." | ".." => errors.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// What is wrong with the name of an HTTP header.
pub(super) fn header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Vec::new();
    }
    let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
               validation is '[-A-Za-z0-9]+')";
    vec![why.to_owned()]
}

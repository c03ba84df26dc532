//! Ingresses and IngressClasses.

use std::net::IpAddr;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::apps::template::spec;
use crate::strategies::checks::{
    default_to, domain_prefixed_path, immutable, int, invalid_for, is_empty, items, text,
};
use crate::strategies::core::words::{port_name, port_number};
use crate::strategies::rules::Rules;

pub(super) const INGRESS: Rules = Rules {
    generation: true,
    validate: |ingress| {
        let mut errors = validate(ingress);
        let class = ingress["spec"]["ingressClassName"].as_str();
        let annotation = ingress["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        if let (Some(class), Some(annotation)) = (class, annotation)
            && class != annotation
        {
            let at = FieldPath::new("annotations").child(CLASS_ANNOTATION);
            let why = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(&at, annotation, why));
        }
        errors
    },
    validate_update: Some(|new, _| validate(new)),
    validate_status,
    warnings: |ingress, old| {
        let annotated = |object: &Value| object["metadata"]["annotations"][CLASS_ANNOTATION].is_string();
        let warning = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
        let new = old.is_none() && annotated(ingress);
        new.then(|| warning.to_owned()).into_iter().collect()
    },
    ..Rules::ORDINARY
};

pub(super) const INGRESS_CLASS: Rules = Rules {
    generation: true,
    default: |class| {
        if let Some(parameters) = class.get_mut("spec").and_then(|s| s.get_mut("parameters")) {
            default_to(parameters, "scope", "Cluster");
        }
    },
    validate: validate_class,
    validate_update: Some(|new, old| {
        let at = spec().child("controller");
        let mut errors = immutable(&new["spec"]["controller"], &old["spec"]["controller"], &at);
        errors.extend(validate_class(new));
        errors
    }),
    ..Rules::NO_STATUS
};

/// How classes were chosen before there were IngressClasses.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

fn validate(ingress: &Value) -> Vec<FieldError> {
    let of = &ingress["spec"];
    let mut errors = Vec::new();
    let (rules, backend) = (items(&of["rules"]), &of["defaultBackend"]);
    if rules.is_empty() && backend.is_null() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&spec(), of["rules"].clone(), why));
    }
    if !backend.is_null() {
        errors.extend(validate_backend(backend, &spec().child("defaultBackend")));
    }
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(validate_rule(rule, &spec().child("rules").index(i)));
    }
    for (i, tls) in items(&of["tls"]).iter().enumerate() {
        let at = spec().child("tls").index(i);
        for (i, host) in items(&tls["hosts"]).iter().enumerate() {
            errors.extend(invalid_for(
                host_rule(text(host)),
                host,
                &at.child("hosts").index(i),
            ));
        }
        let secret = &tls["secretName"];
        if !text(secret).is_empty() {
            let messages = names::dns1123_subdomain(text(secret));
            errors.extend(invalid_for(messages, secret, &at.child("secretName")));
        }
    }
    let class = &of["ingressClassName"];
    if class.is_string() {
        let messages = names::dns1123_subdomain(text(class));
        errors.extend(invalid_for(messages, class, &spec().child("ingressClassName")));
    }
    errors
}

/// What is wrong with a host, which may begin with a star.
fn host_rule(host: &str) -> Vec<String> {
    if !host.contains('*') {
        return names::dns1123_subdomain(host);
    }
    let mut errors = Vec::new();
    if host.len() > names::SUBDOMAIN_MAX {
        errors.push(format!(
            "must be no more than {} characters",
            names::SUBDOMAIN_MAX
        ));
    }
    let fits = |rest: &str| rest.len() > names::SUBDOMAIN_MAX || names::dns1123_subdomain(rest).is_empty();
    if !host.strip_prefix("*.").is_some_and(fits) {
        errors.push(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
             '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    errors
}

fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn validate_rule(rule: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let host = &rule["host"];
    if !text(host).is_empty() {
        let at = at.child("host");
        if is_ip(text(host)) {
            let why = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&at, text(host), why));
        }
        errors.extend(invalid_for(host_rule(text(host)), host, &at));
    }
    if rule["http"].is_null() {
        return errors;
    }
    let (paths, at) = (items(&rule["http"]["paths"]), at.child("http").child("paths"));
    if paths.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    for (i, path) in paths.iter().enumerate() {
        errors.extend(validate_path(path, &at.index(i)));
    }
    errors
}

fn validate_path(path: &Value, at: &FieldPath) -> Vec<FieldError> {
    const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const ENDS: [&str; 2] = ["/..", "/."];
    let type_ = &path["pathType"];
    if type_.is_null() {
        return vec![FieldError::required(
            &at.child("pathType"),
            "pathType must be specified",
        )];
    }
    let route = text(&path["path"]);
    let mut errors = Vec::new();
    let mut wrong = |why: String| errors.push(FieldError::invalid(&at.child("path"), route, why));
    let absolute = route.starts_with('/');
    match text(type_) {
        "Exact" | "Prefix" => {
            if !absolute {
                wrong("must be an absolute path".to_owned());
            }
            for sequence in SEQUENCES.iter().filter(|s| route.contains(**s)) {
                wrong(format!("must not contain '{sequence}'"));
            }
            for end in ENDS.iter().filter(|s| route.ends_with(**s)) {
                wrong(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !route.is_empty() && !absolute {
                wrong("must be an absolute path".to_owned());
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(
                &at.child("pathType"),
                other,
                &supported,
            ));
        }
    }
    errors.extend(validate_backend(&path["backend"], &at.child("backend")));
    errors
}

fn validate_backend(backend: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (resource, service) = (&backend["resource"], &backend["service"]);
    match (!resource.is_null(), !service.is_null()) {
        (true, true) => vec![FieldError::invalid(
            at,
            "",
            "cannot set both resource and service backends",
        )],
        (true, false) => reference(resource, &at.child("resource")),
        (false, true) => validate_service(service, at),
        (false, false) => vec![FieldError::invalid(
            at,
            "",
            "resource or service backend is required",
        )],
    }
}

fn validate_service(service: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = &service["name"];
    let name_at = at.child("service").child("name");
    if text(name).is_empty() {
        errors.push(FieldError::required(&name_at, ""));
    } else {
        errors.extend(invalid_for(names::dns1123_label(text(name)), name, &name_at));
    }
    let (name, number) = (&service["port"]["name"], &service["port"]["number"]);
    let port_at = at.child("service").child("port");
    match (!text(name).is_empty(), int(number) != 0) {
        (true, true) => errors.push(FieldError::invalid(
            at,
            "",
            "cannot set both port name & port number",
        )),
        (true, false) => errors.extend(invalid_for(port_name(text(name)), name, &port_at.child("name"))),
        (false, true) => {
            errors.extend(invalid_for(
                port_number(int(number)),
                number,
                &port_at.child("number"),
            ));
        }
        (false, false) => errors.push(FieldError::required(at, "port name or number is required")),
    }
    errors
}

/// A reference to an object by group, kind and name.
fn reference(reference: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = &reference["apiGroup"];
    if group.is_string() {
        errors.extend(invalid_for(
            names::dns1123_subdomain(text(group)),
            group,
            &at.child("apiGroup"),
        ));
    }
    for field in ["kind", "name"] {
        let (value, at) = (&reference[field], at.child(field));
        if is_empty(value) {
            errors.push(FieldError::required(&at, ""));
        } else {
            errors.extend(invalid_for(names::path_segment(text(value)), value, &at));
        }
    }
    errors
}

fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("loadBalancer").child("ingress");
    let known = items(&old["status"]["loadBalancer"]["ingress"]);
    let mut errors = Vec::new();
    for (i, point) in items(&new["status"]["loadBalancer"]["ingress"])
        .iter()
        .enumerate()
    {
        let (ip, host) = (text(&point["ip"]), &point["hostname"]);
        if !ip.is_empty() && !is_ip(ip) && !known.iter().any(|k| text(&k["ip"]) == ip) {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&at.index(i).child("ip"), ip, why));
        }
        if !text(host).is_empty() {
            let at = at.index(i).child("hostname");
            errors.extend(invalid_for(names::dns1123_subdomain(text(host)), host, &at));
            if is_ip(text(host)) {
                let why = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&at, text(host), why));
            }
        }
    }
    errors
}

fn validate_class(class: &Value) -> Vec<FieldError> {
    const LONGEST_CONTROLLER: usize = 250;
    let (controller, parameters) = (&class["spec"]["controller"], &class["spec"]["parameters"]);
    let at = spec().child("controller");
    let mut errors = Vec::new();
    if text(controller).len() > LONGEST_CONTROLLER {
        errors.push(FieldError::too_long(&at, LONGEST_CONTROLLER));
    }
    errors.extend(domain_prefixed_path(text(controller), &at));
    if parameters.is_null() {
        return errors;
    }
    let at = spec().child("parameters");
    errors.extend(reference(parameters, &at));
    let (namespace, namespace_at) = (&parameters["namespace"], at.child("namespace"));
    match text(&parameters["scope"]) {
        "Namespace" if namespace.is_null() => {
            let why = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(&namespace_at, why));
        }
        "Namespace" => {
            let messages = names::dns1123_label(text(namespace));
            errors.extend(invalid_for(messages, namespace, &namespace_at));
        }
        "Cluster" if namespace.is_null() => {}
        "Cluster" => {
            let why = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(&namespace_at, why));
        }
        other => {
            let supported = ["Cluster", "Namespace"];
            errors.push(FieldError::not_supported(&at.child("scope"), other, &supported));
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
        let service = json!({"service": {"name": "s", "port": {"number": 80}}});
        let rule = |path: Value| json!({"rules": [{"host": "a.b", "http": {"paths": [path]}}]});
        let cases: [(Value, &[&str]); 6] = [
            (json!({"defaultBackend": service}), &[]),
            (
                json!({}),
                &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            ),
            (
                rule(json!({"path": "/", "pathType": "Prefix", "backend": service})),
                &[],
            ),
            (
                rule(json!({"path": "a//b", "pathType": "Exact", "backend": {}})),
                &[
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
                ],
            ),
            (
                rule(json!({"backend": service})),
                &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
            ),
            (
                json!({"defaultBackend": {"service": {"name": "s", "port": {}}}, "tls": [{"hosts": ["*.a.b"]}]}),
                &["spec.defaultBackend: Required value: port name or number is required"],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(told(&validate(&json!({"spec": spec}))), expected, "{spec}");
        }
        assert_eq!(host_rule("*a.b").len(), 1);
        assert_eq!(host_rule("*.a.b"), Vec::<String>::new());
    }

    #[test]
    fn classes_name_a_controller_and_parameters() {
        let cases: [(Value, &[&str]); 3] = [
            (json!({"controller": "example.com/c"}), &[]),
            (
                json!({"controller": "c"}),
                &[
                    "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            (
                json!({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "namespace": "x"}}),
                &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            ),
        ];
        for (spec, expected) in cases {
            let mut class = json!({"spec": spec});
            (INGRESS_CLASS.default)(&mut class);
            assert_eq!(told(&validate_class(&class)), expected, "{spec}");
        }
    }
}

//! What is wrong with a container's probes and hooks.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use crate::strategies::checks::{all_non_negative, int, invalid_for, is_empty, items, one_of, text};
use crate::strategies::core::words::{header_name, port_name, port_number};

/// What a container does when it is asked how it is, or told what happens.
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// The three probes and the hooks; `grace` is how long the pod is given to end.
pub(super) fn validate_probes(container: &Value, grace: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if handler.is_object() {
            errors.extend(validate_handler(
                handler,
                grace,
                &at.child("lifecycle").child(hook),
            ));
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let (probe, at) = (&container[kind], at.child(kind));
        if !probe.is_object() {
            continue;
        }
        errors.extend(validate_probe(probe, grace, &at));
        let period = &probe["terminationGracePeriodSeconds"];
        if kind == "readinessProbe" {
            if !period.is_null() {
                let why = "must not be set for readinessProbes";
                let at = at.child("terminationGracePeriodSeconds");
                errors.push(FieldError::invalid(&at, period.clone(), why));
            }
        } else if int(&probe["successThreshold"]) != 1 {
            let threshold = int(&probe["successThreshold"]);
            errors.push(FieldError::invalid(
                &at.child("successThreshold"),
                threshold,
                "must be 1",
            ));
        }
    }
    errors
}

fn validate_probe(probe: &Value, grace: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_handler(probe, grace, at);
    let counts = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    errors.extend(all_non_negative(probe, &counts, at));
    if let Some(seconds) = probe["terminationGracePeriodSeconds"]
        .as_i64()
        .filter(|s| *s <= 0)
    {
        let at = at.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
    }
    errors
}

fn validate_handler(handler: &Value, grace: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = HANDLERS.into_iter().filter(|kind| handler[*kind].is_object());
    let Some(first) = found.next() else {
        return vec![FieldError::required(at, "must specify a handler type")];
    };
    let (action, path) = (&handler[first], at.child(first));
    match first {
        "exec" if is_empty(&action["command"]) => {
            errors.push(FieldError::required(&path.child("command"), ""))
        }
        "httpGet" => errors.extend(http_get(action, &path)),
        "tcpSocket" | "grpc" => errors.extend(port(&action["port"], &path.child("port"))),
        "sleep" => {
            let seconds = int(&action["seconds"]);
            // A negative period is treated as one second.
            let most = grace.as_i64().map(|most| if most < 0 { 1 } else { most });
            if let Some(most) = most.filter(|most| seconds < 0 || seconds > *most) {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
                errors.push(FieldError::invalid(&path, seconds, why));
            }
        }
        _ => {}
    }
    for other in found {
        errors.push(FieldError::forbidden(
            &at.child(other),
            "may not specify more than 1 handler type",
        ));
    }
    errors
}

fn http_get(get: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(&get["path"]).is_empty() {
        errors.push(FieldError::required(&at.child("path"), ""));
    }
    errors.extend(port(&get["port"], &at.child("port")));
    errors.extend(one_of(&get["scheme"], &["HTTP", "HTTPS"], &at.child("scheme")));
    for header in items(&get["httpHeaders"]) {
        let name = text(&header["name"]);
        errors.extend(invalid_for(
            header_name(name),
            &name.into(),
            &at.child("httpHeaders"),
        ));
    }
    errors
}

/// A port by its number or name.
pub(in crate::strategies::core) fn port(port: &Value, at: &FieldPath) -> Vec<FieldError> {
    match port {
        Value::String(name) => invalid_for(port_name(name), port, at),
        _ => invalid_for(port_number(int(port)), &int(port).into(), at),
    }
}

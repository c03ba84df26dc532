//! What is wrong with a container's environment.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::checks::{invalid_for, items, text};
use crate::strategies::core::words::{Rule, config_key, variable_name};
use crate::strategies::fields::quantity;

/// The fields of a pod that variables may take their value from.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields of a pod that files may take their content from.
pub(super) const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The fields of a pod that there are names for.
const KNOWN_FIELDS: [&str; 4] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "status.phase",
];

pub(super) fn validate_env(variables: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in items(variables).iter().enumerate() {
        let at = at.index(i);
        let name = text(&variable["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            errors.extend(invalid_for(variable_name(name), &name.into(), &at.child("name")));
        }
        if variable["valueFrom"].is_object() {
            errors.extend(value_from(variable, &at.child("valueFrom")));
        }
    }
    errors
}

fn value_from(variable: &Value, at: &FieldPath) -> Vec<FieldError> {
    let from = &variable["valueFrom"];
    let mut errors = Vec::new();
    let mut sources = 0;
    let known = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    for kind in known.into_iter().filter(|kind| from[*kind].is_object()) {
        sources += 1;
        let (source, at) = (&from[kind], at.child(kind));
        errors.extend(match kind {
            "fieldRef" => field_ref(source, &POD_FIELDS, &at),
            "resourceFieldRef" => resource_ref(source, false, &at),
            "fileKeyRef" => file_key(source, &at),
            _ => key_selector(source, &at),
        });
    }
    let why = if sources == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if !text(&variable["value"]).is_empty() {
        "may not be specified when `value` is not empty"
    } else if sources > 1 {
        "may not have more than one field specified at a time"
    } else {
        return errors;
    };
    errors.push(FieldError::invalid(at, "", why));
    errors
}

/// A reference to a field of the pod; `supported` are those without a subscript.
pub(super) fn field_ref(reference: &Value, supported: &[&str], at: &FieldPath) -> Vec<FieldError> {
    for required in ["apiVersion", "fieldPath"] {
        if text(&reference[required]).is_empty() {
            return vec![FieldError::required(&at.child(required), "")];
        }
    }
    let (version, path) = (text(&reference["apiVersion"]), text(&reference["fieldPath"]));
    let (name, subscript) = match path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        Some((name, subscript)) => (name, Some(subscript)),
        None => (path, None),
    };
    let known = POD_FIELDS.contains(&path)
        || KNOWN_FIELDS.contains(&path)
        || path == "spec.schedulerName"
        || subscript.is_some_and(|_| KNOWN_FIELDS[..2].contains(&name));
    let why = if version != "v1" {
        format!("error converting fieldPath: unsupported pod version: {version}")
    } else if subscript.is_some() && !known {
        format!("error converting fieldPath: field label does not support subscript: {path}")
    } else if !known {
        format!("error converting fieldPath: field label not supported: {path}")
    } else {
        return match subscript {
            Some(key) if name == "metadata.annotations" => {
                let key = key.to_lowercase();
                invalid_for(names::qualified_name(&key), &key.into(), at)
            }
            Some(key) => invalid_for(names::qualified_name(key), &key.into(), at),
            None if supported.contains(&path) => Vec::new(),
            None => vec![FieldError::not_supported(&at.child("fieldPath"), path, supported)],
        };
    };
    vec![FieldError::invalid(&at.child("fieldPath"), path, why)]
}

/// A reference to a resource of a container.
pub(super) fn resource_ref(reference: &Value, needs_container: bool, at: &FieldPath) -> Vec<FieldError> {
    let resource = text(&reference["resource"]);
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    let mut errors = Vec::new();
    if needs_container && text(&reference["containerName"]).is_empty() {
        errors.push(FieldError::required(&at.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&at.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(FieldError::not_supported(
            &at.child("resource"),
            resource,
            &RESOURCES,
        ));
    }
    let Some(divisor) = quantity(&reference["divisor"]).filter(|divisor| !divisor.is_zero()) else {
        return errors;
    };
    let divisor = divisor.to_string();
    let sizes = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let all = sizes.join(", ");
    let why = match resource.split_once('.').map(|(_, what)| what) {
        Some("cpu") if !matches!(divisor.as_str(), "1m" | "1") => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        Some("cpu") | None => return errors,
        _ if sizes.contains(&divisor.as_str()) => return errors,
        Some("memory") => format!("only divisor's values {all} are supported with the memory resource"),
        Some("ephemeral-storage") => {
            format!("only divisor's values {all} are supported with the local ephemeral storage resource")
        }
        Some(_) if huge => format!("only divisor's values {all} are supported with the hugepages resource"),
        Some(_) => return errors,
    };
    errors.push(FieldError::invalid(&at.child("divisor"), resource, why));
    errors
}

fn key_selector(selector: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (name, key) = (text(&selector["name"]), text(&selector["key"]));
    let mut errors = invalid_for(names::dns1123_subdomain(name), &name.into(), &at.child("name"));
    if key.is_empty() {
        errors.push(FieldError::required(&at.child("key"), ""));
    } else {
        errors.extend(invalid_for(config_key(key), &key.into(), &at.child("key")));
    }
    errors
}

fn file_key(selector: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let checks: [(&str, Rule); 3] = [
        ("key", variable_name),
        ("volumeName", names::dns1123_label),
        ("path", super::volumes::no_backsteps),
    ];
    for (field, check) in checks {
        let value = text(&selector[field]);
        if value.is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        } else {
            errors.extend(invalid_for(check(value), &value.into(), &at.child(field)));
        }
    }
    errors
}

pub(super) fn validate_env_from(sources: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, source) in items(sources).iter().enumerate() {
        let prefix = &source["prefix"];
        let item = at.index(i);
        if !text(prefix).is_empty() {
            errors.extend(invalid_for(
                variable_name(text(prefix)),
                prefix,
                &item.child("prefix"),
            ));
        }
        let mut found = 0;
        for kind in ["configMapRef", "secretRef"] {
            if !source[kind].is_object() {
                continue;
            }
            found += 1;
            let (name, at) = (&source[kind]["name"], item.child(kind).child("name"));
            if text(name).is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                // Names of both kinds are subdomains, here as a prefix that may end in a hyphen.
                let stem = text(name).strip_suffix('-').unwrap_or(text(name));
                errors.extend(invalid_for(names::dns1123_subdomain(stem), name, &at));
            }
        }
        let why = match found {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(at, "", why));
    }
    errors
}

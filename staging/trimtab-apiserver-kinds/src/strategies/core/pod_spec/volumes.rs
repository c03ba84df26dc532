//! What is wrong with a pod's volumes.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::env::{FILE_FIELDS, field_ref, resource_ref};
use crate::strategies::checks::{int, invalid_for, is_empty, items, text};
use crate::strategies::core::storage::validate_claim_spec;
use crate::strategies::fields::quantity;

/// The sources in the order in which they are looked at.
const SOURCES: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "local",
];
const HOST_PATHS: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// What is wrong with the volumes, and those with which nothing is.
pub(super) fn validate_volumes<'v>(volumes: &'v Value, at: &FieldPath) -> (Vec<&'v Value>, Vec<FieldError>) {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for (i, volume) in items(volumes).iter().enumerate() {
        let at = at.index(i);
        let name = text(&volume["name"]);
        let mut wrong = validate_volume_source(volume, &at);
        if name.is_empty() {
            wrong.push(FieldError::required(&at.child("name"), ""));
        } else {
            wrong.extend(invalid_for(
                names::dns1123_label(name),
                &name.into(),
                &at.child("name"),
            ));
        }
        if good.iter().any(|other: &&Value| text(&other["name"]) == name) {
            wrong.push(FieldError::duplicate(&at.child("name"), name));
        }
        if wrong.is_empty() {
            good.push(volume);
        }
        errors.extend(wrong);
    }
    (good, errors)
}

/// What is wrong with the one source that a volume has.
fn validate_volume_source(volume: &Value, at: &FieldPath) -> Vec<FieldError> {
    volume_sources(volume, at, validate_kind)
}

/// Looks at the one source that a volume has by its kind, and tells of others.
pub(in crate::strategies::core) fn volume_sources(
    volume: &Value,
    at: &FieldPath,
    validate: impl Fn(&str, &Value, &FieldPath) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let mut found = SOURCES.into_iter().filter(|kind| volume[*kind].is_object());
    let Some(first) = found.next() else {
        return vec![FieldError::required(at, "must specify a volume type")];
    };
    let mut errors = validate(first, &volume[first], &at.child(first));
    for other in found {
        errors.push(FieldError::forbidden(
            &at.child(other),
            "may not specify more than 1 volume type",
        ));
    }
    errors
}

pub(in crate::strategies::core) fn required(
    source: &Value,
    fields: &[&str],
    at: &FieldPath,
) -> Vec<FieldError> {
    fields
        .iter()
        .filter(|field| is_empty(&source[**field]))
        .map(|field| FieldError::required(&at.child(field), ""))
        .collect()
}

/// What is wrong with a source of that kind.
pub(in crate::strategies::core) fn validate_kind(
    kind: &str,
    source: &Value,
    at: &FieldPath,
) -> Vec<FieldError> {
    match kind {
        "emptyDir" => match quantity(&source["sizeLimit"]).filter(|limit| limit.is_negative()) {
            Some(_) => {
                let why = "SizeLimit field must be a valid resource quantity";
                vec![FieldError::forbidden(&at.child("sizeLimit"), why)]
            }
            None => Vec::new(),
        },
        "hostPath" => {
            let (path, kind) = (text(&source["path"]), text(&source["type"]));
            if path.is_empty() {
                return vec![FieldError::required(&at.child("path"), "")];
            }
            let mut errors = invalid_for(no_backsteps(path), &path.into(), &at.child("path"));
            if !HOST_PATHS.contains(&kind) {
                errors.push(FieldError::not_supported(&at.child("type"), kind, &HOST_PATHS));
            }
            errors
        }
        "secret" | "configMap" => {
            let name = if kind == "secret" { "secretName" } else { "name" };
            let mut errors = required(source, &[name], at);
            errors.extend(mode(&source["defaultMode"], &at.child("defaultMode")));
            errors.extend(keys(&source["items"], &at.child("items")));
            errors
        }
        "downwardAPI" => {
            let mut errors = mode(&source["defaultMode"], &at.child("defaultMode"));
            errors.extend(downward_items(&source["items"], at));
            errors
        }
        "projected" => projected(source, at),
        "persistentVolumeClaim" => required(source, &["claimName"], at),
        "nfs" => {
            let mut errors = required(source, &["server", "path"], at);
            if !text(&source["path"]).starts_with('/') {
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(&at.child("path"), text(&source["path"]), why));
            }
            errors
        }
        "csi" => required(source, &["driver"], at),
        "ephemeral" if source["volumeClaimTemplate"].is_null() => {
            vec![FieldError::required(&at.child("volumeClaimTemplate"), "")]
        }
        "ephemeral" => {
            let at = at.child("volumeClaimTemplate").child("spec");
            validate_claim_spec(&source["volumeClaimTemplate"]["spec"], &at)
        }
        "image" => required(source, &["reference"], at),
        _ => Vec::new(),
    }
}

/// The permissions of a file.
fn mode(mode: &Value, at: &FieldPath) -> Vec<FieldError> {
    match mode.as_i64() {
        Some(bits) if !(0..=0o777).contains(&bits) => {
            let why = "must be a number between 0 and 0777 (octal), both inclusive";
            vec![FieldError::invalid(at, bits, why)]
        }
        _ => Vec::new(),
    }
}

fn keys(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in items(list).iter().enumerate() {
        let at = at.index(i);
        errors.extend(required(item, &["key", "path"], &at));
        errors.extend(local_path(text(&item["path"]), &at.child("path")));
        errors.extend(mode(&item["mode"], &at.child("mode")));
    }
    errors
}

fn downward_items(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // Kubernetes names no index here.
    for item in items(list) {
        errors.extend(required(item, &["path"], at));
        errors.extend(local_path(text(&item["path"]), &at.child("path")));
        if item["fieldRef"].is_object() {
            errors.extend(field_ref(&item["fieldRef"], &FILE_FIELDS, &at.child("fieldRef")));
            if item["resourceFieldRef"].is_object() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(at, "resource", why));
            }
        } else if item["resourceFieldRef"].is_object() {
            let at = at.child("resourceFieldRef");
            errors.extend(resource_ref(&item["resourceFieldRef"], true, &at));
        } else {
            let why = "one of fieldRef and resourceFieldRef is required";
            errors.push(FieldError::required(at, why));
        }
        errors.extend(mode(&item["mode"], &at.child("mode")));
    }
    errors
}

fn projected(source: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = mode(&source["defaultMode"], &at.child("defaultMode"));
    for (i, part) in items(&source["sources"]).iter().enumerate() {
        let at = at.child("sources").index(i);
        let known = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let mut found = known.into_iter().filter(|kind| part[*kind].is_object());
        let Some(first) = found.next() else {
            continue;
        };
        let (part, path) = (&part[first], at.child(first));
        match first {
            "secret" | "configMap" => {
                errors.extend(required(part, &["name"], &path));
                errors.extend(keys(&part["items"], &path.child("items")));
            }
            "downwardAPI" => errors.extend(downward_items(&part["items"], &path)),
            "serviceAccountToken" => {
                let seconds = int(&part["expirationSeconds"]);
                let at = path.child("expirationSeconds");
                if seconds < 600 {
                    let why = "may not specify a duration less than 10 minutes";
                    errors.push(FieldError::invalid(&at, seconds, why));
                } else if seconds > 1 << 32 {
                    let why = "may not specify a duration larger than 2^32 seconds";
                    errors.push(FieldError::invalid(&at, seconds, why));
                }
                errors.extend(required(part, &["path"], &path));
            }
            _ => {}
        }
        if found.next().is_some() {
            let why = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    errors
}

/// What is wrong with a path that leads upwards.
pub(in crate::strategies::core) fn no_backsteps(path: &str) -> Vec<String> {
    if path.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Vec::new()
    }
}

/// A path within a volume that leads down.
pub(super) fn descending(path: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path.starts_with('/') {
        errors.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    errors.extend(invalid_for(no_backsteps(path), &path.into(), at));
    errors
}

/// A path within a volume that is made of an object, which keeps names for itself.
fn local_path(path: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = descending(path, at);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.push(FieldError::invalid(at, path, "must not start with '..'"));
    }
    errors
}

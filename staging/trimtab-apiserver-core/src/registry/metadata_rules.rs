//! What `metadata` may hold, for every kind: names, labels, annotations, owners, finalizers, and what never changes.

use serde_json::Value;
use trimtab_apimachinery_meta::names;
use trimtab_apimachinery_meta::{FieldError, FieldPath};
use trimtab_apiserver_kinds::resource::Resource;

use super::meta;
use crate::crd;

/// All keys and values of the annotations together may have this many bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", meta::ORPHAN, meta::FOREGROUND];

fn at(field: &str) -> FieldPath {
    FieldPath::new("metadata").child(field)
}

/// What is wrong with the metadata of a new object.
pub(crate) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let generate = meta::text(object, "generateName");
    if !generate.is_empty() {
        for error in resource.strategy.validate_name(generate, true) {
            errors.push(FieldError::invalid(&at("generateName"), generate, error));
        }
    }
    let name = meta::name(object);
    if name.is_empty() {
        errors.push(FieldError::required(
            &at("name"),
            "name or generateName is required",
        ));
    } else {
        for error in resource.strategy.validate_name(name, false) {
            errors.push(FieldError::invalid(&at("name"), name, error));
        }
    }
    let namespace = meta::namespace(object);
    if resource.namespaced() {
        if namespace.is_empty() {
            errors.push(FieldError::required(&at("namespace"), ""));
        } else {
            for error in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(&at("namespace"), namespace, error));
            }
        }
    }
    if meta::generation(object) < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &at("generation"),
            meta::generation(object),
            why,
        ));
    }
    errors.extend(common(object));
    errors.extend(finalizers(resource, object));
    errors
}

/// What is wrong with changed metadata.
pub(crate) fn validate_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if meta::is_deleting(old) {
        let before = meta::finalizers(old);
        let added: Vec<String> = meta::finalizers(new)
            .into_iter()
            .filter(|f| !before.contains(f))
            .map(|f| format!("{f:?}"))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&at("finalizers"), why));
        }
    }
    let generation = meta::generation(new);
    if generation < meta::generation(old) {
        errors.push(FieldError::invalid(
            &at("generation"),
            generation,
            "must not be decremented",
        ));
    }
    let fixed = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fixed {
        let value = &new["metadata"][field];
        if *value != old["metadata"][field] {
            errors.push(FieldError::invalid(
                &at(field),
                value.clone(),
                "field is immutable",
            ));
        }
    }
    errors.extend(common(new));
    errors.extend(finalizers(resource, new));
    errors
}

fn common(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        for error in names::qualified_name(key) {
            errors.push(FieldError::invalid(&at("labels"), key.as_str(), error));
        }
        let value = value.as_str().unwrap_or_default();
        for error in names::label_value(value) {
            errors.push(FieldError::invalid(&at("labels"), value, error));
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        for error in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&at("annotations"), key.as_str(), error));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(&at("annotations"), ANNOTATIONS_MAX));
    }
    errors.extend(owners(object));
    errors
}

fn owners(object: &Value) -> Vec<FieldError> {
    let path = at("ownerReferences");
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    for owner in object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let field = |name: &str| owner[name].as_str().unwrap_or_default();
        let api_version = field("apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        // What has more than one slash is read as nothing at all.
        let (group, version) = if version.contains('/') {
            ("", "")
        } else {
            (group, version)
        };
        if version.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for name in ["kind", "name", "uid"] {
            if field(name).is_empty() {
                errors.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
            }
        }
        if group.is_empty() && version == "v1" && field("kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&path, owner.clone(), why));
        }
        if owner["controller"] == Value::Bool(true) {
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    field("name")
                );
                errors.push(FieldError::invalid(
                    &path,
                    object["metadata"]["ownerReferences"].clone(),
                    why,
                ));
            } else {
                controller = Some(field("name"));
            }
        }
    }
    errors
}

fn finalizers(resource: &Resource, object: &Value) -> Vec<FieldError> {
    // Custom resources are only warned of such names, and definitions not even that.
    let any_name = resource.custom || crd::is_definitions(resource);
    let path = at("finalizers");
    let mut errors = Vec::new();
    let all = meta::finalizers(object);
    for finalizer in &all {
        for error in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(&path, *finalizer, error));
        }
    }
    for (i, finalizer) in all.iter().enumerate() {
        if !any_name && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(i), *finalizer, why));
        }
    }
    if all.contains(&meta::ORPHAN) && all.contains(&meta::FOREGROUND) {
        let why = "finalizers orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(
            &path,
            object["metadata"]["finalizers"].clone(),
            why,
        ));
    }
    errors
}

//! Kubernetes objects inside of others: they say what they are, and their metadata is metadata.

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};
use trimtab_apimachinery_meta::names;

use crate::Schema;
use crate::go;
use crate::schema::Additional;

/// The fields of `ObjectMeta`.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Removes the fields of an embedded object's metadata that are none, and appends their names.
pub(super) fn prune_metadata(metadata: &mut Value, removed: &mut Vec<String>) {
    let Value::Object(fields) = metadata else { return };
    fields.retain(|name, value| {
        let known = METADATA.contains(&name.as_str());
        if !known {
            removed.push(name.clone());
        }
        known && !(name == "creationTimestamp" && value.is_null())
    });
}

/// Appends what is wrong with the embedded objects of a value.
pub(super) fn check(schema: &Schema, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if schema.embedded_resource {
                check_object(fields, path, errors);
            }
            for (key, value) in fields {
                if let Some(property) = schema.properties.get(key) {
                    check(property, value, &path.child(key), errors);
                } else if let Additional::Schema(values) = &schema.additional {
                    check(values, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(element, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_object(fields: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        if !fields.contains_key(name) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match fields.get(name) {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "apiVersion" && text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(FieldError::invalid(&at, text.as_str(), detail));
            }
            Some(Value::String(_)) if name == "apiVersion" => {}
            Some(Value::String(text)) => {
                let faults = names::dns1035_label(&text.to_lowercase());
                if !faults.is_empty() {
                    let detail = format!(
                        "may have mixed case, but should otherwise match: {}",
                        faults.join(",")
                    );
                    errors.push(FieldError::invalid(&at, text.as_str(), detail));
                }
            }
            Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = fields.get("metadata") {
        check_metadata(metadata, &path.child("metadata"), errors);
    }
}

fn check_metadata(metadata: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(fault) = undecodable(metadata) {
        errors.push(FieldError::invalid(path, metadata.clone(), fault));
        return;
    }
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    for name in ["generateName", "name"] {
        let value = text(name);
        if !value.is_empty() {
            for fault in names::path_segment(value) {
                errors.push(FieldError::invalid(&path.child(name), value, fault));
            }
        }
    }
    let namespace = text("namespace");
    if !namespace.is_empty() {
        for fault in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid(&path.child("namespace"), namespace, fault));
        }
    }
    let entries = |name: &str| {
        metadata
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let labels = path.child("labels");
    for (key, value) in entries("labels") {
        for fault in names::qualified_name(key) {
            errors.push(FieldError::invalid(&labels, key.as_str(), fault));
        }
        for fault in names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(&labels, value.clone(), fault));
        }
    }
    let annotations = path.child("annotations");
    for (key, _) in entries("annotations") {
        for fault in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&annotations, key.as_str(), fault));
        }
    }
}

/// What Go says when it cannot read metadata.
fn undecodable(metadata: &Value) -> Option<String> {
    let refuse = |value: &Value, field: &str, type_: &str| {
        let kind = go::json_kind(value);
        Some(format!(
            "json: cannot unmarshal {kind} into Go {field} of type {type_}"
        ))
    };
    let fields = match metadata {
        Value::Object(fields) => fields,
        Value::Null => return None,
        other => return refuse(other, "value", "v1.ObjectMeta"),
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("struct field ObjectMeta.{name}");
        match (name.as_str(), value) {
            ("labels" | "annotations", Value::Object(entries)) => {
                if let Some(entry) = entries.values().find(|v| !v.is_string() && !v.is_null()) {
                    return refuse(entry, &field, "string");
                }
            }
            ("labels" | "annotations", other) => return refuse(other, &field, "map[string]string"),
            ("name" | "generateName" | "namespace" | "selfLink" | "resourceVersion", other)
                if !other.is_string() =>
            {
                return refuse(other, &field, "string");
            }
            ("uid", other) if !other.is_string() => return refuse(other, &field, "types.UID"),
            ("generation" | "deletionGracePeriodSeconds", other) if !other.is_i64() => {
                return refuse(other, &field, "int64");
            }
            ("finalizers", other) if !other.is_array() => return refuse(other, &field, "[]string"),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn embedded_objects_are_objects() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {"tmpl": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
        }}}));
        let object = |metadata: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let cases = [
            (object(json!({"name": "a", "labels": {"a": "b"}})), vec![]),
            (
                json!({}),
                vec!["tmpl.apiVersion: Required value", "tmpl.kind: Required value"],
            ),
            (
                json!({"apiVersion": "a/b/c", "kind": ""}),
                vec![
                    "tmpl.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                    "tmpl.kind: Invalid value: \"\": must not be empty",
                ],
            ),
            (
                object(json!({"name": "a/b"})),
                vec!["tmpl.metadata.name: Invalid value: \"a/b\": may not contain '/'"],
            ),
            (
                object(json!({"name": 1})),
                vec![
                    "tmpl.metadata: Invalid value: {\"name\":1}: json: cannot unmarshal number into Go struct field \
                     ObjectMeta.name of type string",
                ],
            ),
        ];
        for (value, expected) in cases {
            let mut errors = Vec::new();
            check(&schema, &json!({"tmpl": value}), &FieldPath::root(), &mut errors);
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
        }
    }
}

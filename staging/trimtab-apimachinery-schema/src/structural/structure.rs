//! Structurality: a schema says what an object looks like without its value validations having to be consulted.

use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::openapi::{flag, list, object, text};
use super::regexes;

type Node = Map<String, Value>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What makes a schema not structural, sorted by text.
pub(super) fn check(schema: &Node, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    junctors_complete(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(node: &Node, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let type_ = text(node, "type");
    let items = node.get("items").and_then(Value::as_object);
    if type_ == "array" && items.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, schema) in object(node, "properties") {
        if let Some(schema) = schema.as_object() {
            invariants(schema, Level::Field, &path.child("properties").key(name), errors);
        }
    }
    let additional = node.get("additionalProperties").filter(|v| !v.is_null());
    if let Some(schema) = additional {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&at, "must not be used at the root"));
        }
        if let Some(schema) = schema.as_object() {
            invariants(schema, Level::Field, &at, errors);
        }
    }
    extensions(node, path, errors);
    let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    let first_any_of = list(node, "allOf").first().and_then(|first| first.get("anyOf"));
    let skip_any_of = node.get("anyOf") == Some(&int_or_string);
    let skip_first = first_any_of == Some(&int_or_string);
    value_validation(node, skip_any_of, skip_first, path, errors);

    let embedded = flag(node, "x-kubernetes-embedded-resource");
    let preserves = flag(node, "x-kubernetes-preserve-unknown-fields");
    let at = path.child("type");
    if embedded && type_ != "object" {
        const DETAIL: &str = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if type_.is_empty() {
            FieldError::required(&at, DETAIL)
        } else {
            FieldError::invalid(&at, type_, DETAIL)
        });
    } else if type_.is_empty() && !flag(node, "x-kubernetes-int-or-string") && !preserves {
        let place = match level {
            Level::Root => "at the root",
            Level::Item => "for specified array items",
            Level::Field => "for specified object fields",
        };
        errors.push(FieldError::required(&at, format!("must not be empty {place}")));
    }
    if embedded && additional.is_some() {
        errors.push(FieldError::forbidden(
            &path.child("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.push(FieldError::invalid(&at, type_, "must be object at the root"));
    }
    object_metadata(node, level == Level::Root, embedded, path, errors);
    if embedded && !preserves && object(node, "properties").next().is_none() {
        errors.push(FieldError::required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

/// What every object has can only be restricted in its names.
fn object_metadata(node: &Node, root: bool, embedded: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let property = |name: &str| {
        node.get("properties")
            .and_then(|p| p.get(name))
            .and_then(Value::as_object)
    };
    if root || embedded {
        for (name, expected) in [
            ("kind", "string"),
            ("apiVersion", "string"),
            ("metadata", "object"),
        ] {
            if let Some(type_) = property(name)
                .map(|schema| text(schema, "type"))
                .filter(|t| *t != expected)
            {
                let at = path.child("properties").key(name).child("type");
                errors.push(FieldError::invalid(&at, type_, format!("must be {expected}")));
            }
        }
    }
    let Some(metadata) = property("metadata").filter(|_| root) else {
        return;
    };
    let restricts_more = metadata.iter().any(|(name, value)| match name.as_str() {
        "type" | "default" => false,
        "properties" => {
            object(metadata, "properties").any(|(name, _)| name != "name" && name != "generateName")
        }
        _ => !is_zero(value),
    });
    if restricts_more {
        errors.push(FieldError::forbidden(
            &path.child("properties").key("metadata"),
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

/// Whether a field might as well be absent.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn extensions(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !flag(node, "x-kubernetes-int-or-string") {
        return;
    }
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(node, name) {
            errors.push(FieldError::invalid(
                &path.child(name),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
}

/// The schemas inside `allOf`, `anyOf`, `oneOf` and `not`, with their places.
fn junctors<'a>(node: &'a Node, path: &FieldPath) -> Vec<(&'static str, usize, &'a Node, FieldPath)> {
    let mut all = Vec::new();
    for name in ["anyOf", "allOf", "oneOf"] {
        for (index, schema) in list(node, name).iter().enumerate() {
            if let Some(schema) = schema.as_object() {
                all.push((name, index, schema, path.child(name).index(index)));
            }
        }
    }
    if let Some(schema) = node.get("not").and_then(Value::as_object) {
        all.push(("not", 0, schema, path.child("not")));
    }
    all
}

/// The two ways to spell int-or-string may name types where nothing else may.
fn value_validation(
    node: &Node,
    skip_any_of: bool,
    skip_first: bool,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (name, index, schema, at) in junctors(node, path) {
        if name == "anyOf" && skip_any_of {
            continue;
        }
        nested(schema, skip_first && name == "allOf" && index == 0, &at, errors);
    }
    let pattern = text(node, "pattern");
    if let Some(error) = Some(pattern)
        .filter(|p| !p.is_empty())
        .and_then(|p| regexes::compile(p).err())
    {
        errors.push(FieldError::invalid(
            &path.child("pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {error}"),
        ));
    }
}

/// A schema that only validates values: it must not say what they look like.
fn nested(node: &Node, skip_any_of: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const FORBIDDEN: [(&str, &str); 13] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    value_validation(node, skip_any_of, false, path, errors);
    if let Some(items) = node.get("items").and_then(Value::as_object) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, schema) in object(node, "properties") {
        if let Some(schema) = schema.as_object() {
            nested(schema, false, &path.child("properties").key(name), errors);
        }
    }
    for (name, detail) in FORBIDDEN {
        let set = node.get(name).is_some_and(|value| match name {
            "default" => !value.is_null(),
            // An empty schema is one.
            "additionalProperties" => value.is_object() || value == &Value::Bool(true),
            _ => !is_zero(value),
        });
        if set {
            errors.push(FieldError::forbidden(&path.child(name), detail));
        }
    }
    if node.get("properties").and_then(|p| p.get("metadata")).is_some() {
        errors.push(FieldError::forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        ));
    }
}

/// What value validations mention is specified by the schema around them, `outer`.
fn junctors_complete(
    node: &Node,
    outer: Option<&Node>,
    outer_path: &FieldPath,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (_, _, schema, at) in junctors(node, path) {
        complete(schema, outer, outer_path, &at, errors);
    }
}

fn complete(
    node: &Node,
    outer: Option<&Node>,
    outer_path: &FieldPath,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let missing =
        |at: &FieldPath, by: &FieldPath| FieldError::required(at, format!("because it is defined in {by}"));
    let Some(outer) = outer else {
        errors.push(missing(outer_path, path));
        return;
    };
    junctors_complete(node, Some(outer), outer_path, path, errors);
    if let Some(items) = node.get("items").and_then(Value::as_object) {
        let specified = outer.get("items").and_then(Value::as_object);
        complete(
            items,
            specified,
            &outer_path.child("items"),
            &path.child("items"),
            errors,
        );
    }
    for (name, schema) in object(node, "properties") {
        let (at, by) = (
            outer_path.child("properties").key(name),
            path.child("properties").key(name),
        );
        let specified = outer
            .get("properties")
            .and_then(|p| p.get(name))
            .and_then(Value::as_object);
        match (schema.as_object(), specified) {
            (Some(schema), Some(specified)) => complete(schema, Some(specified), &at, &by, errors),
            (_, None) => errors.push(missing(&at, &by)),
            (None, _) => {}
        }
    }
}

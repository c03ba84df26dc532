//! What a schema may say of its lists and maps: their types, and the keys of map lists.

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::openapi::{flag, text, texts};

type Node = Map<String, Value>;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const KEYS: &str = "x-kubernetes-list-map-keys";

pub(super) fn check(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let map_type = text(node, MAP_TYPE);
    if !map_type.is_empty() {
        typed_as(node, "object", MAP_TYPE, path, errors);
        if !["atomic", "granular"].contains(&map_type) {
            let at = path.child(MAP_TYPE);
            errors.push(FieldError::not_supported(&at, map_type, &["atomic", "granular"]));
        }
    }
    let list_type = text(node, LIST_TYPE);
    let items = node.get("items").and_then(Value::as_object);
    if !list_type.is_empty() && !typed_as(node, "array", LIST_TYPE, path, errors) && list_type == "set" {
        items.into_iter().for_each(|items| set_items(items, path, errors));
    }
    if !["", "atomic", "set", "map"].contains(&list_type) {
        let at = path.child(LIST_TYPE);
        errors.push(FieldError::not_supported(
            &at,
            list_type,
            &["atomic", "set", "map"],
        ));
    }
    let keys = texts(node, KEYS);
    if !keys.is_empty() && list_type != "map" {
        const DETAIL: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = path.child(LIST_TYPE);
        errors.push(if list_type.is_empty() {
            FieldError::required(&at, DETAIL)
        } else {
            FieldError::invalid(&at, list_type, DETAIL)
        });
    }
    if list_type == "map" {
        map_items(node, &keys, path, errors);
    }
    if let (Some(items), "set" | "map") = (items, list_type) {
        let keys = if list_type == "map" { keys.as_slice() } else { &[] };
        presence(items, list_type, keys, &path.child("items"), errors);
    }
}

/// Whether an extension is on the wrong type; then an error says so.
fn typed_as(
    node: &Node,
    type_: &str,
    extension: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> bool {
    let found = text(node, "type");
    let detail = format!("must be {type_} if {extension} is specified");
    let at = path.child("type");
    if found.is_empty() {
        errors.push(FieldError::required(&at, detail));
    } else if found != type_ {
        errors.push(FieldError::invalid(&at, found, detail));
    }
    found != type_
}

/// Elements of a set are compared, and so owned, as a whole.
fn set_items(items: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = items.get(LIST_TYPE).cloned().unwrap_or_default();
    let at = path.child("items");
    match text(items, "type") {
        "array" if !list_type.is_null() && list_type != "atomic" => {
            errors.push(FieldError::invalid(&at.child(LIST_TYPE), list_type, DETAIL));
        }
        // The list type, which is what kube-apiserver prints here.
        "object" if text(items, MAP_TYPE) != "atomic" => {
            errors.push(FieldError::invalid(&at.child(MAP_TYPE), list_type, DETAIL));
        }
        _ => {}
    }
}

/// Elements of a map list are objects with scalar keys.
fn map_items(node: &Node, keys: &[String], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let keys_at = path.child(KEYS);
    if keys.is_empty() {
        errors.push(FieldError::required(
            &keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let at = path.child("items");
    let items = match node.get("items") {
        Some(Value::Object(items)) => items,
        Some(Value::Array(schemas)) => {
            errors.push(FieldError::invalid(
                &at,
                schemas.clone(),
                "must only have a single schema if x-kubernetes-list-type is map",
            ));
            return;
        }
        _ => {
            errors.push(FieldError::required(
                &at,
                "must have a schema if x-kubernetes-list-type is map",
            ));
            return;
        }
    };
    let type_ = text(items, "type");
    if type_ != "object" {
        errors.push(FieldError::invalid(
            &at.child("type"),
            type_,
            "must be object if parent array's x-kubernetes-list-type is map",
        ));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        match property(items, key).map(|schema| text(schema, "type")) {
            Some("array" | "object") => errors.push(FieldError::invalid(
                &at.child("properties").key(key).child("type"),
                type_,
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            )),
            Some(_) => {}
            None => errors.push(FieldError::invalid(
                &keys_at,
                keys.to_vec(),
                "entries must all be names of item properties",
            )),
        }
        if keys.iter().take(index).any(|earlier| earlier == key) {
            errors.push(FieldError::invalid(
                &keys_at,
                keys.to_vec(),
                "must not contain duplicate entries",
            ));
        }
    }
}

/// Elements, and the keys of elements, are always there.
fn presence(items: &Node, list_type: &str, keys: &[String], at: &FieldPath, errors: &mut Vec<FieldError>) {
    if flag(items, "nullable") {
        errors.push(FieldError::forbidden(
            &at.child("nullable"),
            format!("cannot be nullable when x-kubernetes-list-type is {list_type}"),
        ));
    }
    let required = texts(items, "required");
    for key in keys {
        let Some(schema) = property(items, key) else {
            continue;
        };
        let at = at.child("properties").key(key);
        if !required.contains(key) && schema.get("default").is_none_or(Value::is_null) {
            errors.push(FieldError::required(
                &at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
        if flag(schema, "nullable") {
            errors.push(FieldError::forbidden(
                &at.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ));
        }
    }
}

fn property<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.get("properties")?.get(name)?.as_object()
}

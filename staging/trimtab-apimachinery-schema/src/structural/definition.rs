//! What a custom resource definition's schema may say.

use std::sync::Arc;

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::cel::costs::Costs;
use super::openapi::{flag, list, object, text};
use super::outcome::printed;
use super::validate::Values;
use super::{cel, embedded, prune, structure};
use crate::Schema;

type Node = Map<String, Value>;

/// What apiextensions-apiserver refuses in a definition's `openAPIV3Schema`; empty when nothing. `path` is where the
/// schema is in the definition.
///
/// A schema must be structural, its defaults must be valid and pruned, and its rules must compile. What depends on the
/// rest of the definition is not judged here: that only some fields are allowed at the root when there is a status
/// subresource.
pub fn check_definition(schema: &Value, path: FieldPath) -> Vec<FieldError> {
    let Some(root) = schema.as_object() else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if flag(root, "nullable") {
        errors.push(FieldError::forbidden(
            &path.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let unsupported = unsupported(root);
    let mut compiles = false;
    if unsupported.is_none() {
        let mut found = structure::check(root, &path);
        if found.is_empty() {
            check_defaults(&Arc::new(Schema::from_openapi(schema)), &path, &mut found);
            compiles = found.is_empty();
        }
        errors.append(&mut found);
    }
    let mut walk = Walk {
        compiles,
        cel: Vec::new(),
        costs: Costs::default(),
    };
    let place = Place {
        times: Some(1),
        ..Place::default()
    };
    errors.extend(walk.visit(root, &path, true, &place));
    errors.append(&mut walk.cel);
    errors.extend(walk.costs.finish(&path));
    if let (true, Some(name)) = (errors.is_empty(), unsupported) {
        errors.push(FieldError::invalid(
            &path,
            "",
            format!("OpenAPIV3Schema '{name}' is not supported"),
        ));
    }
    errors
}

/// The first field that structural schemas know nothing of.
fn unsupported(node: &Node) -> Option<&'static str> {
    const NAMES: [(&str, &str); 7] = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    let here = NAMES
        .iter()
        .find(|(name, _)| is_set(node, name))
        .map(|(_, shown)| *shown);
    if here.is_some() {
        return here;
    }
    let lists = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|name| list(node, name));
    let single = ["not", "items", "additionalProperties"]
        .into_iter()
        .filter_map(|name| node.get(name));
    let properties = object(node, "properties").map(|(_, schema)| schema);
    lists
        .chain(single)
        .chain(properties)
        .filter_map(Value::as_object)
        .find_map(unsupported)
}

/// Whether a field is there and says something.
fn is_set(node: &Node, name: &str) -> bool {
    match node.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty() || name == "$ref",
        Some(Value::Object(fields)) => !fields.is_empty() || name == "dependencies",
        Some(_) => true,
    }
}

/// Defaults are values like others; those of map values are forbidden elsewhere or never used.
fn check_defaults(schema: &Arc<Schema>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let at = path.child("default");
        let mut pruned = default.clone();
        prune::prune_value(schema, &mut pruned);
        if pruned != *default {
            errors.push(FieldError::invalid(
                &at,
                printed(default.clone()),
                "must not have unknown fields",
            ));
        }
        let mut found = Vec::new();
        embedded::check(schema, default, &at, &mut found);
        if found.is_empty() {
            Values::for_default(schema).check(schema, default, None, &at, &mut found);
        }
        if found.is_empty() {
            check_default_by_rules(schema, default, &at, &mut found);
        }
        errors.append(&mut found);
    }
    if let Some(items) = &schema.items {
        check_defaults(items, &path.child("items"), errors);
    }
    for (name, property) in &schema.properties {
        check_defaults(property, &path.child("properties").key(name), errors);
    }
}

/// A default must be fine both as a value that does not change and as a new one.
fn check_default_by_rules(
    schema: &Arc<Schema>,
    default: &Value,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let rules = cel::Rules::new(schema, schema.embedded_resource);
    rules.check(default, Some(default), false, at, errors);
    if errors.is_empty() {
        rules.check(default, None, false, at, errors);
    }
}

/// What surrounds a schema.
#[derive(Clone, Default)]
struct Place {
    /// Why defaults are forbidden here, if they are.
    no_defaults: Option<String>,
    /// Inside apiVersion, kind or metadata of an object.
    in_metadata: bool,
    /// Values inside this schema cannot be told from one another, so rules cannot see old ones.
    uncorrelated: Option<FieldPath>,
    /// Inside `allOf` and the like, where there are no rules.
    nested: bool,
    /// How many values an object can have that are here, at most; `None` if there is no limit.
    times: Option<u64>,
}

impl Place {
    /// What is directly in this schema, which is here.
    fn in_it(&self, node: &Node) -> Self {
        let limit = |name: &str| {
            node.get(name)
                .and_then(Value::as_i64)
                .map(|n| n.max(0).unsigned_abs())
        };
        let parts = match text(node, "type") {
            "object" if node.get("additionalProperties").is_some_and(|v| !v.is_null()) => {
                limit("maxProperties")
            }
            "array" => limit("maxItems"),
            _ => Some(1),
        };
        Self {
            times: self
                .times
                .zip(parts)
                .map(|(times, parts)| times.saturating_mul(parts)),
            ..self.clone()
        }
    }
}

struct Walk {
    /// Whether the schema is good enough to compile rules against.
    compiles: bool,
    /// Faults of rules, which come after all others.
    cel: Vec<FieldError>,
    /// What rules may cost.
    costs: Costs,
}

impl Walk {
    fn visit(&mut self, node: &Node, path: &FieldPath, root: bool, place: &Place) -> Vec<FieldError> {
        let mut errors = Vec::new();
        standard(node, path, place, &mut errors);
        if flag(node, "uniqueItems") {
            errors.push(FieldError::forbidden(
                &path.child("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ));
        }
        self.visit_additional(node, path, place, &mut errors);
        self.visit_properties(node, path, root, place, &mut errors);
        let nested = Place {
            nested: true,
            ..place.clone()
        };
        if let Some(schema) = node.get("not").and_then(Value::as_object) {
            errors.extend(self.visit(schema, &path.child("not"), false, &nested));
        }
        for name in ["allOf", "oneOf", "anyOf"] {
            for (index, schema) in list(node, name).iter().enumerate() {
                if let Some(schema) = schema.as_object() {
                    errors.extend(self.visit(schema, &path.child(name).index(index), false, &nested));
                }
            }
        }
        for (name, schema) in object(node, "definitions") {
            if let Some(schema) = schema.as_object() {
                errors.extend(self.visit(schema, &path.child("definitions").key(name), false, &nested));
            }
        }
        self.visit_items(node, path, place, &mut errors);
        if node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            errors.push(FieldError::invalid(
                &path.child("x-kubernetes-preserve-unknown-fields"),
                false,
                "must be true or undefined",
            ));
        }
        super::collections::check(node, path, &mut errors);
        cel::definition::check_texts(node, path, &mut errors);
        if errors.is_empty() && self.compiles && !place.nested {
            let Self { cel, costs, .. } = self;
            let uncorrelated = place.uncorrelated.as_ref();
            cel::definition::check_rules(node, path, root, uncorrelated, place.times, costs, cel);
        }
        errors
    }

    fn visit_additional(
        &mut self,
        node: &Node,
        path: &FieldPath,
        place: &Place,
        errors: &mut Vec<FieldError>,
    ) {
        let at = path.child("additionalProperties");
        let Some(additional) = node.get("additionalProperties").filter(|v| !v.is_null()) else {
            return;
        };
        let has_properties = object(node, "properties").next().is_some();
        if has_properties && additional != &Value::Bool(true) {
            errors.push(FieldError::forbidden(
                &at,
                "additionalProperties and properties are mutual exclusive",
            ));
        }
        let mut inner = place.in_it(node);
        if place.in_metadata {
            inner.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        if let Some(schema) = additional.as_object() {
            errors.extend(self.visit(schema, &at, false, &inner));
        }
    }

    fn visit_properties(
        &mut self,
        node: &Node,
        path: &FieldPath,
        root: bool,
        place: &Place,
        errors: &mut Vec<FieldError>,
    ) {
        for (name, schema) in object(node, "properties") {
            let mut inner = place.in_it(node);
            let meta = ["metadata", "kind", "apiVersion"].contains(&name.as_str());
            if meta && (root || flag(node, "x-kubernetes-embedded-resource")) {
                inner.in_metadata = true;
                if root {
                    inner.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            if let Some(schema) = schema.as_object() {
                errors.extend(self.visit(schema, &path.child("properties").key(name), false, &inner));
            }
        }
    }

    fn visit_items(&mut self, node: &Node, path: &FieldPath, place: &Place, errors: &mut Vec<FieldError>) {
        let mut inner = place.in_it(node);
        if text(node, "x-kubernetes-list-type") != "map" {
            inner.uncorrelated.get_or_insert_with(|| path.clone());
        }
        let at = path.child("items");
        match node.get("items") {
            Some(Value::Object(schema)) => errors.extend(self.visit(schema, &at, false, &inner)),
            Some(Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate() {
                    if let Some(schema) = schema.as_object() {
                        errors.extend(self.visit(schema, &at.index(index), false, &inner));
                    }
                }
            }
            _ => {}
        }
    }
}

/// What OpenAPI knows and custom resources do not.
fn standard(node: &Node, path: &FieldPath, place: &Place, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let type_ = text(node, "type");
    if !type_.is_empty() && !TYPES.contains(&type_) {
        errors.push(FieldError::not_supported(&path.child("type"), type_, &TYPES));
    }
    if let (true, Some(reason)) = (is_set(node, "default"), &place.no_defaults) {
        errors.push(FieldError::forbidden(
            &path.child("default"),
            format!("must not be set {reason}"),
        ));
    }
    for name in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if is_set(node, name) {
            errors.push(FieldError::forbidden(
                &path.child(name),
                format!("{name} is not supported"),
            ));
        }
    }
    if type_ == "null" {
        errors.push(FieldError::forbidden(
            &path.child("type"),
            "type cannot be set to null, use nullable as an alternative",
        ));
    }
    if node
        .get("items")
        .and_then(Value::as_array)
        .is_some_and(|items| !items.is_empty())
    {
        errors.push(FieldError::forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        ));
    }
    if place.in_metadata && flag(node, "x-kubernetes-embedded-resource") {
        errors.push(FieldError::forbidden(
            &path.child("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        ));
    }
}

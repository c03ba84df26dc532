//! Reading `openAPIV3Schema`, as the v1 API of custom resource definitions has it, into a [`Schema`].

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Schema;
use crate::schema::{Additional, Checks, ListType, Rule, Type};

impl Schema {
    /// Reads an `openAPIV3Schema`, with all `x-kubernetes-` extensions. Reading does not judge:
    /// [`check_definition`](super::check_definition) tells what is wrong with a schema, here it is left out.
    pub fn from_openapi(schema: &Value) -> Self {
        let Value::Object(fields) = schema else {
            return Self::default();
        };
        let list_type = text(fields, "x-kubernetes-list-type");
        Self {
            description: text(fields, "description").to_owned(),
            type_: Type::named(text(fields, "type")),
            format: text(fields, "format").to_owned(),
            properties: object(fields, "properties")
                .map(|(name, schema)| (name.clone(), Arc::new(Self::from_openapi(schema))))
                .collect(),
            required: texts(fields, "required"),
            additional: match fields.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Any,
                Some(schema @ Value::Object(_)) => Additional::Schema(Arc::new(Self::from_openapi(schema))),
                _ => Additional::None,
            },
            items: child(fields, "items"),
            nullable: flag(fields, "nullable"),
            default: fields.get("default").filter(|v| !v.is_null()).cloned(),
            int_or_string: flag(fields, "x-kubernetes-int-or-string"),
            preserve_unknown: flag(fields, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(fields, "x-kubernetes-embedded-resource"),
            list_type: match list_type {
                "map" => ListType::Map,
                "set" => ListType::Set,
                _ => ListType::Atomic,
            },
            list_type_stated: !list_type.is_empty(),
            list_map_keys: texts(fields, "x-kubernetes-list-map-keys"),
            map_atomic: text(fields, "x-kubernetes-map-type") == "atomic",
            enum_values: list(fields, "enum").to_vec(),
            checks: checks(fields),
            rules: list(fields, "x-kubernetes-validations")
                .iter()
                .filter_map(Value::as_object)
                .map(rule)
                .collect(),
            ..Self::default()
        }
    }
}

fn checks(fields: &Map<String, Value>) -> Option<Box<Checks>> {
    const NAMES: [&str; 15] = [
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !NAMES.iter().any(|name| fields.contains_key(*name)) {
        return None;
    }
    let number = |name| match fields.get(name) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ => None,
    };
    let count = |name| fields.get(name).and_then(Value::as_u64);
    let schemas = |name| {
        list(fields, name)
            .iter()
            .map(|schema| Arc::new(Schema::from_openapi(schema)))
            .collect()
    };
    Some(Box::new(Checks {
        minimum: number("minimum"),
        exclusive_minimum: flag(fields, "exclusiveMinimum"),
        maximum: number("maximum"),
        exclusive_maximum: flag(fields, "exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: Some(text(fields, "pattern").to_owned()).filter(|p| !p.is_empty()),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag(fields, "uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: child(fields, "not"),
    }))
}

/// One element of `x-kubernetes-validations`.
fn rule(fields: &Map<String, Value>) -> Rule {
    Rule {
        rule: text(fields, "rule").to_owned(),
        message: text(fields, "message").to_owned(),
        message_expression: text(fields, "messageExpression").to_owned(),
        reason: text(fields, "reason").to_owned(),
        field_path: text(fields, "fieldPath").to_owned(),
        optional_old_self: flag(fields, "optionalOldSelf"),
    }
}

fn child(fields: &Map<String, Value>, name: &str) -> Option<Arc<Schema>> {
    fields
        .get(name)
        .filter(|schema| schema.is_object())
        .map(|schema| Arc::new(Schema::from_openapi(schema)))
}

/// The text of a field; empty when it is absent or something else.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a field is `true`.
pub(super) fn flag(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name) == Some(&Value::Bool(true))
}

/// The elements of a list; none when it is absent.
pub(super) fn list<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    fields
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The texts of a list; none when it is absent.
pub(super) fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    list(fields, name)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The fields of an object; none when it is absent.
pub(super) fn object<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    fields.get(name).and_then(Value::as_object).into_iter().flatten()
}

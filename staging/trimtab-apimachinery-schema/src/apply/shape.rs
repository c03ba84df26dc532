//! A schema as ownership sees it: maps, lists and scalars, and how each is merged.

use std::sync::LazyLock;

use serde_json::Value;

use super::path::Element;
use crate::schema::{Additional, ListType, Schema, Type};

/// What a value is to be walked as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    Map(&'a Schema),
    List(&'a Schema),
    Scalar(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Number,
    String,
    Boolean,
    Any,
}

impl Shape<'_> {
    pub(super) fn same(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Shape::Map(_), Shape::Map(_))
                | (Shape::List(_), Shape::List(_))
                | (Shape::Scalar(_), Shape::Scalar(_))
        )
    }
}

/// The schema of what no schema describes: objects are merged field by field, lists are one value.
static ANYTHING: LazyLock<Schema> = LazyLock::new(Schema::any);

/// The shape of `value` under `schema`; where the schema leaves the type open, the value decides.
pub(super) fn shape<'a>(schema: &'a Schema, value: Option<&Value>) -> Shape<'a> {
    if schema.int_or_string {
        return Shape::Scalar(Scalar::Any);
    }
    match schema.type_ {
        Some(Type::Object) => Shape::Map(schema),
        Some(Type::Array) => Shape::List(schema),
        Some(Type::String) => Shape::Scalar(Scalar::String),
        Some(Type::Integer | Type::Number) => Shape::Scalar(Scalar::Number),
        Some(Type::Boolean) => Shape::Scalar(Scalar::Boolean),
        None if !schema.properties.is_empty() => Shape::Map(schema),
        None => match value {
            Some(Value::Array(_)) => Shape::List(schema),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Shape::Scalar(Scalar::Any),
            _ => Shape::Map(schema),
        },
    }
}

/// The shape of what a field set describes, where there is no value to look at.
pub(super) fn shape_of_set(schema: &Schema) -> Shape<'_> {
    shape(schema, None)
}

/// The schema of a map's field; `None` when the map may not have it.
pub(super) fn field<'a>(map: &'a Schema, name: &str) -> Option<&'a Schema> {
    if let Some(schema) = map.properties.get(name) {
        return Some(schema);
    }
    let identity = map.embedded_resource && matches!(name, "apiVersion" | "kind" | "metadata");
    match &map.additional {
        Additional::Schema(schema) => Some(schema),
        Additional::Any => Some(&ANYTHING),
        Additional::None if map.preserve_unknown || map.type_.is_none() || identity => Some(&ANYTHING),
        Additional::None => None,
    }
}

/// The schema of a map's field, or that of anything.
pub(super) fn field_or_any<'a>(map: &'a Schema, name: &str) -> &'a Schema {
    field(map, name).unwrap_or(&ANYTHING)
}

/// The schema of a list's elements.
pub(super) fn items(list: &Schema) -> &Schema {
    list.items.as_deref().unwrap_or(&ANYTHING)
}

/// Whether a list is owned as one value.
pub(super) fn atomic_list(list: &Schema) -> bool {
    list.list_type == ListType::Atomic
}

/// How an element of a set or map list is named; an error text when it cannot be.
pub(super) fn element_of(list: &Schema, item: &Value) -> Result<Element, String> {
    if list.list_type == ListType::Map && !list.list_map_keys.is_empty() {
        return keyed_element(list, item);
    }
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(Element::Value(scalar.clone())),
    }
}

fn keyed_element(list: &Schema, item: &Value) -> Result<Element, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let default = |key: &String| items(list).properties.get(key).and_then(|s| s.default.clone());
    let key: Vec<_> = list
        .list_map_keys
        .iter()
        .filter_map(|name| Some((name.clone(), fields.get(name).cloned().or_else(|| default(name))?)))
        .collect();
    if key.is_empty() {
        let names: Vec<_> = list.list_map_keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(Element::key(key))
}

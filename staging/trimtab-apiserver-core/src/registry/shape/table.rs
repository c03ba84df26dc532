//! Tables: what `kubectl get` prints.

use serde_json::{Value, json};
use trimtab_apiserver_kinds::columns::age;
use trimtab_apiserver_kinds::resource::Column;

use super::{Include, META, Shaper, jsonpath, partial};
use crate::registry::meta;

/// A table of these objects.
pub(super) fn table(shaper: &Shaper, metadata: Value, objects: &[Value], columns: bool) -> Value {
    let definitions = if columns { definitions(shaper) } else { Value::Null };
    let rows: Vec<Value> = objects.iter().map(|object| row(shaper, object)).collect();
    json!({
        "kind": "Table",
        "apiVersion": META,
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": if rows.is_empty() && is_unprinted(shaper) { Value::Null } else { Value::Array(rows) },
    })
}

/// What a table says of its columns.
pub(super) fn definitions(shaper: &Shaper) -> Value {
    let columns = shaper.resource.columns.iter();
    let definitions = columns.map(|c| {
        json!({"name": c.name, "type": c.type_, "format": c.format, "description": c.description,
            "priority": c.priority})
    });
    definitions.collect()
}

/// Whether the kind has no printer of its own: a table of none of its objects has null for rows, where others have an
/// empty list.
pub(super) fn is_unprinted(shaper: &Shaper) -> bool {
    let second = shaper.resource.columns.get(1);
    second.is_some_and(|column| column.name == "Created At")
}

/// An object as a row.
pub(super) fn row(shaper: &Shaper, object: &Value) -> Value {
    let part = match shaper.include {
        Include::None => Value::Null,
        Include::Metadata => partial(object),
        Include::Object => object.clone(),
    };
    let mut row = json!({"cells": cells(shaper, object), "object": part});
    let conditions = shaper.resource.row_conditions(object);
    if !conditions.is_empty() {
        row["conditions"] = conditions.into();
    }
    row
}

fn cells(shaper: &Shaper, object: &Value) -> Vec<Value> {
    let resource = &shaper.resource;
    resource.cells(object, shaper.now).unwrap_or_else(|| {
        resource
            .columns
            .iter()
            .map(|column| cell(column, object, shaper.now))
            .collect()
    })
}

/// A cell that its column's JSONPath computes.
fn cell(column: &Column, object: &Value, now: i64) -> Value {
    let Some(path) = &column.json_path else {
        return match column.name.as_str() {
            "Name" => meta::name(object).into(),
            "Age" => age(meta::text(object, "creationTimestamp"), now).into(),
            "Created At" => meta::text(object, "creationTimestamp").into(),
            _ => Value::Null,
        };
    };
    let found = jsonpath::find(path, object);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    let text = || match first {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match column.type_.as_str() {
        "date" => match first {
            Value::String(text) => age(text, now).into(),
            _ => Value::Null,
        },
        "integer" => first
            .as_i64()
            .or_else(|| first.as_f64().map(|f| f as i64))
            .map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        _ if found.len() > 1 => {
            let all: Vec<String> = found
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            all.join(",").into()
        }
        _ => text().into(),
    }
}

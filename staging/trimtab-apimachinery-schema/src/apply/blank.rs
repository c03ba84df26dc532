//! Objects before anything is written to them: what ownership of a new object is measured against.

use serde_json::{Map, Value};

use super::Write;
use crate::schema::Schema;

/// An object of the kind before anything is written to it. Built-in kinds have structs that are always there, even
/// when empty (their schema has the default `{}`), and fields that are zero or null rather than absent (Go keeps them).
pub(super) fn blank(schema: &Schema, write: &Write) -> Value {
    let mut object = if write.custom {
        Map::new()
    } else {
        blank_struct(schema, 0)
    };
    object.insert("apiVersion".to_owned(), Value::from(write.api_version.as_str()));
    object.insert("kind".to_owned(), Value::from(write.kind.as_str()));
    Value::Object(object)
}

fn blank_struct(schema: &Schema, depth: usize) -> Map<String, Value> {
    // No built-in kind nests its structs deeper; a schema that refers to itself must not be followed for ever.
    const DEPTH: usize = 12;
    let mut fields = Map::new();
    for (name, field) in schema.properties.iter().filter(|_| depth < DEPTH) {
        if field
            .default
            .as_ref()
            .is_some_and(|d| d.as_object().is_some_and(Map::is_empty))
        {
            fields.insert(name.clone(), Value::Object(blank_struct(field, depth + 1)));
        } else if field.go.kept {
            fields.insert(name.clone(), field.go_zero());
        }
    }
    fields
}

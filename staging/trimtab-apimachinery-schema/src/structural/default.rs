//! Filling in defaults.

use serde_json::Value;

use crate::Schema;
use crate::schema::Additional;

/// Sets absent fields to the defaults of the schema, from the root down, so that a default that is itself an object
/// is completed by the defaults below it. A null where the schema is not nullable counts as absent: it becomes the
/// default or, when there is none, the field is removed. Idempotent.
pub fn default(schema: &Schema, object: &mut Value) {
    prune_nulls(Some(schema), object);
    fill(schema, object);
}

/// Removes fields that are null without being nullable or having a default.
fn prune_nulls(schema: Option<&Schema>, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let child = schema.and_then(|s| s.field(name)).map(AsRef::as_ref);
            if value.is_null() && child.is_some_and(|s| !s.nullable && s.default.is_none()) {
                return false;
            }
            prune_nulls(child, value);
            true
        }),
        Value::Array(items) => {
            let child = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| prune_nulls(child, item));
        }
        _ => {}
    }
}

/// Sets defaults; nulls without a default are gone from objects by now, and stay in lists.
pub(super) fn fill(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, child) in &schema.properties {
                let Some(default) = &child.default else { continue };
                let absent = match fields.get(name) {
                    None => true,
                    Some(Value::Null) => !child.nullable,
                    Some(_) => false,
                };
                if absent {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields {
                if let Some(child) = schema.properties.get(name) {
                    fill(child, value);
                } else if let Additional::Schema(child) = &schema.additional {
                    fill_element(child, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &schema.items {
                items.iter_mut().for_each(|item| fill_element(child, item));
            }
        }
        _ => {}
    }
}

fn fill_element(schema: &Schema, value: &mut Value) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or_default();
    }
    fill(schema, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_become_their_defaults() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {
            "s": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "y"},
            "plain": {"type": "string"},
            "free": {"type": "string", "nullable": true},
            "deep": {"type": "object", "default": {}, "properties": {"in": {"type": "integer", "default": 1}}},
            "list": {"type": "array", "items": {"type": "object", "default": {"a": 1},
                "properties": {"b": {"type": "integer", "default": 2}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string", "default": "m"}},
        }}));
        let full = json!({"s": "x", "n": "y", "deep": {"in": 1}});
        let cases = [
            (json!({}), json!({})),
            (json!({"s": null, "plain": null}), json!({})),
            (json!({"n": null}), json!({"n": null})),
            (json!({"free": null}), json!({"free": null})),
            (json!({"deep": {"in": null}}), json!({})),
            (
                json!({"list": [{}, null]}),
                json!({"list": [{"b": 2}, {"a": 1, "b": 2}]}),
            ),
            (json!({"map": {"k": null}}), json!({"map": {"k": "m"}})),
            (json!({"unknown": null}), json!({"unknown": null})),
        ];
        for (before, change) in cases {
            let mut expected = full.clone();
            for (name, value) in change.as_object().unwrap() {
                expected[name] = value.clone();
            }
            let mut object = before.clone();
            default(&schema, &mut object);
            assert_eq!(object, expected, "{before}");
            default(&schema, &mut object);
            assert_eq!(object, expected, "{before}, again");
        }
    }
}

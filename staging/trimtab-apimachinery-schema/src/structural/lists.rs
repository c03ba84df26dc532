//! Lists of type `set` and `map`: elements, or their keys, are there once.

use std::collections::HashMap;

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::outcome::printed;
use crate::Schema;
use crate::schema::{Additional, ListType};

/// Appends an error for each element that is there a second time.
pub(super) fn check(schema: &Schema, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if let Additional::Schema(values) = &schema.additional {
                for (key, value) in fields
                    .iter()
                    .filter(|(key, _)| !schema.properties.contains_key(*key))
                {
                    check(values, value, &path.key(key), errors);
                }
            }
            for (key, value) in fields {
                if let Some(property) = schema.properties.get(key) {
                    check(property, value, &path.child(key), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                ListType::Atomic => {}
                ListType::Set => {
                    for index in repeated(items) {
                        let item = items.get(index).cloned().unwrap_or_default();
                        errors.push(FieldError::duplicate(&path.index(index), printed(item)));
                    }
                }
                ListType::Map => check_map(schema, items, path, errors),
            }
            if let Some(element) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(element, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_map(schema: &Schema, items: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let item = items.get(index).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            &path.index(index),
            printed(item),
            "must be an object for an array of list-type map",
        ));
        return;
    }
    let key_of = |item: &Value| -> Value {
        let stated = schema
            .list_map_keys
            .iter()
            .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(stated.collect::<Map<_, _>>())
    };
    let keys: Vec<_> = items.iter().map(key_of).collect();
    for index in repeated(&keys) {
        let key = keys.get(index).cloned().unwrap_or_default();
        errors.push(FieldError::duplicate(&path.index(index), printed(key)));
    }
}

/// Where values are for the second time; third times are not reported again.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<&Value, usize> = HashMap::with_capacity(items.len());
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item).or_default();
        *times += 1;
        if *times == 2 {
            found.push(index);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn second_times_are_reported() {
        let schema = Schema::from_openapi(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "additionalProperties": {"type": "array", "x-kubernetes-list-type": "set", "items": {}},
            "properties": {
                "one": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
                "two": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"]},
            },
        }}}));
        let cases = [
            (
                json!({"s": ["x", "y", "x", "x", 1, 1.0]}),
                vec!["spec[s][2]: Duplicate value: \"x\""],
            ),
            (
                json!({"s": [{"a": 1}, {"a": 1}]}),
                vec!["spec[s][1]: Duplicate value: {\"a\":1}"],
            ),
            (
                json!({"one": [{"k": "a"}, {"k": "b"}, {"k": "a", "v": 1}]}),
                vec!["spec.one[2]: Duplicate value: {\"k\":\"a\"}"],
            ),
            (
                json!({"one": [{}, null]}),
                vec!["spec.one[1]: Duplicate value: {}"],
            ),
            (
                json!({"one": [1, {"k": 1}]}),
                vec!["spec.one[0]: Invalid value: 1: must be an object for an array of list-type map"],
            ),
            (
                json!({"two": [{"a": 1, "b": 2}, {"a": 1}, {"b": 2, "a": 1}]}),
                vec!["spec.two[2]: Duplicate value: {\"a\":1,\"b\":2}"],
            ),
        ];
        for (spec, expected) in cases {
            let mut errors = Vec::new();
            check(&schema, &json!({"spec": spec}), &FieldPath::root(), &mut errors);
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
        }
    }
}

//! What has changed between two states of an object, as a merge patch (RFC 7396).

use serde_json::{Map, Value};

/// What makes `after` of `before`; none if they are the same. Lists are one value each; a null field is the same as none.
pub(super) fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return Some(after.clone());
    };
    let mut patch = Map::new();
    for (field, _) in before.iter().filter(|(_, value)| !value.is_null()) {
        if after.get(field).is_none_or(Value::is_null) {
            patch.insert(field.clone(), Value::Null);
        }
    }
    for (field, value) in after.iter().filter(|(_, value)| !value.is_null()) {
        let change = match before.get(field) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(field.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The object less its status, which is written apart.
pub(super) fn without_status(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

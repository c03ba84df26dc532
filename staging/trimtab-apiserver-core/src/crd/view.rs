//! Reads parts of a CustomResourceDefinition that is a JSON value, and writes its status.

use serde_json::{Map, Value, json};

/// A text; empty when absent.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The elements of a list; none when absent.
pub(super) fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The texts of a list.
pub(super) fn texts(value: &Value, field: &str) -> Vec<String> {
    items(value, field)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A flag; false when absent.
pub(super) fn flag(value: &Value, field: &str) -> bool {
    value[field] == Value::Bool(true)
}

/// The versions of a spec.
pub(super) fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map_or(&[], Vec::as_slice)
}

/// The name of the version that objects are stored in.
pub(super) fn storage_version(spec: &Value) -> Option<&str> {
    let version = versions(spec).iter().find(|v| flag(v, "storage"))?;
    version["name"].as_str()
}

/// The schema of a version, if it has one.
pub(super) fn schema(version: &Value) -> Option<&Value> {
    version["schema"].get("openAPIV3Schema").filter(|s| !s.is_null())
}

/// An object as a map that can be changed, made if it is not there.
pub(super) fn object_mut<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let child = &mut value[field];
    if !child.is_object() {
        *child = json!({});
    }
    match child {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made an object"),
    }
}

/// The condition of that type.
pub(super) fn condition<'a>(definition: &'a Value, type_: &str) -> Option<&'a Value> {
    items(&definition["status"], "conditions").find(|c| c["type"] == type_)
}

/// Whether the condition of that type is `True`.
pub(super) fn is_true(definition: &Value, type_: &str) -> bool {
    condition(definition, type_).is_some_and(|c| c["status"] == "True")
}

/// Sets a condition: in its place if it is there, else at the end. Its time changes with its status.
pub(crate) fn set_condition(
    definition: &mut Value,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    let conditions = object_mut(definition, "status")
        .entry("conditions")
        .or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let new = json!({"type": type_, "status": status, "lastTransitionTime": now, "reason": reason,
        "message": message});
    match conditions.iter_mut().find(|c| c["type"] == type_) {
        None => conditions.push(new),
        Some(old) => {
            let since = (old["status"] == status && old["lastTransitionTime"].is_string())
                .then(|| old["lastTransitionTime"].clone());
            *old = new;
            if let Some(since) = since {
                old["lastTransitionTime"] = since;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_place_and_their_time() {
        let mut definition = json!({"status": {"conditions": null}});
        set_condition(&mut definition, "A", "False", "R", "m", "t1");
        set_condition(&mut definition, "B", "True", "R", "m", "t1");
        set_condition(&mut definition, "A", "False", "S", "n", "t2");
        set_condition(&mut definition, "B", "False", "S", "n", "t2");
        let times: Vec<(&str, &str, &str)> = items(&definition["status"], "conditions")
            .map(|c| (text(c, "type"), text(c, "reason"), text(c, "lastTransitionTime")))
            .collect();
        assert_eq!(times, [("A", "S", "t1"), ("B", "S", "t2")]);
        assert!(!is_true(&definition, "B"));
    }
}

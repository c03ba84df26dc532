//! Reading and writing `metadata` of objects that are JSON values.

use serde_json::{Map, Value};

/// What keeps an object from being deleted until its dependents have been orphaned.
pub const ORPHAN: &str = "orphan";
/// What keeps an object from being deleted until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";

/// A text field of `metadata`; empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The object's name; empty when it has none.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// The object's namespace; empty when it has none.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata` as a map, made if it is not there. Does nothing to what is no object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made an object"),
    }
}

/// Sets a field of `metadata`; null and empty text remove it.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    let metadata = metadata_mut(object);
    if value.is_null() || value.as_str() == Some("") {
        metadata.remove(field);
    } else {
        metadata.insert(field.to_owned(), value);
    }
}

/// Copies a field of `metadata`, its absence too.
pub fn copy(to: &mut Value, from: &Value, field: &str) {
    set(to, field, from["metadata"][field].clone());
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// `metadata.generation`; 0 when absent.
pub fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Removes from `metadata` what says nothing: nulls, empty lists and maps, empty texts, zeros.
///
/// Kubernetes writes none of them, so an object that has them would differ from itself after a round trip.
pub fn normalize(object: &mut Value) {
    metadata_mut(object).retain(|field, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty() && field != "selfLink",
        // An empty list of managed fields is an order to forget them.
        Value::Array(items) => !items.is_empty() || field == "managedFields",
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(number) => field == "deletionGracePeriodSeconds" || number.as_i64() != Some(0),
        Value::Bool(_) => true,
    });
}

/// Removes repeated owner references; answers the UIDs that were repeated.
pub fn dedup_owners(object: &mut Value) -> Vec<String> {
    let Some(owners) = metadata_mut(object)
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
    else {
        return Vec::new();
    };
    let mut repeated = Vec::new();
    let mut seen: Vec<Value> = Vec::with_capacity(owners.len());
    owners.retain(|owner| {
        let new = !seen.contains(owner);
        if new {
            seen.push(owner.clone());
        } else if let Some(uid) = owner["uid"].as_str() {
            repeated.push(uid.to_owned());
        }
        new
    });
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_nothing_is_dropped() {
        let mut object = json!({"metadata": {"name": "a", "namespace": "", "labels": {}, "finalizers": [],
            "creationTimestamp": null, "generation": 0, "selfLink": "/x", "deletionGracePeriodSeconds": 0}});
        normalize(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "deletionGracePeriodSeconds": 0}})
        );
    }

    #[test]
    fn repeated_owners_are_dropped_and_named() {
        let owner = json!({"uid": "u", "name": "a"});
        let mut object = json!({"metadata": {"ownerReferences": [owner, {"uid": "v"}, owner]}});
        assert_eq!(dedup_owners(&mut object), ["u"]);
        assert_eq!(
            object["metadata"]["ownerReferences"],
            json!([owner, {"uid": "v"}])
        );
    }
}

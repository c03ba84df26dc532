//! Managed fields: what a server remembers of each apply, and so what another one would change.
//!
//! The managed fields of an object say which fields the last apply of each manager had. If a wish has just these, and the
//! object has the wish's values in all of them, then to apply the wish changes nothing. Where that cannot be told for
//! sure it is not claimed, as for a value that the server writes otherwise than it was given: then the apply is made.
//!
//! Source of the format: structured-merge-diff's FieldsV1, <https://pkg.go.dev/sigs.k8s.io/structured-merge-diff/v6/fieldpath>.

use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// What of a wish says which object it is; no manager has these.
const IDENTITY: [&str; 2] = ["apiVersion", "kind"];
const IDENTITY_IN_METADATA: [&str; 2] = ["name", "namespace"];

/// Whether to apply this wish to the object as `manager` would change nothing, as far as the object's managed fields tell: the
/// manager's last apply was of these fields, and the object has the wish's values in all of them. Both are whole, as they are sent.
///
/// False where that is not sure: for an object without managed fields, values that the server writes otherwise than they were
/// given (`1000m` for `1`) or completes where they are one whole (the claim templates of a StatefulSet), and nulls. What is true of an object from a cache was true when that was the object's state.
pub fn is_applied(wish: &Value, object: &Value, manager: &str) -> bool {
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let (own, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .flatten()
        .partition(|entry| is_apply_of(entry, manager));
    let [own] = own[..] else { return false };
    if own.get("apiVersion") != wish.get("apiVersion") {
        return false;
    }
    let Some(fields) = fields_of(own) else {
        return false;
    };
    let others = Vec::from_iter(others.into_iter().filter_map(fields_of));
    holds(&owned_of(wish), object, fields, &others)
}

fn is_apply_of(entry: &Value, manager: &str) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    text("manager") == manager && text("operation") == "Apply" && text("subresource").is_empty()
}

fn fields_of(entry: &Value) -> Option<&Fields> {
    entry.get("fieldsV1").and_then(Value::as_object)
}

/// What of a wish a manager can have.
fn owned_of(wish: &Value) -> Value {
    let mut wish = wish.clone();
    let Some(fields) = wish.as_object_mut() else {
        return wish;
    };
    for name in IDENTITY {
        fields.remove(name);
    }
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        for name in IDENTITY_IN_METADATA {
            metadata.remove(name);
        }
        if metadata.is_empty() {
            fields.remove("metadata");
        }
    }
    wish
}

/// Whether a part of the wish has just these fields, and the same part of the object has its values.
fn holds(wish: &Value, object: &Value, fields: &Fields, others: &[&Fields]) -> bool {
    let below = children(fields);
    let Some((first, _)) = below.first() else {
        // A leaf, or a map that was empty; in that others may have put something, which is not this manager's then.
        let shared = others.iter().any(|fields| !children(fields).is_empty());
        return !wish.is_null() && wish == object && !shared;
    };
    match first.split_once(':') {
        Some(("f", _)) => fields_hold(wish, object, &below, others),
        Some(("k", _)) => items_hold(wish, object, &below, others),
        Some(("v", _)) => values_hold(wish, object, &below),
        _ => false,
    }
}

/// A map or a structure, by its fields.
fn fields_hold(wish: &Value, object: &Value, below: &[(&String, &Fields)], others: &[&Fields]) -> bool {
    let (Some(wish), Some(object)) = (wish.as_object(), object.as_object()) else {
        return false;
    };
    let held = below.iter().filter(|(path, fields)| {
        let name = path.strip_prefix("f:").unwrap_or_default();
        match (wish.get(name), object.get(name)) {
            (Some(wish), Some(object)) => holds(wish, object, fields, &at(others, path)),
            _ => false,
        }
    });
    // What is empty may be in no field set.
    let blank = wish.iter().filter(|(name, value)| {
        let as_empty = match (value, object.get(*name)) {
            (Value::Object(wish), Some(Value::Object(_))) => wish.is_empty(),
            (Value::Array(wish), Some(Value::Array(object))) => wish.is_empty() && object.is_empty(),
            _ => false,
        };
        as_empty
            && !below
                .iter()
                .any(|(path, _)| path.strip_prefix("f:") == Some(name))
    });
    held.count() == below.len() && below.len() + blank.count() == wish.len()
}

/// A list of items that are told apart by some of their fields. The order is a part of the wish.
fn items_hold(wish: &Value, object: &Value, below: &[(&String, &Fields)], others: &[&Fields]) -> bool {
    let (Some(wish), Some(object)) = (wish.as_array(), object.as_array()) else {
        return false;
    };
    let mut places = Vec::with_capacity(below.len());
    for (path, fields) in below {
        let key = path
            .strip_prefix("k:")
            .and_then(|key| serde_json::from_str(key).ok());
        let Some(key) = key else { return false };
        // The server adds what a key lacks, such as the protocol of a port.
        let wished = only(wish, |item| has_key(item, &key, true));
        let there = only(object, |item| has_key(item, &key, false));
        let (Some(wished), Some(there)) = (wished, there) else {
            return false;
        };
        if !holds(&wish[wished], &object[there], fields, &at(others, path)) {
            return false;
        }
        places.push((wished, there));
    }
    wish.len() == below.len() && in_order(places)
}

/// A set. The order is a part of the wish.
fn values_hold(wish: &Value, object: &Value, below: &[(&String, &Fields)]) -> bool {
    let (Some(wish), Some(object)) = (wish.as_array(), object.as_array()) else {
        return false;
    };
    let mut places = Vec::with_capacity(below.len());
    for (path, _) in below {
        let value: Option<Value> = path
            .strip_prefix("v:")
            .and_then(|value| serde_json::from_str(value).ok());
        let Some(value) = value else { return false };
        let (Some(wished), Some(there)) = (
            only(wish, |item| *item == value),
            only(object, |item| *item == value),
        ) else {
            return false;
        };
        places.push((wished, there));
    }
    wish.len() == below.len() && in_order(places)
}

/// What is below in a set of fields; the dot is the thing itself.
fn children(fields: &Fields) -> Vec<(&String, &Fields)> {
    let below = fields.iter().filter(|(path, _)| *path != ".");
    below
        .filter_map(|(path, fields)| Some((path, fields.as_object()?)))
        .collect()
}

fn at<'a>(others: &[&'a Fields], path: &str) -> Vec<&'a Fields> {
    let below = others.iter().filter_map(|fields| fields.get(path)?.as_object());
    below.collect()
}

/// Whether an item has the key, or as much as it has of it.
fn has_key(item: &Value, key: &Fields, in_part: bool) -> bool {
    let has = |(name, value): (&String, &Value)| item.get(name).map_or(in_part, |has| has == value);
    item.is_object() && key.iter().all(has)
}

/// Where the only one is.
fn only(items: &[Value], which: impl Fn(&Value) -> bool) -> Option<usize> {
    let mut found = (0..items.len()).filter(|place| which(&items[*place]));
    found.next().filter(|_| found.next().is_none())
}

fn in_order(mut places: Vec<(usize, usize)>) -> bool {
    places.sort_unstable();
    places.is_sorted_by(|before, after| before.0 < after.0 && before.1 < after.1)
}

#[cfg(test)]
mod tests;

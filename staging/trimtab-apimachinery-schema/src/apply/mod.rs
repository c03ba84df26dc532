//! Field ownership and server-side apply: who owns which fields of an object, and merging by that.
//!
//! [`apply`] carries out an apply request; [`track_update`] keeps `metadata.managedFields` right for every other
//! write. Both are pure. Clauses, each with a property test:
//!
//! - *Idempotent*: applying the same configuration again changes nothing, times included, unless the first time has left
//!   nobody who owns anything: what is there then is given an owner, as with every object that is not tracked yet.
//! - *Described*: `managedFields` names only fields that the object has.
//! - *Undisturbed*: without force, an apply never changes a field that someone else owns, nor removes it, unless with
//!   the whole list element that it is in, which nobody owns any more.
//!
//! They are promised for configurations without empty lists and maps. Those are in no field set, here and with
//! kube-apiserver, so they come and go with what is around them.
//!
//! One difference from kube-apiserver: entries made at another API version of the kind are read as if they were of
//! this one, rather than converted. Versions of one kind rarely differ in structure.

mod blank;
mod compare;
mod error;
mod last_applied;
mod managed;
mod merge;
mod overlay;
mod path;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod typed;
mod update;
mod write;

use serde_json::Value;

pub use error::{ApplyError, Conflict};
pub use overlay::overlay;
pub use write::{Reset, Write};

use crate::schema::Schema;
use blank::blank;
use managed::{Managed, ManagerId, Operation};

/// Applies `config` to `live` (`None` when there is no such object) and returns the object to be stored, with
/// `metadata.managedFields`, before defaulting. When nothing changes it is `live` itself, with the applier's entry.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    write: &Write,
) -> Result<Value, ApplyError> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != write.api_version || text("kind") != write.kind {
        return Err(ApplyError::BadRequest(format!(
            "invalid object type: {}",
            gvk(config)
        )));
    }
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|v| !v.is_null())
    {
        return Err(ApplyError::BadRequest(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let mut live_fields = live.cloned().unwrap_or_else(|| blank(schema, write));
    let entries = take_managed_fields(&mut live_fields);
    let mut managed = Managed::decode(entries.as_ref())
        .map_err(|e| ApplyError::Unusable(format!("failed to decode managed fields: {e}")))?;
    if managed.is_empty() && live.is_some() {
        // Nobody is known to own anything: what is there belongs to an owner of its own.
        let before = Write {
            manager: "before-first-apply".to_owned(),
            ..write.clone()
        };
        track(schema, &blank(schema, write), &live_fields, &mut managed, &before).map_err(|e| {
            ApplyError::Unusable(format!("failed to create manager for existing fields: {e}"))
        })?;
    }
    let misfits = typed::validate(schema, config);
    if !misfits.is_empty() {
        let (of, why) = (identity(config), typed::describe(&misfits));
        return Err(ApplyError::Unusable(format!(
            "failed to create typed patch object ({of}): {why}"
        )));
    }
    let (object, mut managed) = apply_typed(schema, &live_fields, config, managed, write)?;
    let id = ManagerId::new(
        &write.manager,
        Operation::Apply,
        &write.api_version,
        &write.subresource,
    );
    if object.is_some()
        && let Some(owned) = managed.0.get_mut(&id)
    {
        owned.time = Some(write.now.clone());
    }
    managed.strip(&id);
    let mut object = object.unwrap_or(live_fields);
    last_applied::update(&mut object, config, write);
    set_managed_fields(&mut object, &managed);
    Ok(object)
}

/// Applies, and takes over without conflict what `kubectl apply` without `--server-side` has written.
fn apply_typed(
    schema: &Schema,
    live: &Value,
    config: &Value,
    before: Managed,
    write: &Write,
) -> Result<(Option<Value>, Managed), ApplyError> {
    let id = ManagerId::new(
        &write.manager,
        Operation::Apply,
        &write.api_version,
        &write.subresource,
    );
    let run = |force: bool| {
        let mut managed = before.clone();
        update::apply(schema, live, config, &mut managed, &id, write, force).map(|applied| (applied, managed))
    };
    let (applied, managed) = run(write.force)?;
    if applied.conflicts.is_empty() {
        return Ok((applied.object, managed));
    }
    let allowed = (write.manager == "kubectl")
        .then(|| last_applied::fields(schema, live, write))
        .flatten();
    let Some(allowed) = allowed else {
        return Err(ApplyError::Conflict(applied.conflicts));
    };
    let conflicts: Vec<_> = applied
        .conflicts
        .into_iter()
        .filter(|conflict| !allowed.has_path(&conflict.path.0))
        .collect();
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflict(conflicts));
    }
    let (applied, managed) = run(true)?;
    Ok((applied.object, managed))
}

/// Sets `metadata.managedFields` of `new`, which is about to be stored over `live` (`None` for a create) by any
/// request but an apply.
///
/// A request may hand in managed fields to change them; an empty list, or one of one empty entry, resets them. When
/// ownership cannot be computed, `live`'s managed fields stay.
pub fn track_update(schema: &Schema, live: Option<&Value>, new: &mut Value, write: &Write) {
    let given = take_managed_fields(new);
    let stored = live.and_then(|live| live.get("metadata")?.get("managedFields"));
    let from_stored = || Managed::decode(stored).unwrap_or_default();
    let mut managed = match &given {
        _ if !write.subresource.is_empty() => from_stored(),
        Some(Value::Array(entries)) if is_reset(entries) => Managed::default(),
        given => match Managed::decode(given.as_ref()) {
            Ok(managed) if !managed.is_empty() => managed,
            _ => from_stored(),
        },
    };
    // Objects whose ownership is not tracked stay so until they are applied to.
    if !managed.is_empty() || live.is_none() {
        // The stored managed fields differ from the new object, which has none now; but nobody owns them.
        let tracked = match live {
            Some(old) => track(schema, old, new, &mut managed, write),
            None => track(schema, &blank(schema, write), new, &mut managed, write),
        };
        if tracked.is_err() {
            managed = from_stored();
        }
    }
    set_managed_fields(new, &managed);
}

/// Whether `metadata.managedFields`, null included, can be understood.
///
/// # Errors
/// Says, in kube-apiserver's words, why not.
pub fn check_managed_fields(entries: &Value) -> Result<(), String> {
    Managed::decode(Some(entries)).map(drop)
}

/// Keeps the times of `old`'s managed fields when `new` differs from `old` in nothing else, so that a write that
/// changes nothing is none.
pub fn keep_times(old: &Value, new: &mut Value) {
    if same(old, new, &["metadata", "managedFields"]) {
        new.clone_from(old);
    }
}

/// Whether two values are the same but for the times of the list of entries that is at `path`.
fn same(a: &Value, b: &Value, path: &[&str]) -> bool {
    match (path, a, b) {
        ([first, rest @ ..], Value::Object(a), Value::Object(b)) => {
            let alike = |(key, value): (&String, &Value)| {
                b.get(key).is_some_and(|other| {
                    if key == first {
                        same(value, other, rest)
                    } else {
                        value == other
                    }
                })
            };
            a.len() == b.len() && a.iter().all(alike)
        }
        ([], Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_entry(a, b))
        }
        _ => a == b,
    }
}

/// Whether two entries are the same but for their times.
fn same_entry(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let timeless =
        |entry: &'_ serde_json::Map<String, Value>| entry.len() - usize::from(entry.contains_key("time"));
    let mut others = a.iter().filter(|(key, _)| *key != "time");
    timeless(a) == timeless(b) && others.all(|(key, value)| b.get(key) == Some(value))
}

/// Notes a write among the managers, which are of no use after an error.
fn track(
    schema: &Schema,
    old: &Value,
    new: &Value,
    managed: &mut Managed,
    write: &Write,
) -> Result<(), String> {
    // The write is tracked under a name of its own first: only if that ends up with fields has anything changed.
    let current = ManagerId::new(
        "current-operation",
        Operation::Update,
        &write.api_version,
        &write.subresource,
    );
    update::update(schema, old, new, managed, &current, write)?;
    managed.strip(&current);
    if let Some(mut gained) = managed.0.remove(&current) {
        let id = ManagerId::new(
            &write.manager,
            Operation::Update,
            &write.api_version,
            &write.subresource,
        );
        if let Some(before) = managed.0.remove(&id) {
            gained.set.add(before.set);
        }
        gained.time = Some(write.now.clone());
        managed.0.insert(id, gained);
    }
    managed.cap();
    Ok(())
}

fn is_reset(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [one] => one
            .as_object()
            .is_some_and(|entry| entry.values().all(|v| v.is_null() || v == "")),
        _ => false,
    }
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object
        .get_mut("metadata")?
        .as_object_mut()?
        .remove("managedFields")
}

fn set_managed_fields(object: &mut Value, managed: &Managed) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    metadata.remove("managedFields");
    if let Some(entries) = managed.encode() {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// As errors name an object: `namespace/name; group/version, Kind=Kind`.
fn identity(object: &Value) -> String {
    let meta = |key: &str| {
        object
            .get("metadata")
            .and_then(|m| m.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    format!("{}/{}; {}", meta("namespace"), meta("name"), gvk(object))
}

fn gvk(object: &Value) -> String {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    let version = if version.contains('/') {
        version.to_owned()
    } else {
        format!("/{version}")
    };
    format!("{version}, Kind={}", text("kind"))
}

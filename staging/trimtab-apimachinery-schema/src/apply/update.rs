//! The rules of ownership: who gains and loses fields when an object is written or applied to.

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::managed::{Managed, ManagerId, Owned};
use super::merge::merge;
use super::path::equal;
use super::set::FieldSet;
use super::typed::{field_set, remove, settle};
use super::{ApplyError, Conflict, Write};
use crate::schema::Schema;

/// Ownership after a write of `new` over `old`: whoever writes owns what changed, everyone else loses it.
pub(super) fn update(
    schema: &Schema,
    old: &Value,
    new: &Value,
    managed: &mut Managed,
    writer: &ManagerId,
    write: &Write,
) -> Result<(), String> {
    let reset = &write.reset;
    reconcile(schema, managed);
    let found = compare(schema, old, new)?.filtered(|set| reset.filter(set));
    lose(managed, writer, &found);
    let before = managed.0.remove(writer);
    let (mut set, time) = before.map(|owned| (owned.set, owned.time)).unwrap_or_default();
    set.subtract(&found.removed);
    set.add(found.modified);
    set.add(found.added);
    managed.0.insert(
        writer.clone(),
        Owned {
            set: reset.filter(set),
            api_version: write.api_version.clone(),
            time,
        },
    );
    managed.drop_empty();
    Ok(())
}

/// What applying a configuration gives.
pub(super) struct Applied {
    /// The new object; `None` when it is the old one.
    pub(super) object: Option<Value>,
    /// Whose fields were taken without force. When there are any, `managed` is of no use.
    pub(super) conflicts: Vec<Conflict>,
}

/// Applies `config` to `old`: merges it, removes what the applier no longer applies, moves ownership.
pub(super) fn apply(
    schema: &Schema,
    old: &Value,
    config: &Value,
    managed: &mut Managed,
    applier: &ManagerId,
    write: &Write,
    force: bool,
) -> Result<Applied, ApplyError> {
    let reset = &write.reset;
    let failed = |what: &str, error: String| ApplyError::Unusable(format!("failed to {what}: {error}"));
    reconcile(schema, managed);
    let merged = merge(schema, Some(old), Some(config)).map_err(|e| failed("merge config", e))?;
    let merged = merged.unwrap_or_else(|| config.clone());
    let last = managed.0.get(applier).cloned();
    let set = reset.filter(field_set(schema, config));
    let time = last.as_ref().and_then(|owned| owned.time.clone());
    managed.0.insert(
        applier.clone(),
        Owned {
            set,
            api_version: write.api_version.clone(),
            time,
        },
    );
    let new = match last {
        Some(last) if !last.set.is_empty() => prune(schema, &merged, managed, &last.set, write.custom),
        _ => merged,
    };
    let found = compare(schema, old, &new)
        .map_err(|e| ApplyError::Unusable(format!("failed to compare objects: {e}")))?
        .filtered(|set| reset.filter(set));
    if !force {
        let conflicts = conflicts(managed, applier, &found);
        if !conflicts.is_empty() {
            return Ok(Applied {
                object: None,
                conflicts,
            });
        }
    }
    lose(managed, applier, &found);
    managed.drop_empty();
    let object = (!equal(old, &new)).then_some(new);
    Ok(Applied {
        object,
        conflicts: Vec::new(),
    })
}

fn reconcile(schema: &Schema, managed: &mut Managed) {
    for owned in managed.0.values_mut() {
        owned.set.reconcile(schema);
    }
}

fn conflicts(managed: &Managed, writer: &ManagerId, found: &Comparison) -> Vec<Conflict> {
    let changed = found.changed();
    let of = |(id, owned): (&ManagerId, &Owned)| {
        let manager = id.describe();
        let paths = owned.set.intersection(&changed).paths();
        paths
            .into_iter()
            .map(move |path| Conflict {
                manager: manager.clone(),
                path,
            })
            .collect::<Vec<_>>()
    };
    managed
        .0
        .iter()
        .filter(|(id, _)| *id != writer)
        .flat_map(of)
        .collect()
}

/// Everyone but the writer loses what was changed or removed.
fn lose(managed: &mut Managed, writer: &ManagerId, found: &Comparison) {
    for (_, owned) in managed.0.iter_mut().filter(|(id, _)| *id != writer) {
        for gone in [&found.removed, &found.modified, &found.added] {
            owned.set.subtract(gone);
        }
    }
    managed
        .0
        .retain(|id, owned| id == writer || !owned.set.is_empty());
}

/// Removes from `merged` what the applier applied before (`last`), does not apply now, and nobody else owns.
///
/// What is emptied by that and owned by someone stays as an empty map or list (`keep_empty`), or goes as well.
fn prune(schema: &Schema, merged: &Value, managed: &Managed, last: &FieldSet, keep_empty: bool) -> Value {
    let last = last.with_named_fields(schema);
    let without = |gone: &FieldSet| remove(schema, merged, gone);
    let named = |value: &Value| field_set(schema, value).with_named_fields(schema);
    let merged_set = named(merged);
    // First what the applier let go, then back what anyone owns now, then back what was not the applier's to take.
    let pruned = without(&last);
    let owned = managed
        .0
        .values()
        .fold(FieldSet::new(), |all, owned| all.union(&owned.set));
    let kept = named(&pruned).union(&owned.with_named_fields(schema));
    let pruned = without(&merged_set.difference(&kept));
    let mut result = without(&merged_set.difference(&named(&pruned)).intersection(&last));
    settle(&mut result, merged, keep_empty);
    result
}

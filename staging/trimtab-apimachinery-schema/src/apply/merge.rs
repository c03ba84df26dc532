//! Merging what is applied into what is there: nothing is removed, the applied value wins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::Element;
use super::shape::{Shape, atomic_list, element_of, field_or_any, items, shape};
use crate::schema::Schema;

/// Merges `new` into `old`; at least one is there. `None` when the result is empty.
///
/// # Errors
/// A list of `new` or `old` has an element that cannot be identified.
pub(super) fn merge(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Option<Value>, String> {
    let shape = shape(schema, new.or(old));
    match shape {
        Shape::Scalar(_) => Ok(new.or(old).cloned()),
        Shape::Map(schema) => {
            let old_fields = old.and_then(Value::as_object).filter(|m| !m.is_empty());
            let new_fields = new.and_then(Value::as_object).filter(|m| !m.is_empty());
            if schema.map_atomic || (old_fields.is_none() && new_fields.is_none()) {
                return Ok(new.or(old).cloned());
            }
            merge_maps(schema, old_fields, new_fields)
        }
        Shape::List(schema) => {
            let old_list = old
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let new_list = new
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            if atomic_list(schema) || (old_list.is_empty() && new_list.is_empty()) {
                return Ok(new.or(old).cloned());
            }
            merge_lists(schema, old_list, new_list)
        }
    }
}

fn merge_maps(
    schema: &Schema,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Result<Option<Value>, String> {
    let mut merged = Map::new();
    for (name, old) in old.into_iter().flatten() {
        let new = new.and_then(|fields| fields.get(name));
        if let Some(value) = merge(field_or_any(schema, name), Some(old), new)? {
            merged.insert(name.clone(), value);
        }
    }
    for (name, new) in new.into_iter().flatten() {
        if old.is_some_and(|fields| fields.contains_key(name)) {
            continue;
        }
        if let Some(value) = merge(field_or_any(schema, name), None, Some(new))? {
            merged.insert(name.clone(), value);
        }
    }
    Ok((!merged.is_empty()).then_some(Value::Object(merged)))
}

/// One side of a list merge: its elements' names in order, and the element of each name.
struct Side<'a> {
    order: Vec<Element>,
    /// `None` for names that occur several times: such elements are not merged.
    by_name: BTreeMap<Element, Option<&'a Value>>,
}

impl<'a> Side<'a> {
    fn of(schema: &Schema, list: &'a [Value], duplicates: bool) -> Result<Self, String> {
        let mut side = Side {
            order: Vec::with_capacity(list.len()),
            by_name: BTreeMap::new(),
        };
        for (index, item) in list.iter().enumerate() {
            let element = element_of(schema, item).map_err(|text| format!("element {index}: {text}"))?;
            if side.by_name.contains_key(&element) {
                if !duplicates {
                    return Err(format!("duplicate entries for key {element}"));
                }
                side.by_name.insert(element.clone(), None);
            } else {
                side.by_name.insert(element.clone(), Some(item));
            }
            side.order.push(element);
        }
        Ok(side)
    }

    fn has(&self, element: &Element) -> bool {
        self.by_name.contains_key(element)
    }

    fn get(&self, element: &Element) -> Option<&'a Value> {
        self.by_name.get(element).copied().flatten()
    }
}

/// Merges set and map lists. Elements of `new` keep their order among each other, those of `old` alone theirs, and
/// the latter stay before the shared element that they preceded.
fn merge_lists(schema: &Schema, old: &[Value], new: &[Value]) -> Result<Option<Value>, String> {
    let new_side = Side::of(schema, new, false)?;
    let old_side = Side::of(schema, old, true)?;
    let item_schema = items(schema);
    let mut shared = new_side.order.iter().filter(|element| old_side.has(element));
    let mut next_shared = shared.next();
    let mut merged = Vec::with_capacity(old.len().max(new.len()));
    let mut done = BTreeMap::new();
    let (mut at_old, mut at_new) = (0, 0);
    while at_old < old.len() || at_new < new.len() {
        if let (Some(old_name), Some(new_name)) = (old_side.order.get(at_old), new_side.order.get(at_new)) {
            if old_name == new_name {
                done.insert(old_name, ());
                merged.extend(merge(
                    item_schema,
                    old_side.get(old_name),
                    new_side.get(new_name),
                )?);
                at_old += 1;
                at_new += 1;
                next_shared = shared.next();
                continue;
            }
            if new_side.has(old_name) && next_shared.is_some_and(|next| next != old_name) {
                // Shared, but its turn comes later, at its place in `new`.
                at_old += 1;
                continue;
            }
        }
        if let Some(old_name) = old_side.order.get(at_old) {
            if !new_side.has(old_name) {
                merged.extend(merge(item_schema, old.get(at_old), None)?);
                at_old += 1;
                continue;
            }
            if done.contains_key(old_name) {
                at_old += 1;
            }
        }
        if let Some(new_name) = new_side.order.get(at_new) {
            done.insert(new_name, ());
            merged.extend(merge(
                item_schema,
                old_side.get(new_name),
                new_side.get(new_name),
            )?);
            at_new += 1;
            if next_shared == Some(new_name) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!merged.is_empty()).then_some(Value::Array(merged)))
}

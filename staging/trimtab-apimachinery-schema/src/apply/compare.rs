//! What changed between two versions of an object, as field sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::{Element, equal};
use super::set::FieldSet;
use super::shape::{Shape, atomic_list, element_of, field_or_any, items, shape};
use crate::schema::Schema;

/// The fields in which two versions differ. No field is in two of the sets.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    /// Applies `filter` to each set.
    pub(super) fn filtered(self, filter: impl Fn(FieldSet) -> FieldSet) -> Self {
        Self {
            removed: filter(self.removed),
            modified: filter(self.modified),
            added: filter(self.added),
        }
    }

    /// What is there now and was not, or was different.
    pub(super) fn changed(&self) -> FieldSet {
        self.modified.union(&self.added)
    }
}

/// Compares two versions of an object.
///
/// # Errors
/// A list has an element that cannot be identified.
pub(super) fn compare(schema: &Schema, old: &Value, new: &Value) -> Result<Comparison, String> {
    let mut walk = Walk {
        path: Vec::new(),
        found: Comparison::default(),
    };
    walk.values(schema, Some(old), Some(new))?;
    Ok(walk.found)
}

struct Walk {
    path: Vec<Element>,
    found: Comparison,
}

impl Walk {
    fn values(&mut self, schema: &Schema, old: Option<&Value>, new: Option<&Value>) -> Result<(), String> {
        let (old_shape, new_shape) = (shape(schema, old), shape(schema, new));
        let leaf = match (old, new) {
            (_, None) => self.shaped(old_shape, old, new)?,
            (None, _) => self.shaped(new_shape, old, new)?,
            _ if old_shape.same(&new_shape) => self.shaped(new_shape, old, new)?,
            _ => {
                self.shaped(old_shape, old, new)?;
                self.shaped(new_shape, old, new)?
            }
        };
        if !leaf {
            self.presence(old, new);
        }
        Ok(())
    }

    /// Notes that the field came or went; whether it is there on both sides.
    fn presence(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => return true,
        }
        false
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        if self.presence(old, new)
            && let (Some(old), Some(new)) = (old, new)
            && !equal(old, new)
        {
            self.found.modified.insert(&self.path);
        }
        true
    }

    /// Compares two values of the same shape; true when they were compared as one leaf.
    fn shaped(&mut self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Result<bool, String> {
        match shape {
            Shape::Scalar(_) => Ok(self.leaf(old, new)),
            Shape::Map(schema) => {
                let old_fields = old.and_then(Value::as_object).filter(|m| !m.is_empty());
                let new_fields = new.and_then(Value::as_object).filter(|m| !m.is_empty());
                if schema.map_atomic || (old_fields.is_none() && new_fields.is_none()) {
                    return Ok(self.leaf(old, new));
                }
                self.maps(schema, old_fields, new_fields)
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
                    return Ok(self.leaf(old, new));
                }
                self.lists(schema, old_list, new_list)
            }
        }
    }

    fn maps(
        &mut self,
        schema: &Schema,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
    ) -> Result<bool, String> {
        let only_new = new
            .into_iter()
            .flat_map(Map::keys)
            .filter(|k| !old.is_some_and(|m| m.contains_key(*k)));
        for name in old.into_iter().flat_map(Map::keys).chain(only_new) {
            let (old, new) = (old.and_then(|m| m.get(name)), new.and_then(|m| m.get(name)));
            self.path.push(Element::Field(name.clone()));
            self.values(field_or_any(schema, name), old, new)?;
            self.path.pop();
        }
        Ok(false)
    }

    fn lists(&mut self, schema: &Schema, old: &[Value], new: &[Value]) -> Result<bool, String> {
        let (old, new) = (grouped(schema, old)?, grouped(schema, new)?);
        let (old_names, new_names) = (Names::of(&old), Names::of(&new));
        let only_new = new.iter().filter(|(name, _)| old_names.find(name).is_none());
        let none: &[&Value] = &[];
        for (name, _) in old.iter().chain(only_new) {
            let old = old_names.find(name).map_or(none, |at| &old[at].1);
            let new = new_names.find(name).map_or(none, |at| &new[at].1);
            self.path.push(name.clone());
            self.elements(items(schema), old, new)?;
            self.path.pop();
        }
        Ok(false)
    }

    /// Compares the elements of one name. Several of one name cannot be told apart and are one leaf together.
    fn elements(&mut self, schema: &Schema, old: &[&Value], new: &[&Value]) -> Result<(), String> {
        match (old, new) {
            ([_, _, ..], [_, _, ..]) => {
                if old.len() != new.len() || old.iter().zip(new).any(|(a, b)| !equal(a, b)) {
                    self.found.modified.insert(&self.path);
                }
                Ok(())
            }
            ([_, _, ..], _) => {
                if let Some(new) = new.first() {
                    self.values(schema, None, Some(new))?;
                }
                self.found.removed.insert(&self.path);
                Ok(())
            }
            (_, [_, _, ..]) => {
                if let Some(old) = old.first() {
                    self.values(schema, Some(old), None)?;
                }
                self.found.added.insert(&self.path);
                Ok(())
            }
            _ => self.values(schema, old.first().copied(), new.first().copied()),
        }
    }
}

/// The elements of a name.
type Group<'a> = (Element, Vec<&'a Value>);

/// Lists that are longer are not gone through for each of their elements.
const LONG: usize = 32;

/// Where names are among groups.
enum Names<'g, 'a> {
    Few(&'g [Group<'a>]),
    Many(BTreeMap<&'g Element, usize>),
}

impl<'g, 'a> Names<'g, 'a> {
    fn of(groups: &'g [Group<'a>]) -> Self {
        if groups.len() <= LONG {
            return Self::Few(groups);
        }
        let names = groups.iter().enumerate().map(|(at, (name, _))| (name, at));
        Self::Many(names.collect())
    }

    fn find(&self, wanted: &Element) -> Option<usize> {
        match self {
            Self::Few(groups) => groups.iter().position(|(name, _)| name == wanted),
            Self::Many(names) => names.get(wanted).copied(),
        }
    }
}

/// The elements of a list by name, names in order of their first occurrence.
fn grouped<'a>(schema: &Schema, list: &'a [Value]) -> Result<Vec<Group<'a>>, String> {
    let mut groups: Vec<Group<'_>> = Vec::with_capacity(list.len());
    let mut known: BTreeMap<Element, usize> = BTreeMap::new();
    for (index, item) in list.iter().enumerate() {
        let name = element_of(schema, item).map_err(|text| format!("element {index}: {text}"))?;
        let at = if list.len() <= LONG {
            groups.iter().position(|(other, _)| *other == name)
        } else {
            let next = groups.len();
            let at = *known.entry(name.clone()).or_insert(next);
            (at < next).then_some(at)
        };
        match at {
            Some(at) => groups[at].1.push(item),
            None => groups.push((name, vec![item])),
        }
    }
    Ok(groups)
}

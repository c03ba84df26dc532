//! What changed between two versions of an object, as field sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::{Element, equal};
use super::set::{FieldSet, Node};
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
    let found = values(schema, Some(old), Some(new))?;
    Ok(Comparison {
        removed: found.removed.below,
        modified: found.modified.below,
        added: found.added.below,
    })
}

/// How one field, and what is below it, has changed.
#[derive(Default)]
struct Change {
    removed: Node,
    modified: Node,
    added: Node,
}

impl Change {
    fn add(&mut self, other: Self) {
        self.removed.add(other.removed);
        self.modified.add(other.modified);
        self.added.add(other.added);
    }
}

/// How the fields of one map, or the elements of one list, have changed.
#[derive(Default)]
struct Changes {
    removed: Vec<(Element, Node)>,
    modified: Vec<(Element, Node)>,
    added: Vec<(Element, Node)>,
}

impl Changes {
    /// Notes a field's changes; its name is asked for only if there are any.
    fn note(&mut self, change: Change, element: impl Fn() -> Element) {
        for (list, node) in [
            (&mut self.removed, change.removed),
            (&mut self.modified, change.modified),
            (&mut self.added, change.added),
        ] {
            if !node.is_empty() {
                list.push((element(), node));
            }
        }
    }

    /// The changes as those of what the fields are in.
    fn below(self) -> Change {
        let node = |nodes| Node {
            member: false,
            below: FieldSet::of(nodes),
        };
        Change {
            removed: node(self.removed),
            modified: node(self.modified),
            added: node(self.added),
        }
    }
}

fn values(schema: &Schema, old: Option<&Value>, new: Option<&Value>) -> Result<Change, String> {
    let mut change = Change::default();
    match (old, new) {
        (None, None) => {}
        (Some(old), None) => change.removed = whole(schema, old)?,
        (None, Some(new)) => change.added = whole(schema, new)?,
        (Some(old), Some(new)) => {
            let (old_shape, new_shape) = (shape(schema, Some(old)), shape(schema, Some(new)));
            change = shaped(new_shape, old, new)?;
            if !old_shape.same(&new_shape) {
                change.add(shaped(old_shape, old, new)?);
            }
        }
    }
    Ok(change)
}

/// A value that has come or gone as a whole: it and all that is in it.
fn whole(schema: &Schema, value: &Value) -> Result<Node, String> {
    let mut nodes = Vec::new();
    match (shape(schema, Some(value)), value) {
        (Shape::Map(schema), Value::Object(fields)) if !schema.map_atomic => {
            nodes.reserve(fields.len());
            for (name, value) in fields {
                let node = whole(field_or_any(schema, name), value)?;
                nodes.push((Element::Field(name.clone()), node));
            }
        }
        (Shape::List(schema), Value::Array(list)) if !atomic_list(schema) => {
            for (name, group) in grouped(schema, list)? {
                let node = match group.as_slice() {
                    [one] => whole(items(schema), one)?,
                    _ => Node::default(),
                };
                nodes.push((name, Node { member: true, ..node }));
            }
        }
        _ => {}
    }
    Ok(Node {
        member: true,
        below: FieldSet::of(nodes),
    })
}

/// Compares two values as ones of this shape.
fn shaped(shape: Shape<'_>, old: &Value, new: &Value) -> Result<Change, String> {
    match shape {
        Shape::Map(schema) if !schema.map_atomic => {
            let old_fields = old.as_object().filter(|m| !m.is_empty());
            let new_fields = new.as_object().filter(|m| !m.is_empty());
            if old_fields.is_some() || new_fields.is_some() {
                return maps(schema, old_fields, new_fields);
            }
        }
        Shape::List(schema) if !atomic_list(schema) => {
            let (old_list, new_list) = (elements_of(old), elements_of(new));
            if !(old_list.is_empty() && new_list.is_empty()) {
                return lists(schema, old_list, new_list);
            }
        }
        Shape::Map(_) | Shape::List(_) | Shape::Scalar(_) => {}
    }
    let mut change = Change::default();
    change.modified.member = !equal(old, new);
    Ok(change)
}

fn elements_of(side: &Value) -> &[Value] {
    side.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn maps(
    schema: &Schema,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Result<Change, String> {
    let mut changes = Changes::default();
    for (name, old) in old.into_iter().flatten() {
        let new = new.and_then(|m| m.get(name));
        let change = values(field_or_any(schema, name), Some(old), new)?;
        changes.note(change, || Element::Field(name.clone()));
    }
    let only_new = new.into_iter().flatten();
    for (name, new) in only_new.filter(|(k, _)| !old.is_some_and(|m| m.contains_key(*k))) {
        let change = values(field_or_any(schema, name), None, Some(new))?;
        changes.note(change, || Element::Field(name.clone()));
    }
    Ok(changes.below())
}

fn lists(schema: &Schema, old: &[Value], new: &[Value]) -> Result<Change, String> {
    let (old, new) = (grouped(schema, old)?, grouped(schema, new)?);
    let (old_names, new_names) = (Names::of(&old), Names::of(&new));
    let only_new = new.iter().filter(|(name, _)| old_names.find(name).is_none());
    let none: &[&Value] = &[];
    let mut changes = Changes::default();
    for (name, _) in old.iter().chain(only_new) {
        let old = old_names.find(name).map_or(none, |at| &old[at].1);
        let new = new_names.find(name).map_or(none, |at| &new[at].1);
        changes.note(elements(items(schema), old, new)?, || name.clone());
    }
    Ok(changes.below())
}

/// Compares the elements of one name. Several of one name cannot be told apart and are one leaf together.
fn elements(schema: &Schema, old: &[&Value], new: &[&Value]) -> Result<Change, String> {
    let mut change = Change::default();
    match (old, new) {
        ([_, _, ..], [_, _, ..]) => {
            change.modified.member = old.len() != new.len() || old.iter().zip(new).any(|(a, b)| !equal(a, b));
        }
        ([_, _, ..], _) => {
            if let Some(new) = new.first() {
                change = values(schema, None, Some(new))?;
            }
            change.removed.member = true;
        }
        (_, [_, _, ..]) => {
            if let Some(old) = old.first() {
                change = values(schema, Some(old), None)?;
            }
            change.added.member = true;
        }
        _ => return values(schema, old.first().copied(), new.first().copied()),
    }
    Ok(change)
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

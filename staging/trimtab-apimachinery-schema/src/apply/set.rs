//! Field sets: which fields of an object someone owns, as a tree, and their wire form FieldsV1.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::path::{Element, Path};
use super::shape::{Shape, shape_of_set};
use crate::schema::{ListType, Schema};

/// A set of fields. The root itself is never a member.
///
/// Invariants: every node is a member or has members below it; nodes are in the order of their elements, one for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    nodes: Vec<(Element, Node)>,
}

/// A field of which the set has something: itself, or what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Adds what another node has.
    pub(super) fn add(&mut self, other: Self) {
        self.member |= other.member;
        self.below.add(other.below);
    }
}

impl FieldSet {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds the field at `path`; its parents are not added.
    pub(super) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = self.find(first).unwrap_or_else(|at| {
            self.nodes.insert(at, (first.clone(), Node::default()));
            at
        });
        let node = &mut self.nodes[at].1;
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// The set that these nodes make, in whichever order. No two are of one element.
    pub(super) fn of(mut nodes: Vec<(Element, Node)>) -> Self {
        nodes.retain(|(_, node)| !node.is_empty());
        if !nodes.is_sorted_by(|(a, _), (b, _)| a < b) {
            nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Self { nodes }
    }

    /// Where an element's node is, or would have to be.
    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|(here, _)| here.cmp(element))
    }

    fn get(&self, element: &Element) -> Option<&Node> {
        let at = self.find(element).ok()?;
        self.nodes.get(at).map(|(_, node)| node)
    }

    /// Whether the child itself is a member.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.get(element).is_some_and(|node| node.member)
    }

    /// Whether the field at `path` is a member.
    pub(super) fn has_path(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.get(first).is_some_and(|node| node.below.has_path(rest)),
        }
    }

    /// What is in the set below a child; `None` when nothing is.
    pub(super) fn below(&self, element: &Element) -> Option<&FieldSet> {
        self.get(element)
            .map(|node| &node.below)
            .filter(|set| !set.is_empty())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.add(other.clone());
        result
    }

    /// Adds what another set has.
    pub(super) fn add(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let mut mine = std::mem::take(&mut self.nodes).into_iter().peekable();
        let mut theirs = other.nodes.into_iter().peekable();
        self.nodes.reserve(mine.len() + theirs.len());
        loop {
            let order = match (mine.peek(), theirs.peek()) {
                (Some((mine, _)), Some((theirs, _))) => mine.cmp(theirs),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let both = match order {
                Ordering::Less => mine.next(),
                Ordering::Greater => theirs.next(),
                Ordering::Equal => mine
                    .next()
                    .zip(theirs.next())
                    .map(|((element, mut node), (_, other))| {
                        node.add(other);
                        (element, node)
                    }),
            };
            self.nodes.extend(both);
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.keep(|element, node| {
            let other = other.get(element)?;
            Some(Node {
                member: node.member && other.member,
                below: node.below.intersection(&other.below),
            })
        })
    }

    /// What is here and not there, each field by itself: taking a parent away leaves its children.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.subtract(other);
        result
    }

    /// Takes away what another set has, each field by itself: taking a parent away leaves its children.
    pub(super) fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.nodes.retain_mut(|(element, node)| {
            if let Some(other) = other.get(element) {
                node.member &= !other.member;
                node.below.subtract(&other.below);
            }
            !node.is_empty()
        });
    }

    /// Takes away what another set has; taking a parent away takes all below it.
    pub(super) fn subtract_with_children(&mut self, other: &Self) {
        self.nodes.retain_mut(|(element, node)| match other.get(element) {
            None => true,
            Some(other) if other.member => false,
            Some(other) => {
                node.below.subtract_with_children(&other.below);
                !node.is_empty()
            }
        });
    }

    /// Only what lies at or below one of `prefixes`.
    pub(super) fn only_below(&self, prefixes: &[Vec<String>]) -> Self {
        let mut result = Self::new();
        self.each(&mut |path| {
            let under = |prefix: &Vec<String>| {
                path.len() >= prefix.len()
                    && prefix
                        .iter()
                        .zip(path)
                        .all(|(name, element)| matches!(element, Element::Field(f) if f == name))
            };
            if prefixes.iter().any(under) {
                result.insert(path);
            }
        });
        result
    }

    fn keep(&self, mut choose: impl FnMut(&Element, &Node) -> Option<Node>) -> Self {
        let nodes = self
            .nodes
            .iter()
            .filter_map(|(element, node)| Some((element.clone(), choose(element, node)?)))
            .filter(|(_, node)| !node.is_empty())
            .collect();
        Self { nodes }
    }

    /// Calls `visit` with the path of each member: those of a level first, then those below it.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&[Element])) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk(&self, path: &mut Vec<Element>, visit: &mut dyn FnMut(&[Element])) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            path.push(element.clone());
            visit(path);
            path.pop();
        }
        for (element, node) in &self.nodes {
            path.push(element.clone());
            node.below.walk(path, visit);
            path.pop();
        }
    }

    /// The paths of all members.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.each(&mut |path| paths.push(Path(path.to_vec())));
        paths
    }

    /// The set with each declared field added that has a member below it. A merge never owns such fields by
    /// themselves, yet removing all that is in them must remove them.
    pub(super) fn with_named_fields(&self, schema: &Schema) -> Self {
        let nodes = self
            .nodes
            .iter()
            .map(|(element, node)| {
                let declared =
                    matches!(element, Element::Field(name) if schema.properties.contains_key(name));
                let below = match child_schema(schema, element) {
                    Some(child) => node.below.with_named_fields(child),
                    None => node.below.clone(),
                };
                let member = node.member || (declared && !node.below.is_empty());
                (element.clone(), Node { member, below })
            })
            .collect();
        Self { nodes }
    }

    /// Makes the set what it must be under the schema of now: what was granular and is atomic is owned as a whole.
    pub(super) fn reconcile(&mut self, schema: &Schema) {
        for (element, node) in self.nodes.iter_mut().filter(|(_, node)| !node.below.is_empty()) {
            let Some(child) = child_schema(schema, element) else {
                continue;
            };
            let atomic = match shape_of_set(child) {
                Shape::Map(schema) => schema.map_atomic,
                Shape::List(schema) => schema.list_type == ListType::Atomic,
                Shape::Scalar(_) => false,
            };
            if atomic {
                node.member = true;
                node.below = Self::new();
            } else {
                node.below.reconcile(child);
            }
        }
    }

    /// The set as FieldsV1.
    pub(super) fn encode(&self) -> Value {
        self.encode_node(false)
    }

    fn encode_node(&self, member: bool) -> Value {
        let itself = (member && !self.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self
            .nodes
            .iter()
            .map(|(element, node)| (element.encode(), node.below.encode_node(node.member)));
        Value::Object(itself.into_iter().chain(below).collect())
    }

    /// Reads FieldsV1. Path elements of a kind that is not known are left out.
    pub(super) fn decode(fields: &Value) -> Result<Self, String> {
        let fields = match fields {
            Value::Null => return Ok(Self::new()),
            Value::Object(fields) => fields,
            _ => return Err("managed fields must be objects".to_owned()),
        };
        let mut nodes = Vec::with_capacity(fields.len());
        for (key, value) in fields.iter().filter(|(key, _)| *key != ".") {
            let below = Self::decode(value)?;
            let Some(element) = Element::decode(key)? else {
                continue;
            };
            let member = below.is_empty() || value.get(".").is_some();
            nodes.push((element, Node { member, below }));
        }
        let mut set = Self::of(nodes);
        // Two texts may name one element, as `i:1` and `i:01`.
        set.nodes.dedup_by(|(a, _), (b, _)| a == b);
        Ok(set)
    }
}

/// The schema of a child; `None` where the schema does not know it or, for lists, has no elements.
fn child_schema<'a>(schema: &'a Schema, element: &Element) -> Option<&'a Schema> {
    match element {
        Element::Field(name) => schema.field(name).map(AsRef::as_ref),
        _ => schema.items.as_deref(),
    }
}

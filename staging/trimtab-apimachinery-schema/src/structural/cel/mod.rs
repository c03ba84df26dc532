//! CEL: the rules of schemas (`x-kubernetes-validations`), and expressions about requests (`matchConditions`, admission
//! policies).
//!
//! Rules are compiled once per schema, into a tree of the shape of the schema that holds only the parts with rules.
//! Each has a limit of what it may cost, and all of one object have a budget, as expressions about requests have. A definition is
//! refused whose rules may cost too much by its schema (`estimate`).

mod budget;
mod checker;
pub(super) mod condition;
pub(super) mod costs;
mod declared;
pub(super) mod definition;
mod depth;
mod estimate;
pub(super) mod library;
mod meter;
mod path;
pub(super) mod requests;
mod room;
mod rule;
mod types;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use self::budget::Budget;
use self::rule::{Rule, Verdict};
use super::correlate::Old;
use crate::Schema;
use crate::schema::{Additional, Type};

/// The compiled rules of a schema and of all schemas below it.
#[derive(Debug)]
pub(super) struct Rules(Option<Node>);

#[derive(Debug)]
struct Node {
    schema: Arc<Schema>,
    /// Whether the value is a Kubernetes object, whose type and name rules see without their being in the schema.
    object: bool,
    rules: Vec<Rule>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    /// How far down the stack evaluating it goes.
    levels: usize,
}

impl Rules {
    /// Compiles the rules of the schema of an object, or of any other value.
    pub(super) fn new(schema: &Arc<Schema>, object: bool) -> Self {
        Self(Node::new(schema, object))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Appends what rules find wrong with `new`. With `ratchet`, rules that do not look at the old value do not
    /// refuse what did not change.
    pub(super) fn check(
        &self,
        new: &Value,
        old: Option<&Value>,
        ratchet: bool,
        path: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        let Some(node) = &self.0 else { return };
        let schema = &node.schema;
        let correlation = Correlation {
            current: old.filter(|_| ratchet).map(|value| (Old { value, schema }, new)),
            parent: None,
        };
        let checked = room::with_room(node.levels, || {
            let (mut budget, mut found) = (Budget::of_an_object(), Vec::new());
            node.check(new, old, correlation, path, &mut budget, &mut found);
            found
        });
        match checked {
            Ok(found) => errors.extend(found),
            Err(why) => errors.push(FieldError::internal(path, why)),
        }
    }
}

/// Which value, if any, tells whether a fault was there before: the corresponding one, else the one around it.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    current: Option<(Old<'a>, &'a Value)>,
    parent: Option<(Old<'a>, &'a Value)>,
}

impl<'a> Correlation<'a> {
    fn unchanged(self) -> bool {
        self.current
            .or(self.parent)
            .is_some_and(|(old, new)| old.unchanged(new))
    }

    fn field(self, name: &str, value: &'a Value) -> Self {
        let Some((old, new)) = self.current else {
            return self;
        };
        if self.parent.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self {
                current: None,
                parent: None,
            };
        }
        Self {
            current: old.field(new, name).map(|old| (old, value)),
            parent: self.current,
        }
    }

    fn element(self, value: &'a Value) -> Self {
        let Some((old, _)) = self.current else { return self };
        Self {
            current: old.element(value).map(|old| (old, value)),
            parent: self.current,
        }
    }
}

impl Node {
    /// `None` when there are no rules in it.
    fn new(schema: &Arc<Schema>, object: bool) -> Option<Self> {
        let below = |schema: &Arc<Schema>| Self::new(schema, schema.embedded_resource);
        let mut node = Self {
            levels: 0,
            rules: schema.rules.iter().map(|rule| Rule::new(rule, schema)).collect(),
            properties: schema
                .properties
                .iter()
                .filter_map(|(name, property)| Some((name.clone(), below(property)?)))
                .collect(),
            additional: match &schema.additional {
                Additional::Schema(values) => below(values).map(Box::new),
                _ => None,
            },
            items: schema.items.as_ref().and_then(below).map(Box::new),
            schema: Arc::clone(schema),
            object,
        };
        let empty = node.rules.is_empty()
            && node.properties.is_empty()
            && node.additional.is_none()
            && node.items.is_none();
        let below = node.properties.values().chain(node.additional.as_deref());
        let below = below.chain(node.items.as_deref()).map(|node| node.levels).max();
        let of_rules = node.rules.iter().map(|rule| rule.levels).max();
        node.levels = 1 + below.max(of_rules).unwrap_or_default();
        (!empty).then_some(node)
    }

    fn check<'a>(
        &self,
        new: &'a Value,
        old: Option<&'a Value>,
        correlation: Correlation<'a>,
        path: &FieldPath,
        budget: &mut Budget,
        errors: &mut Vec<FieldError>,
    ) {
        if new.is_null() || budget.is_ended() {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        self.evaluate(new, old, correlation, path, budget, errors);
        match new {
            Value::Object(fields) => {
                let old_of = |name: &str| old.and_then(|old| old.as_object()?.get(name));
                for (name, value) in fields {
                    let correlation = correlation.field(name, value);
                    if let Some(node) = self.properties.get(name) {
                        node.check(
                            value,
                            old_of(name),
                            correlation,
                            &path.child(name),
                            budget,
                            errors,
                        );
                    } else if let Some(node) = &self.additional {
                        node.check(value, old_of(name), correlation, &path.key(name), budget, errors);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                let schema = &self.schema;
                for (index, item) in items.iter().enumerate() {
                    let old = old
                        .and_then(|value| Old { value, schema }.element(item))
                        .map(|old| old.value);
                    let correlation = correlation.element(item);
                    node.check(item, old, correlation, &path.index(index), budget, errors);
                }
            }
            _ => {}
        }
    }

    fn evaluate<'a>(
        &self,
        new: &'a Value,
        old: Option<&'a Value>,
        correlation: Correlation<'a>,
        path: &FieldPath,
        budget: &mut Budget,
        errors: &mut Vec<FieldError>,
    ) {
        if self.rules.is_empty() || budget.is_ended() {
            return;
        }
        let type_ = self.schema.type_.map_or("", Type::name);
        if budget.is_empty() {
            errors.push(FieldError::invalid(path, type_, rule::OUT_OF_BUDGET));
            budget.end();
            return;
        }
        let make = |value: &'a Value| value::of_schema(&self.schema, value, self.object);
        let make_new = || make(new);
        let make_old = old.map(|old| move || make(old));
        for rule in self.rules.iter().filter(|rule| rule.applies(old.is_some())) {
            let old = make_old.as_ref().map(|make| make as &dyn Fn() -> _);
            match rule.evaluate(&make_new, old, budget) {
                Verdict::Holds => {}
                Verdict::Costly(reason) => {
                    errors.push(FieldError::invalid(path, type_, reason));
                    return budget.end();
                }
                Verdict::FailsCostly(reason) => {
                    if rule.uses_old_self || !correlation.unchanged() {
                        errors.push(FieldError::invalid(&rule.blamed(path), type_, reason));
                    }
                    return budget.end();
                }
                // On update, a value of the wrong type may be one that was there before.
                Verdict::Broken(_) | Verdict::Fails(_) if rule.uses_self && self.misshapes(new).is_some() => {
                    let fault = self.misshapes(new).unwrap_or_default();
                    let reason = format!("invalid data, {fault} evaluating rule: {}", rule.name());
                    errors.push(FieldError::invalid(path, type_, reason));
                }
                Verdict::Broken(reason) => errors.push(FieldError::invalid(path, type_, reason)),
                Verdict::Fails(_) if !rule.uses_old_self && correlation.unchanged() => {}
                Verdict::Fails(message) => errors.push(self.refuse(rule, message, new, path)),
            }
        }
    }

    /// What is wrong with the shape of a value, if rules cannot be asked about it.
    fn misshapes(&self, value: &Value) -> Option<&'static str> {
        match self.schema.type_? {
            Type::Object if !value.is_object() => {
                Some("expected a map for the provided schema with type=object")
            }
            Type::Array if !value.is_array() => {
                Some("expected an array for the provided schema with type=array")
            }
            _ => None,
        }
    }

    fn refuse(&self, rule: &Rule, message: String, value: &Value, path: &FieldPath) -> FieldError {
        let path = rule.blamed(path);
        let error = match rule.stated.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(&path, message),
            "FieldValueRequired" => FieldError::required(&path, message),
            "FieldValueDuplicate" => FieldError::duplicate(&path, value.clone()),
            _ => FieldError::invalid(&path, value.clone(), message),
        };
        // Whole objects and lists would drown the message.
        match self.schema.type_ {
            Some(Type::Object | Type::Array) => error.without_value(),
            _ => error,
        }
    }
}

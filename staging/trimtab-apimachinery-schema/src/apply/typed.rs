//! A value and its schema: whether they fit, which fields the value mentions, and the value without some of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::Element;
use super::set::FieldSet;
use super::shape::{Scalar, Shape, atomic_list, element_of, field, field_or_any, items, shape};
use crate::go;
use crate::schema::Schema;

/// What is wrong with a value, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    path: String,
    text: String,
}

/// The misfits as one text, as kube-apiserver writes them.
pub(super) fn describe(misfits: &[Misfit]) -> String {
    let line = |m: &Misfit| {
        if m.path.is_empty() {
            m.text.clone()
        } else {
            format!("{}: {}", m.path, m.text)
        }
    };
    match misfits {
        [one] => line(one),
        many => {
            let mut lines = vec!["errors:".to_owned()];
            lines.extend(many.iter().map(|m| format!("  {}", line(m))));
            lines.join("\n")
        }
    }
}

/// Checks that a value that is applied fits the schema: types, known fields, no duplicates in sets and map lists.
pub(super) fn validate(schema: &Schema, value: &Value) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    check(schema, value, "", &mut misfits);
    misfits
}

fn check(schema: &Schema, value: &Value, path: &str, misfits: &mut Vec<Misfit>) {
    let mut misfit = |text: String| {
        misfits.push(Misfit {
            path: path.to_owned(),
            text,
        })
    };
    match (shape(schema, Some(value)), value) {
        (_, Value::Null) => {}
        (Shape::Map(schema), Value::Object(fields)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match field(schema, name) {
                    Some(schema) => check(schema, value, &path, misfits),
                    None => {
                        misfits.push(Misfit {
                            path,
                            text: "field not declared in schema".to_owned(),
                        });
                        return;
                    }
                }
            }
        }
        (Shape::Map(_), other) => misfit(format!("expected map, got &{{{}}}", go::plain(other))),
        (Shape::List(schema), Value::Array(list)) => check_list(schema, list, path, misfits),
        (Shape::List(_), other) => misfit(format!("expected list, got &{{{}}}", go::plain(other))),
        (Shape::Scalar(scalar), value) => {
            if let Some(text) = scalar_misfit(scalar, value) {
                misfit(text);
            }
        }
    }
}

fn check_list(schema: &Schema, list: &[Value], path: &str, misfits: &mut Vec<Misfit>) {
    let mut seen = FieldSet::new();
    for (index, item) in list.iter().enumerate() {
        let element = if atomic_list(schema) {
            Element::Index(i64::try_from(index).unwrap_or(i64::MAX))
        } else {
            match element_of(schema, item) {
                Ok(element) => element,
                Err(text) => {
                    misfits.push(Misfit {
                        path: path.to_owned(),
                        text: format!("element {index}: {text}"),
                    });
                    return;
                }
            }
        };
        if seen.has(&element) {
            let text = format!("duplicate entries for key {element}");
            misfits.push(Misfit {
                path: path.to_owned(),
                text,
            });
        }
        seen.insert(std::slice::from_ref(&element));
        check(items(schema), item, &format!("{path}{element}"), misfits);
    }
}

fn scalar_misfit(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (Scalar::Number, Value::Number(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Any, Value::Bool(_) | Value::Number(_) | Value::String(_)) => None,
        (Scalar::Number, other) => Some(format!(
            "expected numeric (int or float), got {}",
            go::type_name(other)
        )),
        (Scalar::String, other) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go::syntax(other)
        )),
        (Scalar::Boolean, other) => Some(format!("expected boolean, got &{{{}}}", go::plain(other))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", go::plain(other))),
    }
}

/// The fields that a value mentions: every leaf, and every element of a map, set or map list.
pub(super) fn field_set(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = FieldSet::new();
    collect(schema, value, &mut Vec::new(), &mut set);
    set
}

fn collect(schema: &Schema, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    match (shape(schema, Some(value)), value) {
        (Shape::Scalar(_), _) => set.insert(path),
        (Shape::Map(schema), _) if schema.map_atomic => set.insert(path),
        (Shape::List(schema), _) if atomic_list(schema) => set.insert(path),
        (Shape::Map(schema), Value::Object(fields)) => {
            for (name, value) in fields {
                path.push(Element::Field(name.clone()));
                collect(field_or_any(schema, name), value, path, set);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if empty || !schema.properties.contains_key(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::List(schema), Value::Array(list)) => {
            let elements: Vec<_> = list.iter().map(|item| element_of(schema, item).ok()).collect();
            let mut counts: BTreeMap<&Element, usize> = BTreeMap::new();
            for element in elements.iter().flatten() {
                *counts.entry(element).or_default() += 1;
            }
            for (item, element) in list.iter().zip(&elements) {
                let Some(element) = element else { continue };
                path.push(element.clone());
                // Elements of the same key cannot be told apart; they are owned together.
                if counts.get(element) == Some(&1) {
                    collect(items(schema), item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The value without the fields and elements of `gone`. A map or list that is emptied and not in `gone` itself
/// becomes null, which still counts as mentioned; [`settle`] says what becomes of it.
pub(super) fn remove(schema: &Schema, value: &Value, gone: &FieldSet) -> Value {
    match (shape(schema, Some(value)), value) {
        (Shape::Map(schema), Value::Object(fields)) if !schema.map_atomic => {
            let left = fields.iter().filter_map(|(name, value)| {
                let element = Element::Field(name.clone());
                let left = without(field_or_any(schema, name), value, &element, gone)?;
                Some((name.clone(), left))
            });
            Some(left.collect::<Map<_, _>>())
                .filter(|m| !m.is_empty())
                .map_or(Value::Null, Value::Object)
        }
        (Shape::List(schema), Value::Array(list)) if !atomic_list(schema) => {
            let left = list.iter().filter_map(|item| match element_of(schema, item) {
                Ok(element) => without(items(schema), item, &element, gone),
                Err(_) => Some(item.clone()),
            });
            Some(left.collect::<Vec<_>>())
                .filter(|l| !l.is_empty())
                .map_or(Value::Null, Value::Array)
        }
        (_, value) => value.clone(),
    }
}

/// What is left of the child `element`; `None` when it goes itself.
fn without(schema: &Schema, value: &Value, element: &Element, gone: &FieldSet) -> Option<Value> {
    if gone.has(element) {
        return None;
    }
    Some(
        gone.below(element)
            .map_or_else(|| value.clone(), |gone| remove(schema, value, gone)),
    )
}

/// Turns the nulls that [`remove`] has left in `value` into empty maps and lists (`keep`) or removes them.
/// `before` is the value that was removed from, which has no such nulls.
pub(super) fn settle(value: &mut Value, before: &Value, keep: bool) {
    let (Some(fields), Some(before)) = (value.as_object_mut(), before.as_object()) else {
        return;
    };
    let emptied = |before: Option<&Value>| match before {
        Some(Value::Object(fields)) if !fields.is_empty() => Some(Value::Object(Map::new())),
        Some(Value::Array(items)) if !items.is_empty() => Some(Value::Array(Vec::new())),
        _ => None,
    };
    for (name, value) in fields.iter_mut() {
        let before = before.get(name);
        match value {
            Value::Null if keep => *value = emptied(before).unwrap_or(Value::Null),
            Value::Object(_) => settle(value, before.unwrap_or(&Value::Null), keep),
            Value::Array(items) => {
                // An element's place may have changed; an emptied one is an empty object in any case.
                items
                    .iter_mut()
                    .filter(|item| item.is_null())
                    .for_each(|item| *item = Value::Object(Map::new()));
            }
            _ => {}
        }
    }
    fields.retain(|name, value| keep || !value.is_null() || emptied(before.get(name)).is_none());
}

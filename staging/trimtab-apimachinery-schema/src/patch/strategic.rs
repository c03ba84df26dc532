//! Strategic merge patch: a merge patch that knows from the schema which lists are merged, and by which key.
//!
//! Directives in the patch: `$patch: replace|delete` on an object or list element, `$retainKeys` on an object,
//! `$deleteFromPrimitiveList/FIELD` and `$setElementOrder/FIELD` beside a list field.

use serde_json::{Map, Value};

use super::PatchError;
use super::order::{MergeKey, Places, arrange};
use crate::go;
use crate::schema::Schema;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ELEMENT_ORDER: &str = "invalid patch format of setElementOrder list";

type Fields = Map<String, Value>;

/// Applies a strategic merge patch to `object`, whose structure `schema` describes, and returns the result.
///
/// Lists are merged where [`Schema::patch_merge`] says so, by [`Schema::patch_merge_key`]; all other lists are
/// replaced. Fields that the schema does not know are merged as objects and replaced as lists.
///
/// # Errors
/// A directive of the wrong form ([`PatchError::Malformed`]), lists within merged lists
/// ([`PatchError::Inapplicable`]), and everything else that does not fit ([`PatchError::Unusable`]).
pub fn strategic(schema: &Schema, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("invalid JSON document".to_owned()));
    };
    let object = object.as_object().cloned().unwrap_or_default();
    merge_object(Some(schema), object, patch.clone()).map(Value::Object)
}

fn merge_object(
    schema: Option<&Schema>,
    mut object: Fields,
    mut patch: Fields,
) -> Result<Fields, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Fields::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut object, &mut patch)?;
    merge_ordered_lists(schema, &mut object, &mut patch)?;
    for (key, value) in patch {
        if let Some(field) = directive_field(&key, DELETE_FROM_LIST, BAD_PRIMITIVE_LIST)? {
            delete_from_list(&mut object, field, &value)?;
        } else {
            merge_field(schema, &mut object, key, value)?;
        }
    }
    Ok(object)
}

fn merge_field(
    schema: Option<&Schema>,
    object: &mut Fields,
    key: String,
    value: Value,
) -> Result<(), PatchError> {
    if value.is_null() {
        object.remove(&key);
        return Ok(());
    }
    let schema = field_schema(schema, &key);
    let merged = match (object.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            Some(Value::Object(merge_object(schema, old, new)?))
        }
        (Some(Value::Array(old)), Value::Array(new)) if schema.is_some_and(|s| s.patch_merge) => {
            Some(Value::Array(merge_list(schema, old, new)?))
        }
        (Some(Value::Array(_)), Value::Array(new)) => Some(Value::Array(new)),
        (_, mut new) => {
            discard_nulls(&mut new);
            without_directives(new)
        }
    };
    if let Some(merged) = merged {
        object.insert(key, merged);
    }
    Ok(())
}

/// Merges two lists of the same field and puts the result in order.
fn merge_list(
    schema: Option<&Schema>,
    mut old: Vec<Value>,
    mut new: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    if old.is_empty() && new.is_empty() {
        return Ok(old);
    }
    let of_objects = same_kind(&old, &new)?;
    let key = MergeKey(schema.map_or("", |s| s.patch_merge_key.as_str()));
    let merged = if of_objects {
        if key.0.is_empty() {
            let name = schema.map_or("", |s| s.name.as_str());
            return Err(unusable(format!(
                "cannot merge lists without merge key for {name}"
            )));
        }
        (old, new) = apply_element_directives(old, new, key)?;
        merge_elements(
            schema.and_then(|s| s.items.as_deref()),
            old.clone(),
            new.clone(),
            key,
        )?
    } else {
        let mut both = old.clone();
        let mut places = Places::of(&both, MergeKey(""));
        for element in &new {
            if places.find(&both, element).is_none() {
                both.push(element.clone());
                places.added(&both);
            }
        }
        both
    };
    if of_objects && let Some(element) = merged.iter().find(|e| key.of(e).is_none()) {
        return Err(no_merge_key(element, key));
    }
    Ok(arrange(merged, &new, &old, key))
}

/// Carries out `$patch` on the elements of a patch list; returns what is left of both lists.
fn apply_element_directives(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: MergeKey<'_>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(new.len());
    let mut replace = false;
    for element in new {
        let Some(directive) = element.get(DIRECTIVE) else {
            plain.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let Some(wanted) = key.of(&element) else {
                    return Err(no_merge_key(&element, key));
                };
                old.retain(|e| key.of(e) != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(unusable(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => {
                let fields = element.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(directive, &fields));
            }
        }
    }
    Ok(if replace {
        (plain, Vec::new())
    } else {
        (old, plain)
    })
}

fn merge_elements(
    schema: Option<&Schema>,
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: MergeKey<'_>,
) -> Result<Vec<Value>, PatchError> {
    let mut places = Places::of(&old, key);
    for element in new {
        if key.of(&element).is_none() {
            return Err(no_merge_key(&element, key));
        }
        match (places.find(&old, &element), element) {
            (Some(at), Value::Object(fields)) => {
                let target = old[at].as_object().cloned().unwrap_or_default();
                old[at] = Value::Object(merge_object(schema, target, fields)?);
            }
            (_, element) => {
                old.push(element);
                places.added(&old);
            }
        }
    }
    Ok(old)
}

/// Carries out `$setElementOrder`: merges the lists it speaks of and takes them out of the patch.
fn merge_ordered_lists(
    schema: Option<&Schema>,
    object: &mut Fields,
    patch: &mut Fields,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else {
            continue;
        };
        let order = into_list(order)?;
        let Some(field) = directive_field(&directive, ELEMENT_ORDER, BAD_ELEMENT_ORDER)? else {
            continue;
        };
        let schema = field_schema(schema, field);
        let key = MergeKey(schema.map_or("", |s| s.patch_merge_key.as_str()));
        let old = object.get(field).cloned().map(into_list).transpose()?;
        let new = patch.remove(field).map(into_list).transpose()?;
        check_order(new.as_deref().unwrap_or_default(), &order, key)?;
        let merged = match (old.clone(), new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if schema.is_some_and(|s| s.patch_merge) => merge_list(schema, old, new)?,
            (Some(_), Some(new)) => new,
        };
        if let Some(element) = merged.iter().chain(&order).find(|e| key.of(e).is_none()) {
            return Err(no_merge_key(element, key));
        }
        let arranged = arrange(merged, &order, old.as_deref().unwrap_or_default(), key);
        object.insert(field.to_owned(), Value::Array(arranged));
    }
    Ok(())
}

/// The patch's elements must come in the order that the patch asks for.
fn check_order(patch: &[Value], order: &[Value], key: MergeKey<'_>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in patch.iter().filter(|e| e.get(DIRECTIVE).is_none()) {
        let Some(identity) = key.of(element) else {
            return Err(no_merge_key(element, key));
        };
        if !wanted.any(|o| key.of(o) == Some(identity)) {
            let (patch, order) = (Value::from(patch.to_vec()), Value::from(order.to_vec()));
            return Err(unusable(format!(
                "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
                go::plain(&patch),
                go::plain(&order)
            )));
        }
    }
    Ok(())
}

fn retain_keys(object: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let Some(keep) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keep) = keep else {
        return Err(malformed(BAD_RETAIN_KEYS));
    };
    let kept = |key: &str| keep.iter().any(|k| k.as_str() == Some(key));
    let is_directive = |key: &str| key.starts_with(DELETE_FROM_LIST) || key.starts_with(ELEMENT_ORDER);
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_directive(key) && !kept(key))
    {
        return Err(malformed(BAD_RETAIN_KEYS));
    }
    object.retain(|key, _| kept(key));
    Ok(())
}

fn delete_from_list(object: &mut Fields, field: &str, gone: &Value) -> Result<(), PatchError> {
    let Some(Value::Array(list)) = object.get_mut(field) else {
        return Ok(());
    };
    let Value::Array(gone) = gone else { return Ok(()) };
    if same_kind(list, gone)? {
        return Err(malformed(BAD_PRIMITIVE_LIST));
    }
    let places = Places::of(gone, MergeKey(""));
    list.retain(|element| places.find(gone, element).is_none());
    Ok(())
}

/// Whether the elements of both lists are objects; an error when they are lists or of several kinds.
fn same_kind(a: &[Value], b: &[Value]) -> Result<bool, PatchError> {
    let mut all = a.iter().chain(b);
    let Some(first) = all.next() else { return Ok(false) };
    if first.is_array() {
        return Err(PatchError::Inapplicable(
            "lists of lists are not supported".to_owned(),
        ));
    }
    let kind = go::type_name(first);
    if all.any(|element| go::type_name(element) != kind) {
        let lists = Value::from(vec![Value::from(a.to_vec()), Value::from(b.to_vec())]);
        return Err(unusable(format!(
            "list element types are not identical: {}",
            go::plain(&lists)
        )));
    }
    Ok(first.is_object())
}

/// A value that is added as it is: what carries a directive is left out of it.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(
            fields
                .into_iter()
                .filter_map(|(k, v)| without_directives(v).map(|v| (k, v)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        scalar => Some(scalar),
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn field_schema<'a>(schema: Option<&'a Schema>, field: &str) -> Option<&'a Schema> {
    schema?.field(field).map(AsRef::as_ref)
}

/// The field that a directive key speaks of; `None` when the key is no such directive.
fn directive_field<'k>(key: &'k str, directive: &str, wrong: &str) -> Result<Option<&'k str>, PatchError> {
    let Some(rest) = key.strip_prefix(directive) else {
        return Ok(None);
    };
    rest.strip_prefix('/').map(Some).ok_or_else(|| malformed(wrong))
}

fn into_list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(unusable(format!(
            "expected a []interface {{}}, but received a {}",
            go::type_name(&other)
        ))),
    }
}

fn no_merge_key(element: &Value, key: MergeKey<'_>) -> PatchError {
    unusable(format!(
        "map: {} does not contain declared merge key: {}",
        go::plain(element),
        key.0
    ))
}

fn unknown_directive(directive: &Value, fields: &Fields) -> PatchError {
    let fields = go::plain(&Value::Object(fields.clone()));
    unusable(format!(
        "unknown patch type: {} in map: {fields}",
        go::plain(directive)
    ))
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

fn unusable(text: String) -> PatchError {
    PatchError::Unusable(text)
}

//! Which part of an old value a part of the new one replaces.

use serde_json::Value;

use crate::Schema;
use crate::schema::ListType;

/// A value that an update replaces, and the schema that says how the two correspond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old<'a> {
    pub(super) value: &'a Value,
    pub(super) schema: &'a Schema,
}

impl<'a> Old<'a> {
    /// What the field `name` of `new` replaces.
    pub(super) fn field(self, new: &Value, name: &str) -> Option<Self> {
        new.get(name)?;
        Some(Self {
            value: self.value.as_object()?.get(name)?,
            schema: self.schema.field(name)?,
        })
    }

    /// What the element `new` of a list replaces: only elements with complete keys can be found again.
    pub(super) fn element(self, new: &Value) -> Option<Self> {
        if self.schema.list_type != ListType::Map {
            return None;
        }
        let keys = &self.schema.list_map_keys;
        let key = |item: &'a Value, name: &str| item.get(name).filter(|key| is_scalar(key));
        let wanted: Option<Vec<&Value>> = keys
            .iter()
            .map(|name| new.get(name).filter(|key| is_scalar(key)))
            .collect();
        let wanted = wanted.filter(|wanted| !wanted.is_empty())?;
        let same = |old: &&'a Value| {
            let mut pairs = keys.iter().zip(&wanted);
            pairs.all(|(name, wanted)| key(old, name) == Some(wanted))
        };
        Some(Self {
            value: self.value.as_array()?.iter().find(same)?,
            schema: self.schema.items.as_deref()?,
        })
    }

    /// Whether `new` is the old value again; elements of a map list may have moved.
    pub(super) fn unchanged(self, new: &Value) -> bool {
        match (self.value, new) {
            (Value::Object(old), Value::Object(fields)) => {
                old.len() == fields.len()
                    && fields
                        .iter()
                        .all(|(name, value)| self.field(new, name).is_some_and(|old| old.unchanged(value)))
            }
            (Value::Array(old), Value::Array(items)) if self.schema.list_type == ListType::Map => {
                old.len() == items.len()
                    && items
                        .iter()
                        .all(|item| self.element(item).is_some_and(|old| old.unchanged(item)))
            }
            (old, new) => old == new,
        }
    }
}

/// Whether a value can be part of a key.
fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_))
}

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

    /// What the element `new` of a list replaces: only elements with keys can be found again.
    pub(super) fn element(self, new: &Value) -> Option<Self> {
        if self.schema.list_type != ListType::Map {
            return None;
        }
        let keys = &self.schema.list_map_keys;
        let same = |old: &&Value| {
            new.is_object() && old.is_object() && keys.iter().all(|key| old.get(key) == new.get(key))
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

//! How large values can be, read off a schema and the largest request: as kube-apiserver's declarations of types have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::value;
use crate::Schema;
use crate::schema::{Additional, Type};

/// The largest request, in bytes (`MaxRequestSizeBytes`).
const REQUEST: u64 = 3 << 20;
/// The largest text of a request, without its quotes.
const TEXT: u64 = REQUEST - 2;

/// The size of a schema's values.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// Characters or elements, at most; 0 for what has none.
    pub(super) most: u64,
    /// Bytes of JSON, at least.
    pub(super) least: u64,
    /// What is in it.
    pub(super) parts: Parts,
}

/// The parts of a value.
#[derive(Debug, Default)]
pub(super) enum Parts {
    #[default]
    None,
    /// The elements of a list.
    Elements(Arc<Declared>),
    /// The values of a map.
    Values(Arc<Declared>),
    /// Fields, by the names that rules have for them.
    Fields(BTreeMap<String, Arc<Declared>>),
}

impl Declared {
    /// The size of the schema's values; `None` where rules cannot see them.
    pub(super) fn of(schema: &Schema, object: bool) -> Option<Arc<Self>> {
        let checks = schema.checks.as_deref();
        let length = checks.and_then(|checks| checks.max_length);
        let sized = |most: u64, least: u64| Self {
            most,
            least,
            parts: Parts::None,
        };
        let in_bytes = |length: u64| length.saturating_mul(4);
        if schema.int_or_string {
            return Some(Arc::new(sized(length.map_or(TEXT, in_bytes), 1)));
        }
        let below = |schema: &Schema| Self::of(schema, schema.embedded_resource);
        Some(Arc::new(match schema.type_? {
            Type::Array => {
                let element = below(schema.items.as_ref()?)?;
                let most = checks.and_then(|checks| checks.max_items);
                Self {
                    most: most.unwrap_or(TEXT / (element.least + 1)),
                    least: 2,
                    parts: Parts::Elements(element),
                }
            }
            Type::Object => match &schema.additional {
                Additional::Schema(values) => {
                    let values = below(values)?;
                    let most = checks.and_then(|checks| checks.max_properties);
                    Self {
                        most: most.unwrap_or(TEXT / (values.least + 6)),
                        least: 2,
                        parts: Parts::Values(values),
                    }
                }
                _ => Self::of_fields(schema, object),
            },
            Type::String => match schema.format.as_str() {
                "byte" => sized(length.unwrap_or(TEXT), 2),
                "duration" => sized(32, 3),
                "date" => sized(12, 12),
                "date-time" => sized(32, 21),
                _ => {
                    let words = schema.enum_values.iter().filter_map(|word| word.as_str());
                    let longest = words.map(|word| word.len() as u64).max();
                    let named = longest.or((!schema.enum_values.is_empty()).then_some(0));
                    sized(length.map(in_bytes).or(named).unwrap_or(TEXT), 2)
                }
            },
            Type::Boolean => sized(0, 4),
            Type::Integer | Type::Number => sized(0, 1),
        }))
    }

    fn of_fields(schema: &Schema, object: bool) -> Self {
        let mut least = 2;
        let mut fields = BTreeMap::new();
        for (name, property) in &schema.properties {
            let Some(declared) = Self::of(property, property.embedded_resource) else {
                continue;
            };
            if schema.required.contains(name) && property.default.is_none() {
                least += name.len() as u64 + declared.least + 4;
            }
            if let Some(name) = value::escape(name) {
                fields.insert(name.into_owned(), declared);
            }
        }
        if object {
            let text = || {
                Arc::new(Self {
                    most: TEXT,
                    least: 2,
                    parts: Parts::None,
                })
            };
            let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
            let metadata = Self {
                most: 0,
                least: 2,
                parts: Parts::Fields(names.into()),
            };
            fields.insert("kind".to_owned(), text());
            fields.insert("apiVersion".to_owned(), text());
            fields.insert("metadata".to_owned(), Arc::new(metadata));
        }
        Self {
            most: 0,
            least,
            parts: Parts::Fields(fields),
        }
    }

    /// How many values of this size a request can have, at most.
    pub(super) fn most_in_a_request(&self) -> u64 {
        REQUEST / (self.least + 1)
    }

    /// The size of a field.
    pub(super) fn field(&self, name: &str) -> Option<Arc<Self>> {
        match &self.parts {
            Parts::Fields(fields) => fields.get(name).cloned(),
            _ => None,
        }
    }

    /// The size of what an index finds.
    pub(super) fn element(&self) -> Option<Arc<Self>> {
        match &self.parts {
            Parts::Elements(element) | Parts::Values(element) => Some(element.clone()),
            _ => None,
        }
    }
}

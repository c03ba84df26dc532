//! JSON values as rules see them: by what the schema says they are.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::{CowVal, Val};
use serde_json::{Map, Number, Value};

use super::library;
use crate::Schema;
use crate::schema::Type;

/// What CEL reserves.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// A property's name as rules write it; `None` when they cannot.
pub(super) fn escape(name: &str) -> Option<Cow<'_, str>> {
    if RESERVED.contains(&name) {
        return Some(Cow::Owned(format!("__{name}__")));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-/".contains(&b);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(plain) {
        return None;
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    let escaped = name
        .replace("__", "\u{0}")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__");
    Some(Cow::Owned(escaped.replace('\u{0}', "__underscores__")))
}

/// The value of a schema. Properties that the schema does not name are not there, so that rules see what was compiled
/// against. An object (the root, or an embedded one) has apiVersion, kind and the names in its metadata besides.
pub(super) fn of_schema<'a>(schema: &Schema, value: &'a Value, object: bool) -> Box<dyn Val + 'a> {
    match value {
        Value::String(text) if schema.type_ == Some(Type::String) => formatted(&schema.format, text),
        Value::Number(number) if schema.type_ == Some(Type::Number) => {
            Box::new(CelDouble::from(number.as_f64().unwrap_or_default()))
        }
        Value::Array(items) => match &schema.items {
            Some(element) => {
                let items = items
                    .iter()
                    .map(|item| of_schema(element, item, element.embedded_resource));
                Box::new(CelList::from(items.collect::<Vec<_>>()))
            }
            None => untyped(value),
        },
        Value::Object(fields) => of_object(schema, fields, object),
        _ => untyped(value),
    }
}

fn of_object<'a>(schema: &Schema, fields: &'a Map<String, Value>, object: bool) -> Box<dyn Val + 'a> {
    let mut entries: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = HashMap::with_capacity(fields.len());
    let unnamed = schema.properties.is_empty() && !object;
    for (name, value) in fields {
        if object && matches!(name.as_str(), "apiVersion" | "kind") {
            entries.insert(name.as_str().into(), untyped(value));
        } else if object && name == "metadata" {
            entries.insert("metadata".into(), names(value));
        } else if let Some(property) = schema.properties.get(name) {
            let value = of_schema(property, value, property.embedded_resource);
            match escape(name) {
                Some(Cow::Borrowed(name)) => drop(entries.insert(name.into(), value)),
                Some(Cow::Owned(name)) => drop(entries.insert(name.into(), value)),
                None => {}
            }
        } else if let Some(values) = schema.field(name) {
            entries.insert(
                name.as_str().into(),
                of_schema(values, value, values.embedded_resource),
            );
        } else if unnamed {
            entries.insert(name.as_str().into(), untyped(value));
        }
    }
    Box::new(CelMap::from(entries))
}

/// What rules see of metadata.
fn names(metadata: &Value) -> Box<dyn Val + '_> {
    let entries = ["name", "generateName"]
        .into_iter()
        .filter_map(|name| Some((CelMapKey::from(name), untyped(metadata.get(name)?))));
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

/// Text in a format that CEL has a type for. What does not conform stays text.
fn formatted<'a>(format: &str, text: &'a str) -> Box<dyn Val + 'a> {
    let converted = match format {
        "date-time" => convert("timestamp", text.to_owned()),
        "date" => convert("timestamp", format!("{text}T00:00:00Z")),
        "duration" => convert("duration", text.to_owned()),
        "byte" => STANDARD
            .decode(text)
            .ok()
            .map(|bytes| -> Box<dyn Val + 'a> { Box::new(CelBytes::from(bytes)) }),
        _ => None,
    };
    converted.unwrap_or_else(|| Box::new(CelString::from(text)))
}

/// Calls CEL's own conversion of that name.
fn convert<'a>(function: &str, text: String) -> Option<Box<dyn Val + 'a>> {
    let arguments: Vec<CowVal<'_, 'a>> = vec![CowVal::owned(CelString::from(text))];
    let convert = library::env().find_overload(function, &arguments)?;
    Some(convert(arguments).ok()?.into_owned())
}

/// A value by its JSON type alone.
pub(super) fn untyped(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(number) => of_number(number),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(untyped).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let entries = fields
                .iter()
                .map(|(name, value)| (CelMapKey::from(name.as_str()), untyped(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
    }
}

/// As [`untyped`], for values that outlive what they are made of.
pub(super) fn owned(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(number) => of_number(number),
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(owned).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let entries = fields
                .iter()
                .map(|(name, value)| (CelMapKey::from(name.clone()), owned(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
    }
}

fn of_number(number: &Number) -> Box<dyn Val> {
    match (number.as_i64(), number.as_u64()) {
        (Some(n), _) => Box::new(CelInt::from(n)),
        (None, Some(n)) => Box::new(CelUInt::from(n)),
        _ => Box::new(CelDouble::from(number.as_f64().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_kubernetes_escapes_them() {
        let cases = [
            ("plain", Some("plain")),
            ("namespace", Some("__namespace__")),
            ("a.b", Some("a__dot__b")),
            ("a-b/c", Some("a__dash__b__slash__c")),
            ("a__b.c", Some("a__underscores__b__dot__c")),
            ("1a", None),
            ("ä", None),
            ("a b", None),
        ];
        for (name, expected) in cases {
            assert_eq!(escape(name).as_deref(), expected, "{name}");
        }
    }
}

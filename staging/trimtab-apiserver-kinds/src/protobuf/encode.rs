//! From JSON to protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::table::{Field, MessageId, Shape, TABLE, Type};
use super::wire::{put_bytes, put_fixed64, put_int};
use super::{Error, MAGIC, MAX_DEPTH, special};

/// Writes an object as Kubernetes clients read it: [`MAGIC`], then an envelope that says what it holds.
///
/// What the table does not know is left out, as the kinds of a list's items.
///
/// # Errors
///
/// [`Error::UnknownKind`] for kinds that have no protobuf form; [`Error::Type`] for fields that are not of their type.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let said = |name: &str| object[name].as_str().unwrap_or_default();
    let (api_version, kind) = (said("apiVersion"), said("kind"));
    let id = TABLE.kind(api_version, kind).ok_or_else(|| Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })?;
    let mut body = Vec::new();
    message(id, object, "", 0, &mut body)?;
    Ok(envelope(api_version, kind, &body))
}

fn envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(body.len() + meta.len() + 24);
    out.extend_from_slice(&MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, body);
    // The encoding and type of the content: empty, but Go writes them.
    put_bytes(&mut out, 3, &[]);
    put_bytes(&mut out, 4, &[]);
    out
}

/// Writes a list item by item, so that of all items only the bytes are in memory.
#[derive(Debug)]
pub struct ListEncoder {
    api_version: String,
    kind: String,
    id: MessageId,
    items: &'static Field,
    body: Vec<u8>,
}

impl ListEncoder {
    /// A list of that kind, which has no items yet; `None` if the kind has no protobuf form, or is no list.
    pub fn new(api_version: &str, kind: &str) -> Option<Self> {
        let id = TABLE.kind(api_version, kind)?;
        let (last, items) = TABLE.fields(id).iter().enumerate().next_back()?;
        // What comes last is written last.
        let is_list = last > 0 && items.name == "items" && items.shape == Shape::List;
        is_list.then(|| Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            id,
            items,
            body: Vec::new(),
        })
    }

    /// Adds an item.
    ///
    /// # Errors
    ///
    /// Those of [`encode`].
    pub fn add(&mut self, item: &Value) -> Result<(), Error> {
        one(self.items, self.items.number, item, 0, &mut self.body)
    }

    /// The list with its items, and with what else it has.
    ///
    /// # Errors
    ///
    /// Those of [`encode`].
    pub fn finish(self, list: &Value) -> Result<Vec<u8>, Error> {
        let mut body = Vec::with_capacity(self.body.len() + 128);
        message(self.id, list, "", 0, &mut body)?;
        body.extend_from_slice(&self.body);
        drop(self.body);
        Ok(envelope(&self.api_version, &self.kind, &body))
    }
}

/// Writes one event of a watch, `{"type":…,"object":…}`, as a frame: its length in four bytes, then the event, whose
/// object is written as by [`encode`].
///
/// # Errors
///
/// Those of [`encode`].
pub fn encode_watch_event(event: &Value) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &encode(&event["object"])?);
    let mut body = Vec::with_capacity(raw.len() + 24);
    put_bytes(
        &mut body,
        1,
        event["type"].as_str().unwrap_or_default().as_bytes(),
    );
    put_bytes(&mut body, 2, &raw);
    let length = u32::try_from(body.len()).map_err(|_| Error::Overflow)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.append(&mut body);
    Ok(frame)
}

fn message(id: MessageId, value: &Value, name: &str, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let none = Map::new();
    let object = match value {
        Value::Object(object) => object,
        Value::Null => &none,
        _ => return Err(mistyped(name, "message")),
    };
    for field in TABLE.fields(id) {
        if let (true, Type::Message(inner)) = (field.inline, field.type_) {
            let mut bytes = Vec::new();
            message(inner, value, field.name, depth + 1, &mut bytes)?;
            put_bytes(out, field.number, &bytes);
            continue;
        }
        let value = object.get(field.name).unwrap_or(&Value::Null);
        match (field.shape, value) {
            // Nothing is written of what is not set; what cannot be unset is always written.
            (Shape::One, Value::Null) if field.optional => {}
            (Shape::One, value) => one(field, field.number, value, depth, out)?,
            (_, Value::Null) => {}
            (Shape::List, Value::Array(list)) => {
                for value in list {
                    one(field, field.number, value, depth, out)?;
                }
            }
            (Shape::Map, Value::Object(map)) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut bytes = Vec::new();
                    put_bytes(&mut bytes, 1, key.as_bytes());
                    one(field, 2, value, depth, &mut bytes)?;
                    put_bytes(out, field.number, &bytes);
                }
            }
            (Shape::List, _) => return Err(mistyped(field.name, "list")),
            (Shape::Map, _) => return Err(mistyped(field.name, "map")),
        }
    }
    Ok(())
}

/// Writes one value of a field's type under a number.
fn one(field: &Field, number: u64, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let name = field.name;
    let mut inner = Vec::new();
    match field.type_ {
        Type::String => {
            put_bytes(out, number, text(value, name)?.as_bytes());
            return Ok(());
        }
        Type::Bool => {
            put_int(out, number, u64::from(boolean(value, name)?));
            return Ok(());
        }
        Type::Int32 | Type::Int64 => {
            put_int(out, number, int(value, name)? as u64);
            return Ok(());
        }
        Type::Double => {
            let double = match value {
                Value::Null => 0.0,
                other => other.as_f64().ok_or_else(|| mistyped(name, "double"))?,
            };
            put_fixed64(out, number, double.to_bits());
            return Ok(());
        }
        // Go tells no bytes from empty ones, and writes the latter only.
        Type::Bytes if value.is_null() => return Ok(()),
        Type::Bytes => {
            inner = BASE64
                .decode(text(value, name)?)
                .map_err(|_| mistyped(name, "bytes"))?;
        }
        Type::Time => special::put_time(&mut inner, value, name, false)?,
        Type::MicroTime => special::put_time(&mut inner, value, name, true)?,
        Type::Quantity => match value {
            Value::Null => put_bytes(&mut inner, 1, b"0"),
            Value::Number(number) => put_bytes(&mut inner, 1, number.to_string().as_bytes()),
            other => put_bytes(&mut inner, 1, text(other, name)?.as_bytes()),
        },
        Type::IntOrString => special::put_int_or_string(&mut inner, value, name)?,
        Type::Raw if value.is_null() => {}
        Type::Raw => put_bytes(&mut inner, 1, value.to_string().as_bytes()),
        // As with bytes.
        Type::Strings if value.is_null() && !field.optional && field.shape == Shape::One => return Ok(()),
        Type::Strings => texts(value, 1, name, &mut inner)?,
        Type::SchemaOrArray(id) => match value {
            Value::Array(list) => {
                for schema in list {
                    nested(id, 2, schema, name, depth, &mut inner)?;
                }
            }
            Value::Null => {}
            schema => nested(id, 1, schema, name, depth, &mut inner)?,
        },
        Type::SchemaOrStrings(id) => match value {
            Value::Object(_) => nested(id, 1, value, name, depth, &mut inner)?,
            strings => texts(strings, 2, name, &mut inner)?,
        },
        Type::SchemaOrBool(id) => match value {
            Value::Object(_) => {
                put_int(&mut inner, 1, 1);
                nested(id, 2, value, name, depth, &mut inner)?;
            }
            allows => put_int(&mut inner, 1, u64::from(boolean(allows, name)?)),
        },
        Type::Message(id) => message(id, value, name, depth + 1, &mut inner)?,
    }
    put_bytes(out, number, &inner);
    Ok(())
}

fn nested(
    id: MessageId,
    number: u64,
    value: &Value,
    name: &str,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    message(id, value, name, depth + 1, &mut bytes)?;
    put_bytes(out, number, &bytes);
    Ok(())
}

fn texts(value: &Value, number: u64, name: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    match value {
        Value::Null => {}
        Value::Array(list) => {
            for value in list {
                put_bytes(out, number, text(value, name)?.as_bytes());
            }
        }
        _ => return Err(mistyped(name, "list")),
    }
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Error> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        _ => Err(mistyped(name, "string")),
    }
}

fn boolean(value: &Value, name: &str) -> Result<bool, Error> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(set) => Ok(*set),
        _ => Err(mistyped(name, "bool")),
    }
}

fn int(value: &Value, name: &str) -> Result<i64, Error> {
    match value {
        Value::Null => Ok(0),
        // A whole number may be written with a fraction of zero.
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64))
            .ok_or_else(|| mistyped(name, "integer")),
        _ => Err(mistyped(name, "integer")),
    }
}

fn mistyped(name: &str, expected: &'static str) -> Error {
    Error::Type {
        field: name.to_owned(),
        expected,
    }
}

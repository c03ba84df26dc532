//! From protobuf to JSON.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use super::table::{Field, MessageId, Shape, TABLE, Type};
use super::wire::{Raw, Reader};
use super::{Error, MAGIC, MAX_DEPTH, MAX_MESSAGES, special};

type Object = Map<String, Value>;

/// Where a message is, and how many more there may be: two bytes are enough for a message, whose JSON is far longer.
#[derive(Clone, Copy)]
struct Place<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Place<'_> {
    /// The place of a message within the one here.
    fn inner(self) -> Result<Self, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let left = self.left.get().checked_sub(1).ok_or(Error::TooMany)?;
        self.left.set(left);
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

/// Reads an object as Kubernetes clients send it: [`MAGIC`], then an envelope that says what it holds.
///
/// `api_version` and `kind` are what the object is if the envelope does not say. Of a kind that has no protobuf form
/// here, the answer is its kind alone: who asked says what is wrong with that. Unknown fields are left out.
///
/// # Errors
///
/// [`Error`] says what is wrong with the bytes.
pub fn decode(bytes: &[u8], api_version: &str, kind: &str) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::NoMagic)?;
    if rest.is_empty() {
        return Err(Error::NoBody);
    }
    let (mut said_version, mut said_kind, mut body) = (String::new(), String::new(), &[][..]);
    let mut envelope = Reader::new(rest);
    while let Some((number, raw)) = envelope.field()? {
        match number {
            1 => {
                let mut meta = Reader::new(bytes_of(raw, "typeMeta")?);
                while let Some((number, raw)) = meta.field()? {
                    match number {
                        1 => said_version = text(raw, "apiVersion")?,
                        2 => said_kind = text(raw, "kind")?,
                        _ => {}
                    }
                }
            }
            2 => body = bytes_of(raw, "raw")?,
            _ => {}
        }
    }
    for (said, default) in [(&mut said_version, api_version), (&mut said_kind, kind)] {
        if said.is_empty() {
            default.clone_into(said);
        }
    }
    let mut object = Object::new();
    if let Some(id) = TABLE.kind(&said_version, &said_kind) {
        let left = Cell::new(MAX_MESSAGES);
        let place = Place {
            depth: 0,
            left: &left,
        };
        read(id, body, &mut object, place)
            .and_then(|()| finish(id, &mut object, place))
            .map_err(|why| Error::Object {
                api_version: said_version.clone(),
                kind: said_kind.clone(),
                why: Box::new(why),
            })?;
    }
    object.insert("apiVersion".to_owned(), said_version.into());
    object.insert("kind".to_owned(), said_kind.into());
    Ok(Value::Object(object))
}

/// The message that lies in another at `place`.
fn message(id: MessageId, bytes: &[u8], place: Place<'_>) -> Result<Value, Error> {
    let place = place.inner()?;
    let mut object = Object::new();
    read(id, bytes, &mut object, place)?;
    finish(id, &mut object, place)?;
    Ok(Value::Object(object))
}

/// Puts the fields that are there into `object`.
fn read(id: MessageId, bytes: &[u8], object: &mut Object, place: Place<'_>) -> Result<(), Error> {
    let fields = TABLE.fields(id);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        let Some(field) = fields
            .binary_search_by_key(&number, |f| f.number)
            .ok()
            .and_then(|at| fields.get(at))
        else {
            continue;
        };
        match (field.shape, field.type_) {
            (Shape::One, Type::Message(inner)) if field.inline => {
                read(inner, bytes_of(raw, field.name)?, object, place.inner()?)?;
            }
            (Shape::One, _) => {
                let value = one(field, raw, place)?;
                if field.optional || field.kept || field.type_.is_struct() || !is_zero(&value) {
                    object.insert(field.name.to_owned(), value);
                } else {
                    object.remove(field.name);
                }
            }
            (Shape::List, _) => {
                if let Value::Array(list) = entry(object, field.name, Value::Array(Vec::new())) {
                    element(field, raw, place, list)?;
                }
            }
            (Shape::Map, _) => {
                let (key, value) = pair(field, bytes_of(raw, field.name)?, place)?;
                if let Value::Object(map) = entry(object, field.name, Value::Object(Object::new())) {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// Adds the fields that Go's JSON writes though nothing is in them, and takes out those that it does not.
fn finish(id: MessageId, object: &mut Object, place: Place<'_>) -> Result<(), Error> {
    for field in TABLE.fields(id) {
        if let (true, Type::Message(inner)) = (field.inline, field.type_) {
            finish(inner, object, place)?;
            continue;
        }
        let single = field.shape == Shape::One && !field.optional;
        if field.omit_zero {
            let is_zero = object
                .get(field.name)
                .is_some_and(|v| zero(field.type_, place).as_ref() == Ok(v));
            if is_zero {
                object.remove(field.name);
            }
        } else if !object.contains_key(field.name) {
            if single && (field.kept || field.type_.is_struct()) {
                object.insert(field.name.to_owned(), zero(field.type_, place)?);
            } else if field.kept {
                object.insert(field.name.to_owned(), Value::Null);
            }
        }
    }
    Ok(())
}

fn entry<'a>(object: &'a mut Object, name: &str, empty: Value) -> &'a mut Value {
    object.entry(name).or_insert(empty)
}

/// The JSON of Go's zero value.
fn zero(type_: Type, place: Place<'_>) -> Result<Value, Error> {
    Ok(match type_ {
        Type::String => "".into(),
        Type::Bool | Type::SchemaOrBool(_) => false.into(),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Message(id) => message(id, &[], place)?,
        Type::Bytes
        | Type::Time
        | Type::MicroTime
        | Type::Raw
        | Type::Strings
        | Type::SchemaOrArray(_)
        | Type::SchemaOrStrings(_) => Value::Null,
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// One value of a field's type.
fn one(field: &Field, raw: Raw<'_>, place: Place<'_>) -> Result<Value, Error> {
    let name = field.name;
    let bytes = || bytes_of(raw, name);
    let schema = |id, bytes, number| {
        let mut found = schemas(id, bytes, number, place, name)?;
        Ok(found.pop().unwrap_or_default())
    };
    Ok(match field.type_ {
        Type::String => text(raw, name)?.into(),
        Type::Bytes => BASE64.encode(bytes()?).into(),
        Type::Bool => (varint(raw, name)? != 0).into(),
        Type::Int32 => int32(varint(raw, name)?).into(),
        Type::Int64 => int64(varint(raw, name)?).into(),
        Type::Double => match raw {
            Raw::Fixed64(bits) => double(bits, name)?,
            other => return Err(wrong(other, name)),
        },
        Type::Time => special::time(bytes()?, name, false)?,
        Type::MicroTime => special::time(bytes()?, name, true)?,
        Type::Quantity => {
            let quantity = first_text(bytes()?, 1, name)?;
            (if quantity.is_empty() {
                "0".to_owned()
            } else {
                quantity
            })
            .into()
        }
        Type::IntOrString => special::int_or_string(bytes()?, name)?,
        Type::Raw => json(bytes()?, name)?,
        Type::Strings => texts(bytes()?, 1, name)?.into(),
        Type::SchemaOrArray(id) => match schemas(id, bytes()?, 2, place, name)? {
            list if list.is_empty() => schema(id, bytes()?, 1)?,
            list => list.into(),
        },
        Type::SchemaOrStrings(id) => match texts(bytes()?, 2, name)? {
            list if list.is_empty() => schema(id, bytes()?, 1)?,
            list => list.into(),
        },
        Type::SchemaOrBool(id) => match schema(id, bytes()?, 2)? {
            Value::Null => (first_int(bytes()?, 1, name)? != 0).into(),
            schema => schema,
        },
        Type::Message(id) => message(id, bytes()?, place)?,
    })
}

/// Adds what one occurrence of a repeated field holds: one value, or several integers.
fn element(field: &Field, raw: Raw<'_>, place: Place<'_>, list: &mut Vec<Value>) -> Result<(), Error> {
    if let (Raw::Bytes(bytes), Type::Int32 | Type::Int64 | Type::Bool) = (raw, field.type_) {
        let mut reader = Reader::new(bytes);
        while let Some(number) = reader.packed()? {
            list.push(one(field, Raw::Varint(number), place)?);
        }
        return Ok(());
    }
    list.push(one(field, raw, place)?);
    Ok(())
}

fn pair(field: &Field, bytes: &[u8], place: Place<'_>) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        match number {
            1 => key = text(raw, field.name)?,
            2 => value = Some(one(field, raw, place)?),
            _ => {}
        }
    }
    let value = match (value, field.type_) {
        (Some(value), _) => value,
        // Empty in a map, not nil as in a field.
        (None, Type::Bytes) => "".into(),
        (None, Type::Strings) => Value::Array(Vec::new()),
        (None, other) => zero(other, place)?,
    };
    Ok((key, value))
}

/// The schemas in the fields `number`.
fn schemas(
    id: MessageId,
    bytes: &[u8],
    number: u64,
    place: Place<'_>,
    name: &str,
) -> Result<Vec<Value>, Error> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((found, raw)) = reader.field()? {
        if found == number {
            list.push(message(id, bytes_of(raw, name)?, place)?);
        }
    }
    Ok(list)
}

fn json(bytes: &[u8], name: &str) -> Result<Value, Error> {
    let mut raw: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, found)) = reader.field()? {
        if number == 1 {
            raw = bytes_of(found, name)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(raw).map_err(|e| Error::Value {
        field: name.to_owned(),
        why: e.to_string(),
    })
}

fn texts(bytes: &[u8], number: u64, name: &str) -> Result<Vec<String>, Error> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((found, raw)) = reader.field()? {
        if found == number {
            list.push(text(raw, name)?);
        }
    }
    Ok(list)
}

fn first_text(bytes: &[u8], number: u64, name: &str) -> Result<String, Error> {
    Ok(texts(bytes, number, name)?.pop().unwrap_or_default())
}

fn first_int(bytes: &[u8], number: u64, name: &str) -> Result<u64, Error> {
    let mut value = 0;
    let mut reader = Reader::new(bytes);
    while let Some((found, raw)) = reader.field()? {
        if found == number {
            value = varint(raw, name)?;
        }
    }
    Ok(value)
}

/// Go keeps whole numbers whole when it writes floating point.
fn double(bits: u64, name: &str) -> Result<Value, Error> {
    let value = f64::from_bits(bits);
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Ok((value as i64).into());
    }
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| Error::Value {
            field: name.to_owned(),
            why: format!("unsupported value: {value}"),
        })
}

/// Numbers are written as if they had 64 bits; the lower half is what counts.
pub(super) fn int32(value: u64) -> i32 {
    value as u32 as i32
}

fn int64(value: u64) -> i64 {
    value as i64
}

pub(super) fn varint(raw: Raw<'_>, name: &str) -> Result<u64, Error> {
    match raw {
        Raw::Varint(value) => Ok(value),
        other => Err(wrong(other, name)),
    }
}

/// What is not UTF-8 is replaced, as Go's JSON does.
pub(super) fn text(raw: Raw<'_>, name: &str) -> Result<String, Error> {
    bytes_of(raw, name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn bytes_of<'a>(raw: Raw<'a>, name: &str) -> Result<&'a [u8], Error> {
    match raw {
        Raw::Bytes(bytes) => Ok(bytes),
        other => Err(wrong(other, name)),
    }
}

fn wrong(raw: Raw<'_>, name: &str) -> Error {
    Error::WrongWireType {
        wire_type: raw.wire_type(),
        field: name.to_owned(),
    }
}

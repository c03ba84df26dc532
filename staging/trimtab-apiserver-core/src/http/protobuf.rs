//! Bodies and answers in protobuf: the same objects as in JSON, which is what the rest of the server reads and writes.

use std::fmt;
use std::io;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::{ApiError, GroupVersionKind, StatusReason};
use trimtab_apiserver_kinds::protobuf::{self, Error};

use super::respond::status_value;
use crate::api::Pieces;

/// What clients call it.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What a watch's events are called.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// The JSON of a body, which is of the kind `expected` if it does not say.
///
/// # Errors
///
/// 400, worded as of any body that cannot be read.
pub(crate) fn body(bytes: &[u8], expected: &GroupVersionKind) -> Result<Bytes, ApiError> {
    let api_version = api_version(&expected.group, &expected.version);
    match protobuf::decode(bytes, &api_version, &expected.kind) {
        Ok(object) => Ok(object.to_string().into()),
        Err(Error::Object {
            api_version,
            kind,
            why,
        }) => Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: {why}",
            api_version.rsplit('/').next().unwrap_or_default(),
            expected.kind
        ))),
        Err(why) => Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            expected.kind,
            summary(bytes)
        ))),
    }
}

/// The JSON of the options of a delete.
///
/// # Errors
///
/// 400, with nothing but what is wrong.
pub(crate) fn delete_options(bytes: &[u8]) -> Result<Bytes, ApiError> {
    match protobuf::decode(bytes, "v1", "DeleteOptions") {
        Ok(object) => Ok(object.to_string().into()),
        Err(why) => Err(ApiError::bad_request(why.to_string())),
    }
}

/// The bytes of an answer.
///
/// # Errors
///
/// 406 for what has no protobuf form; 500 for an object that is not what its kind says.
pub(crate) fn answer(value: &Value) -> Result<Vec<u8>, ApiError> {
    protobuf::encode(value).map_err(refusal)
}

/// The bytes of an answer that comes as pieces of JSON. Of a list one item after the other is read, since all of them as
/// values take ten times as much memory.
///
/// # Errors
///
/// Those of [`answer`], and of the pieces.
pub(crate) fn pieces(mut json: Pieces) -> Result<Vec<u8>, ApiError> {
    let first = json.next().transpose()?.unwrap_or_default();
    let Some(second) = json.next() else {
        // What is short is read faster as a whole.
        return answer(&serde_json::from_slice(&first).map_err(ApiError::internal)?);
    };
    let mut reader = Reader {
        pieces: Box::new(std::iter::once(second).chain(json)),
        piece: first,
        failed: None,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(&mut reader);
    let read = Answer::default().deserialize(&mut deserializer);
    let read = read.and_then(|read| deserializer.end().map(|()| read));
    drop(deserializer);
    if let Some(error) = reader.failed {
        return Err(error);
    }
    let Answer { object, list, failed } = read.map_err(ApiError::internal)?;
    if let Some(error) = failed {
        return Err(refusal(error));
    }
    let object = Value::Object(object);
    match list {
        Some(list) => list.finish(&object).map_err(refusal),
        None => answer(&object),
    }
}

/// Pieces as what is read.
struct Reader {
    pieces: Pieces,
    piece: Bytes,
    failed: Option<ApiError>,
}

impl io::Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.next() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return Err(io::Error::other("a piece cannot be had"));
                }
            }
        }
        let length = out.len().min(self.piece.len());
        let piece = self.piece.split_to(length);
        out[..length].copy_from_slice(&piece);
        Ok(length)
    }
}

/// An object, without the items of a list, which are written as they come.
#[derive(Debug, Default)]
struct Answer {
    object: Map<String, Value>,
    list: Option<protobuf::ListEncoder>,
    failed: Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Answer {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Answer {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "items" && self.list.is_none() {
                let said = |name: &str| self.object.get(name).and_then(Value::as_str).unwrap_or_default();
                self.list = protobuf::ListEncoder::new(said("apiVersion"), said("kind"));
                if self.list.is_some() {
                    map.next_value_seed(Items(&mut self))?;
                    continue;
                }
            }
            self.object.insert(name, map.next_value()?);
        }
        Ok(self)
    }
}

/// Writes items. After one that cannot be written the others are passed over.
struct Items<'a>(&'a mut Answer);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self(Answer { list, failed, .. }) = self;
        while let Some(item) = items.next_element::<Value>()? {
            if let (Some(list), None) = (list.as_mut(), &failed) {
                *failed = list.add(&item).err();
            }
        }
        Ok(())
    }
}

/// The frame of a watch event, given as JSON. What cannot be written is an event of type `ERROR`.
pub(crate) fn frame(event: &[u8]) -> Vec<u8> {
    serde_json::from_slice(event)
        .map_err(ApiError::internal)
        .and_then(|event| protobuf::encode_watch_event(&event).map_err(refusal))
        .unwrap_or_else(|error| {
            let event = json!({"type": "ERROR", "object": status_value(&error)});
            protobuf::encode_watch_event(&event).unwrap_or_default()
        })
}

fn refusal(error: Error) -> ApiError {
    match error {
        Error::UnknownKind { kind, .. } => {
            let message = format!(
                "object *v1.{kind} does not implement the protobuf marshalling interface and cannot be encoded to a \
                 protobuf message"
            );
            ApiError::new(406, StatusReason::NotAcceptable, message)
        }
        other => ApiError::internal(other),
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// The beginning of a body, for an error.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = body.get(..SHOWN).unwrap_or(body);
    let mut text = if body.starts_with(b"{") {
        String::from_utf8_lossy(shown).into_owned()
    } else {
        shown.iter().map(|b| format!("{b:02x}")).collect()
    };
    if body.len() > SHOWN {
        text.push_str(" ...");
    }
    text
}

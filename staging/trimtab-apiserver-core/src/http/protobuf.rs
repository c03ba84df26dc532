//! Bodies and answers in protobuf: the same objects as in JSON, which is what the rest of the server reads and writes.

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, GroupVersionKind, StatusReason};
use trimtab_apiserver_kinds::protobuf::{self, Error};

use super::respond::status_value;

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

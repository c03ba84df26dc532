//! Objects in and out of the store: the encoding, and the store's errors as API errors.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Error, KeyValue, Revision};

use super::meta;

/// An object as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The object, with its kind and resource version.
    pub(crate) object: Value,
    /// Its encoding.
    pub(crate) bytes: Bytes,
    /// The revision that last changed it.
    pub(crate) revision: Revision,
}

/// The stored form of an object: JSON in the version that its kind is stored in, without the resource version, which
/// the store itself keeps. `kind`, `apiVersion` and `metadata` come first, in the order in which kube-apiserver writes
/// them: what begins like this can be answered without being decoded (`super::item`).
pub(crate) fn encode(resource: &Resource, object: &Value) -> Bytes {
    let converted = resource
        .conversion
        .map(|conversion| (conversion.to_stored)(object));
    let stored = AsStored {
        object: converted.as_ref().unwrap_or(object),
        api_version: resource.strategy.stored_api_version(),
    };
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        // Writing a JSON value to memory cannot fail.
        let encoded = serde_json::to_writer(&mut *scratch, &stored);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        let bytes = Bytes::copy_from_slice(scratch);
        scratch.shrink_to(SCRATCH_KEPT);
        bytes
    })
}

thread_local! {
    /// Where objects are encoded. What is stored is kept for long, and so copied out of here into a piece of memory of just
    /// its size: a buffer that has grown with it would keep up to as much again, and growing costs more than the copy.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How many bytes of [`SCRATCH`] are kept for the next object.
const SCRATCH_KEPT: usize = 64 * 1024;

/// What comes first in a stored object, in this order.
const FIRST: [&str; 3] = ["kind", "apiVersion", "metadata"];

/// An object as it is written to the store.
struct AsStored<'a> {
    object: &'a Value,
    /// What it says instead of its `apiVersion`.
    api_version: Option<&'a str>,
}

impl Serialize for AsStored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.object else {
            return self.object.serialize(serializer);
        };
        let mut map = serializer.serialize_map(None)?;
        for key in FIRST {
            match (fields.get(key), self.api_version) {
                (None, _) => {}
                (Some(_), Some(version)) if key == "apiVersion" => map.serialize_entry(key, version)?,
                (Some(metadata), _) if key == "metadata" => {
                    map.serialize_entry(key, &Unversioned(metadata))?
                }
                (Some(value), _) => map.serialize_entry(key, value)?,
            }
        }
        for (key, value) in fields.iter().filter(|(key, _)| !FIRST.contains(&key.as_str())) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Metadata without the resource version.
struct Unversioned<'a>(&'a Value);

impl Serialize for Unversioned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().filter(|(key, _)| *key != "resourceVersion"))
            }
            other => other.serialize(serializer),
        }
    }
}

/// What values begin with that kube-apiserver has written as protobuf, or has encrypted.
const PROTOBUF: &[u8] = b"k8s\0";
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Reads the stored form as it is.
pub(crate) fn parse(resource: &Resource, bytes: &[u8]) -> Result<Value, ApiError> {
    read(resource, bytes).map_err(ApiError::internal)
}

/// The error says what is wrong with which kind of object, and what to do.
fn read(resource: &Resource, bytes: &[u8]) -> Result<Value, String> {
    let kind = &resource.kind;
    if bytes.starts_with(PROTOBUF) {
        return Err(format!(
            "a stored {kind} is protobuf, of which only JSON is read: run the kube-apiserver that wrote it with \
             --storage-media-type=application/json and have it write its objects anew"
        ));
    }
    if bytes.starts_with(ENCRYPTED) {
        return Err(format!(
            "a stored {kind} is encrypted: have the kube-apiserver that wrote it write its objects anew with the \
             identity provider first in its --encryption-provider-config"
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| format!("a stored {kind} cannot be read: {e}"))
}

fn complete(resource: &Resource, mut object: Value, revision: Revision) -> Value {
    if let Some(conversion) = resource.conversion {
        object = (conversion.from_stored)(object);
    }
    if resource.custom {
        // Its schema may have changed since it was stored; the version that it was stored in says what is missing.
        resource.strategy.default(&mut object);
    }
    stamp(resource, &mut object);
    meta::set(&mut object, "resourceVersion", revision.to_string());
    object
}

/// Says in the object what kind it is, in the version that it is served in.
pub(crate) fn stamp(resource: &Resource, object: &mut Value) {
    object["kind"] = Value::from(resource.kind.as_str());
    object["apiVersion"] = Value::from(resource.api_version());
}

/// Reads the stored form of an object that nobody else has to convert; `revision` becomes the resource version. An error
/// names the key.
pub(crate) fn decode(
    resource: &Resource,
    key: &[u8],
    bytes: &[u8],
    revision: Revision,
) -> Result<Value, ApiError> {
    let object = read(resource, bytes)
        .map_err(|why| ApiError::internal(format_args!("{}: {why}", key.escape_ascii())))?;
    Ok(complete(resource, object, revision))
}

/// As [`decode`], with what the store says of the object.
pub(crate) fn stored(resource: &Resource, kv: KeyValue) -> Result<Stored, ApiError> {
    Ok(Stored {
        object: decode(resource, &kv.key, &kv.value, kv.mod_revision)?,
        bytes: kv.value,
        revision: kv.mod_revision,
    })
}

/// A store's error as an API server answers it.
pub(crate) fn error(error: &Error) -> ApiError {
    match error {
        Error::Compacted { .. } => ApiError::expired("The resourceVersion for the provided list is too old."),
        Error::Future { asked, current } => too_large(*asked, *current),
        Error::Full(why) => ApiError::new(
            507,
            StatusReason::Other("InsufficientStorage".to_owned()),
            why.clone(),
        ),
        Error::TooLarge(why) => ApiError::new(413, StatusReason::RequestEntityTooLarge, why.clone()),
        // As kube-apiserver answers when etcd does not answer it: the client has to look.
        unknown @ Error::Unknown(_) => ApiError::timeout(unknown.to_string()),
        Error::Closed => ApiError::unavailable("the server is shutting down"),
        other => ApiError::internal(other),
    }
}

/// 504: the version asked for has not happened yet.
pub(crate) fn too_large(asked: Revision, current: Revision) -> ApiError {
    let mut error = ApiError::timeout(format!("Too large resource version: {asked}, current: {current}"))
        .with_cause("ResourceVersionTooLarge", "Too large resource version", "");
    error.retry_after = Some(Duration::from_secs(1));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_objects_own_version_is_left_out() {
        let object = json!({"metadata": {"name": "a", "resourceVersion": "5", "x": {"resourceVersion": "6"}},
            "resourceVersion": "7", "spec": {"metadata": {"resourceVersion": "8"}}});
        let mut expected = object.clone();
        expected["metadata"]
            .as_object_mut()
            .map(|m| m.remove("resourceVersion"));
        let builtin = trimtab_apiserver_kinds::builtin::all();
        let stored: Value = serde_json::from_slice(&encode(&builtin[0], &object)).unwrap_or_default();
        assert_eq!(stored, expected);
    }

    #[test]
    fn each_error_of_a_store_has_its_code_and_reason() {
        let cases = [
            (Error::Compacted { oldest: 7 }, 410, "Expired"),
            (Error::Future { asked: 9, current: 7 }, 504, "Timeout"),
            (Error::Full("etcd".to_owned()), 507, "InsufficientStorage"),
            (Error::TooLarge("etcd".to_owned()), 413, "RequestEntityTooLarge"),
            (Error::Unknown("etcd".to_owned()), 504, "Timeout"),
            (Error::Io("etcd".to_owned()), 500, "InternalError"),
            (Error::Closed, 503, "ServiceUnavailable"),
        ];
        for (stored, code, reason) in cases {
            let answered = error(&stored);
            assert_eq!(
                (answered.code, answered.reason.as_str()),
                (code, reason),
                "{stored}"
            );
        }
    }
}

//! JSON patch (RFC 6902) with the two liberties that kube-apiserver takes.

use json_patch::{AddOperation, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::go;

/// The most operations that one JSON patch may have; kube-apiserver's limit (`maxJSONPatchOperations`).
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Applies a JSON patch, given as the request's body, to `object`: all of it or, on an error, nothing.
///
/// As with kube-apiserver, `replace` of an absent field of an object adds it, and `test` of an absent field against
/// null succeeds; RFC 6902 refuses both.
///
/// # Errors
/// [`PatchError::Malformed`] when the body is no list of operations, [`PatchError::TooLarge`] when the list is too
/// long, [`PatchError::TestFailed`] when a test does not hold, [`PatchError::Inapplicable`] when an operation does not fit
/// the object.
pub fn json(object: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let malformed = |text: String| PatchError::Malformed(format!("error decoding patch: {text}"));
    let operations = match go::read_json(patch).map_err(malformed)? {
        Value::Array(operations) => operations,
        other => return Err(malformed(wrong_kind(&other, "[]handlers.jsonPatchOp"))),
    };
    if let Some(other) = operations.iter().find(|o| !o.is_object()) {
        return Err(malformed(wrong_kind(other, "handlers.jsonPatchOp")));
    }
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = object.clone();
    for operation in operations {
        let operation: PatchOperation =
            serde_json::from_value(operation).map_err(|e| PatchError::Inapplicable(e.to_string()))?;
        apply(&mut patched, operation).map_err(|error| match error.kind {
            PatchErrorKind::TestFailed => PatchError::TestFailed(error.to_string()),
            _ => PatchError::Inapplicable(error.to_string()),
        })?;
    }
    *object = patched;
    Ok(())
}

fn apply(document: &mut Value, operation: PatchOperation) -> Result<(), json_patch::PatchError> {
    let operation = match operation {
        PatchOperation::Test(test)
            if test.value.is_null() && document.pointer(test.path.as_str()).is_none() =>
        {
            return Ok(());
        }
        PatchOperation::Replace(replace) if is_absent_field(document, replace.path.as_str()) => {
            PatchOperation::Add(AddOperation {
                path: replace.path,
                value: replace.value,
            })
        }
        other => other,
    };
    json_patch::patch(document, &[operation])
}

/// Whether the pointer names a field that is not there, of an object that is.
fn is_absent_field(document: &Value, pointer: &str) -> bool {
    let Some((parent, _)) = pointer.rsplit_once('/') else {
        return false;
    };
    document.pointer(parent).is_some_and(Value::is_object) && document.pointer(pointer).is_none()
}

fn wrong_kind(value: &Value, wanted: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go value of type {wanted}",
        go::json_kind(value)
    )
}

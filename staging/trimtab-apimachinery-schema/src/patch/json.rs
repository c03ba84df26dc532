//! JSON patch (RFC 6902) with the two liberties that kube-apiserver takes.

use json_patch::{AddOperation, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::go;

/// The most operations that one JSON patch may have; kube-apiserver's limit (`maxJSONPatchOperations`).
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// How many bytes a JSON patch may copy, all its operations together; kube-apiserver's limit.
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// How many bytes it may move to where they are deeper: to find out how deep takes as long as they are.
const MOST_MOVED: usize = 64 * 1024 * 1024;
/// How deep what is patched may become. What reads it later reads no more than 127 levels.
const MOST_LEVELS: usize = 120;

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
    let mut growth = Growth::default();
    for operation in operations {
        let operation: PatchOperation =
            serde_json::from_value(operation).map_err(|e| PatchError::Inapplicable(e.to_string()))?;
        growth
            .note(&patched, &operation)
            .map_err(PatchError::Inapplicable)?;
        apply(&mut patched, operation).map_err(|error| match error.kind {
            PatchErrorKind::TestFailed => PatchError::TestFailed(error.to_string()),
            _ => PatchError::Inapplicable(error.to_string()),
        })?;
    }
    *object = patched;
    Ok(())
}

/// How much operations add that the patch does not have in it.
#[derive(Debug, Default)]
struct Growth {
    copied: usize,
    moved: usize,
}

impl Growth {
    /// Takes an operation in before it is applied.
    fn note(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), String> {
        let levels = |pointer: &str| pointer.bytes().filter(|byte| *byte == b'/').count();
        let (path, value) = match operation {
            PatchOperation::Add(add) => (add.path.as_str(), Some(&add.value)),
            PatchOperation::Replace(replace) => (replace.path.as_str(), Some(&replace.value)),
            PatchOperation::Copy(copy) => (copy.path.as_str(), document.pointer(copy.from.as_str())),
            PatchOperation::Move(moved) if levels(moved.path.as_str()) > levels(moved.from.as_str()) => {
                (moved.path.as_str(), document.pointer(moved.from.as_str()))
            }
            _ => return Ok(()),
        };
        let Some(value) = value else { return Ok(()) };
        let left = MOST_LEVELS.checked_sub(levels(path));
        let weight = left.and_then(|left| weigh(value, left));
        let weight = weight.ok_or_else(|| format!("what is patched has more than {MOST_LEVELS} levels"))?;
        match operation {
            PatchOperation::Copy(_) => self.copied += weight,
            PatchOperation::Move(_) => self.moved += weight,
            _ => {}
        }
        if self.copied > MOST_COPIED {
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MOST_COPIED}",
                self.copied
            ));
        }
        if self.moved > MOST_MOVED {
            return Err(format!("{} bytes are moved, more than {MOST_MOVED}", self.moved));
        }
        Ok(())
    }
}

/// About how many bytes of JSON a value is; `None` if it has more than so many levels.
fn weigh(value: &Value, levels: usize) -> Option<usize> {
    match value {
        Value::Array(items) => {
            let levels = levels.checked_sub(1)?;
            items
                .iter()
                .try_fold(2, |sum, item| Some(sum + 1 + weigh(item, levels)?))
        }
        Value::Object(fields) => {
            let levels = levels.checked_sub(1)?;
            let weight = |(name, value): (&String, &Value)| Some(name.len() + 4 + weigh(value, levels)?);
            fields.iter().try_fold(2, |sum, field| Some(sum + weight(field)?))
        }
        Value::String(text) => Some(text.len() + 2),
        _ => Some(8),
    }
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

//! The three patch formats that change a whole object: JSON patch, JSON merge patch, strategic merge patch.
//!
//! Each is a pure function from an object and a patch to the patched object. What a patch may touch (names, status,
//! versions) is not decided here. Server-side apply is a different thing and lives in [`crate::apply`].

mod json;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

pub use json::{MAX_JSON_PATCH_OPERATIONS, json};
pub use strategic::strategic;

use crate::go;

/// Why a patch could not be applied; the texts are those of kube-apiserver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The patch itself cannot be read: 400. The text says why.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed and does not fit this object: 422. The server's answer has a
    /// general message; this text is for logs.
    #[error("{0}")]
    Inapplicable(String),
    /// A `test` of a JSON patch does not hold: 422, as if it did not fit.
    #[error("{0}")]
    TestFailed(String),
    /// The patch has more operations than the server takes: 413. The text says so.
    #[error("{0}")]
    TooLarge(String),
    /// A directive or list of a strategic merge patch makes no sense: 500, with this text.
    #[error("{0}")]
    Unusable(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(text) => Self::bad_request(text),
            PatchError::Inapplicable(_) | PatchError::TestFailed(_) => Self::new(
                422,
                StatusReason::Invalid,
                "the server rejected our request due to an error in our request",
            ),
            PatchError::TooLarge(text) => Self::new(
                413,
                StatusReason::RequestEntityTooLarge,
                format!("Request entity too large: {text}"),
            ),
            PatchError::Unusable(text) => Self::new(500, StatusReason::Unknown, text),
        }
    }
}

/// Applies a JSON merge patch (RFC 7396): fields of `patch` replace those of `object`, null removes.
pub fn merge(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

/// Reads the body of a merge patch.
///
/// # Errors
/// [`PatchError::Malformed`] when it is not a JSON object.
pub fn read_merge(body: &[u8]) -> Result<Value, PatchError> {
    read_object(body).map_err(|text| PatchError::Malformed(format!("error decoding patch: {text}")))
}

/// Reads the body of a strategic merge patch.
///
/// # Errors
/// [`PatchError::Malformed`] when it is not a JSON object.
pub fn read_strategic(body: &[u8]) -> Result<Value, PatchError> {
    read_object(body).map_err(PatchError::Malformed)
}

fn read_object(body: &[u8]) -> Result<Value, String> {
    let value = go::read_json(body)?;
    if value.is_object() {
        return Ok(value);
    }
    let kind = go::json_kind(&value);
    Err(format!(
        "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

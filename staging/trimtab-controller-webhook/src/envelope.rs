//! What all reviews have in common: an API server asks in a version that it chooses, and is answered in the same.

use serde::Serialize;

/// The versions of admission and token reviews that are spoken; those of one kind have the same fields.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// An answer to a review, encoded, and whether the author's code panicked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) panicked: bool,
}

impl Answer {
    /// # Errors
    /// When the answer cannot be written as JSON.
    pub(crate) fn new(review: &impl Serialize, panicked: bool) -> Result<Self, String> {
        let body = serde_json::to_vec(review);
        let body = body.map_err(|error| format!("the answer cannot be encoded: {error}"))?;
        Ok(Self { body, panicked })
    }
}

/// Checks what a body says it is.
///
/// # Errors
/// When it is no review of this kind, or of a version that is not spoken.
pub(crate) fn check(api_version: &str, kind: &str, [group, expected]: [&str; 2]) -> Result<(), String> {
    let version = api_version
        .strip_prefix(group)
        .and_then(|rest| rest.strip_prefix('/'));
    if kind != expected || !version.is_some_and(|version| VERSIONS.contains(&version)) {
        return Err(format!(
            "the body is a {kind:?} of {api_version:?}, expected {expected} of {group}/v1 or v1beta1"
        ));
    }
    Ok(())
}

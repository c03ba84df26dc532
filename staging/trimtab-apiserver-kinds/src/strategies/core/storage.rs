//! Persistent volumes and claims to them.

use serde_json::Value;

use crate::strategies::checks::{default_to, object};
use crate::strategies::fields::round_up_resources;

/// Fills in what the spec of a claim leaves out.
pub(super) fn default_claim_spec(spec: &mut Value) {
    default_to(spec, "volumeMode", "Filesystem");
    let resources = object(spec, "resources");
    for part in ["limits", "requests"] {
        if let Some(part) = resources.get_mut(part) {
            round_up_resources(part);
        }
    }
}

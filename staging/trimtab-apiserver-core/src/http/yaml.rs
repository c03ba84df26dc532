//! YAML answers, in the layout that Kubernetes clients are used to.

use serde_json::Value;

/// Writes a value as YAML: members sorted, lists at the level of their key.
pub(crate) fn to_yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_default()
}

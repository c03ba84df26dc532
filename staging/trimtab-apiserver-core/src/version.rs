//! The version of Kubernetes whose answers we give, and our own.

use serde_json::{Value, json};

/// As `/version` says it: Kubernetes' version, with our own as build metadata.
pub(crate) const GIT_VERSION: &str = concat!("v1.36.2+trimtab.", env!("CARGO_PKG_VERSION"));

/// The version of Kubernetes whose behaviour this is.
pub(crate) const MINOR_VERSION: &str = "1.36";

/// The document at `/version`.
pub(crate) fn document() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

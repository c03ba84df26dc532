//! Golden files: what a test made, written down once and compared each time.

use std::path::Path;

use serde_json::Value;

use crate::diff::differences;
use crate::env::EnvError;
use crate::normal::State;

/// Says to write the files instead of comparing with them.
const VARIABLE: &str = "TRIMTAB_GOLDEN";

pub(crate) fn compare(path: &Path, state: &State) -> Result<(), EnvError> {
    let failed = |source| EnvError::File {
        path: path.to_owned(),
        source,
    };
    if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
        let yaml = serde_saphyr::to_string(state).map_err(|error| EnvError::Failed(error.to_string()))?;
        return std::fs::write(path, yaml).map_err(failed);
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let golden: Value =
        serde_saphyr::from_str(&text).map_err(|error| EnvError::Manifest(error.to_string()))?;
    let is: Value = state.clone().into_iter().collect();
    let differences = differences(&golden, &is);
    if differences.is_empty() {
        return Ok(());
    }
    Err(EnvError::Failed(format!(
        "{} is not what was made; {VARIABLE}=write takes it over\n  {}",
        path.display(),
        differences.join("\n  ")
    )))
}

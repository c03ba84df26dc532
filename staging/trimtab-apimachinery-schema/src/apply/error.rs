//! Why an apply is refused.

use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::path::Path;

/// A field that is applied and owned by someone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"mgr" using apps/v1`.
    pub manager: String,
    pub(super) path: Path,
}

impl Conflict {
    /// The field, as `.spec.template.spec.containers[name="a"].image`.
    pub fn field(&self) -> String {
        self.path.to_string()
    }
}

/// Why a configuration could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The configuration is not one for this request: 400.
    #[error("{0}")]
    BadRequest(String),
    /// Fields belong to others, and force was not asked for: 409. Never empty.
    #[error("{}", describe_conflicts(.0))]
    Conflict(Vec<Conflict>),
    /// The configuration does not fit the kind's structure: 500, with this text.
    #[error("{0}")]
    Unusable(String),
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let text = error.to_string();
        match error {
            ApplyError::BadRequest(_) => Self::bad_request(text),
            ApplyError::Unusable(_) => Self::new(500, StatusReason::Unknown, text),
            ApplyError::Conflict(conflicts) => {
                conflicts
                    .iter()
                    .fold(Self::new(409, StatusReason::Conflict, text), |error, conflict| {
                        let message = format!("conflict with {}", conflict.manager);
                        error.with_cause("FieldManagerConflict", message, &conflict.field())
                    })
            }
        }
    }
}

/// The conflicts as one text: one alone in a line, several by manager.
fn describe_conflicts(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager, one.path
        );
    }
    let mut lines = Vec::new();
    let mut last: Option<&str> = None;
    for Conflict { manager, path } in conflicts {
        if last != Some(manager) {
            lines.push(format!("conflicts with {manager}:"));
            last = Some(manager);
        }
        lines.push(format!("- {path}"));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

//! The one place where definitions meet structural schemas: checking them, and making them ready for use.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};
use trimtab_apimachinery_schema::Schema;

/// What is wrong with a schema as the schema of a version.
pub(super) fn check(_schema: &Value, _at: &FieldPath) -> Vec<FieldError> {
    Vec::new()
}

/// The schema as the rest of the server reads it.
pub(super) fn compile(_schema: &Value) -> Result<Schema, String> {
    Ok(Schema::any())
}

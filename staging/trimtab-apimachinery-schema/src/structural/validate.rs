//! The value validations of OpenAPI.

use serde_json::Value;
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use crate::Schema;

/// What a schema's value validations need beside the schema.
#[derive(Debug, Default)]
pub(super) struct Values {}

impl Values {
    pub(super) fn new(schema: &Schema) -> Self {
        let _ = schema;
        Self::default()
    }

    pub(super) fn check(
        &self,
        schema: &Schema,
        new: &Value,
        old: Option<&Value>,
        path: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        let _ = (schema, new, old, path, errors);
    }
}

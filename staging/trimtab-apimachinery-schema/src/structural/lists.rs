//! Invariants of a value's own content that OpenAPI cannot say: unique elements, embedded objects' type and metadata.

use serde_json::Value;
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use crate::Schema;

pub(super) fn check(
    schema: &Schema,
    new: &Value,
    old: Option<&Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let _ = (schema, new, old, path, errors);
}

//! A schema made ready to validate: regular expressions and rules compiled once, for all objects.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::field::{FieldError, FieldErrorKind, FieldPath};

use super::cel::Rules;
use super::validate::Values;
use super::{embedded, lists};
use crate::Schema;

/// Validates values against one schema. Building it compiles every pattern and CEL rule of the schema, so build one
/// per schema and keep it; it is cheap to share and needs no lock.
#[derive(Debug)]
pub struct Validator {
    schema: Arc<Schema>,
    values: Values,
    rules: Rules,
}

impl Validator {
    /// A validator of that schema. A pattern or rule that does not compile reports an error for each value it is
    /// asked about; [`super::check_definition`] refuses such schemas earlier.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self {
            values: Values::new(&schema),
            rules: Rules::new(&schema, true),
            schema,
        }
    }

    /// The schema that values are validated against.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// What is wrong with `new`; empty when nothing is. `old` is the value it replaces, `None` on create: parts that
    /// did not change are not refused for being invalid, and transition rules apply. `path` prefixes the fields.
    ///
    /// The same as [`check_values`](Self::check_values) and then [`check_rules`](Self::check_rules).
    pub fn validate(&self, new: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check_values(new, old, path, &mut errors);
        self.check_rules(new, old, path, &mut errors);
        errors
    }

    /// Types, formats, bounds, patterns, required fields: all but lists and rules. Appends to `errors`.
    ///
    /// A server whose checks go in between (those of the scale subresource do) calls this and
    /// [`check_rules`](Self::check_rules) by themselves.
    pub fn check_values(
        &self,
        new: &Value,
        old: Option<&Value>,
        path: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        self.values.check(&self.schema, new, old, path, errors);
    }

    /// Embedded objects' metadata, duplicates in lists of type `set` and `map`, then CEL rules. Rules are not
    /// evaluated when `errors` already holds one that says that the object has not the declared shape; an error
    /// says so.
    pub fn check_rules(
        &self,
        new: &Value,
        old: Option<&Value>,
        path: &FieldPath,
        errors: &mut Vec<FieldError>,
    ) {
        embedded::check(&self.schema, new, path, errors);
        self.check_lists(new, old, path, errors);
        self.evaluate(new, old, path, errors);
    }

    /// What is wrong with the `status` of `new`, an object that replaces `old` and differs from it in the status only.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let root = FieldPath::root();
        if let (Some(schema), Some(status)) = (self.schema.field("status"), new.get("status")) {
            let path = FieldPath::new("status");
            self.values
                .check(schema, status, old.get("status"), &path, &mut errors);
        }
        self.check_lists(new, Some(old), &root, &mut errors);
        self.evaluate(new, Some(old), &root, &mut errors);
        errors
    }

    /// A list that was invalid before may stay so, and so may all others.
    fn check_lists(&self, new: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
        let mut before = Vec::new();
        if let Some(old) = old {
            lists::check(&self.schema, old, path, &mut before);
        }
        if before.is_empty() {
            lists::check(&self.schema, new, path, errors);
        }
    }

    fn evaluate(&self, new: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
        if self.rules.is_empty() {
            return;
        }
        if errors.iter().any(blocks) {
            errors.push(FieldError::invalid(
                &FieldPath::root(),
                Value::Null,
                "some validation rules were not checked because the object was invalid; correct the existing errors \
                 to complete validation",
            ));
            return;
        }
        self.rules.check(new, old, true, path, errors);
    }
}

/// Whether the error means that rules could meet values that they were not compiled for.
fn blocks(error: &FieldError) -> bool {
    matches!(
        error.kind,
        FieldErrorKind::NotSupported
            | FieldErrorKind::Required
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

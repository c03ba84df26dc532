//! Schemas, values and rules against the words of kube-apiserver.

mod costs;
mod definitions;
mod properties;
mod rules;
mod values;

use std::sync::Arc;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

use super::Validator;
use crate::Schema;

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A validator of objects whose spec has that schema.
fn validator(spec: Value) -> Validator {
    let root = json!({"type": "object", "properties": {"spec": spec}});
    Validator::new(Arc::new(Schema::from_openapi(&root)))
}

/// What is wrong with an object of that spec.
fn faults(validator: &Validator, new: &Value, old: Option<&Value>) -> Vec<String> {
    let object =
        |spec: &Value| json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec});
    let old = old.map(object);
    texts(&validator.validate(&object(new), old.as_ref(), &FieldPath::root()))
}

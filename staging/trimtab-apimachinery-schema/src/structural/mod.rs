//! Structural schemas at work: what a custom resource's definition may say, and what its objects must be.
//!
//! A server reads `openAPIV3Schema` once, after [`check_definition`] found nothing wrong, with
//! [`Schema::from_openapi`](crate::Schema::from_openapi), and builds one [`Validator`] of it. Each object then goes
//! through [`prune`], [`default`] and [`Validator::validate`], in this order.
//!
//! Errors are worded and ordered as kube-apiserver's.
//!
//! A [`Condition`] is an expression in the same language about a request rather than about a value with a schema. Of such
//! [`Expression`]s admission policies are made, together in a [`Composition`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use trimtab_apimachinery_meta::FieldPath;
//! use trimtab_apimachinery_schema::{Schema, structural};
//!
//! let stated = json!({"type": "object", "properties": {"spec": {
//!     "type": "object",
//!     "properties": {"min": {"type": "integer", "default": 1}, "max": {"type": "integer"}},
//!     "x-kubernetes-validations": [{"rule": "!has(self.max) || self.min <= self.max"}],
//! }}});
//! assert_eq!(structural::check_definition(&stated, FieldPath::new("schema")), []);
//! let schema = Arc::new(Schema::from_openapi(&stated));
//! let validator = structural::Validator::new(Arc::clone(&schema));
//!
//! let mut object = json!({"spec": {"max": 0, "gone": true}});
//! assert_eq!(structural::prune(&schema, &mut object), ["spec.gone"]);
//! structural::default(&schema, &mut object);
//! let errors = validator.validate(&object, None, &FieldPath::root());
//! assert_eq!(
//!     errors[0].to_string(),
//!     "spec: Invalid value: failed rule: !has(self.max) || self.min <= self.max",
//! );
//! ```

mod cel;
mod collections;
mod correlate;
mod default;
mod definition;
mod embedded;
mod formats;
mod lists;
mod numbers;
mod openapi;
mod outcome;
mod prune;
mod regexes;
mod structure;
mod validate;
mod validator;

#[cfg(test)]
mod tests;

pub use cel::condition::{Condition, Variables};
pub use cel::library::authorizers::{Authorizer, Check, Decision};
pub use cel::requests::{
    Activation, COST_OF_CONDITIONS, COST_OF_ONE, COST_OF_POLICY, Composition, Declarations, EvaluationError,
    Expression, Inputs, Output, Returns,
};
pub use default::default;
pub use definition::check_definition;
pub use prune::prune;
pub use validator::Validator;

//! Structural schemas at work: what a custom resource's definition may say, and what its objects must be.
//!
//! A server reads `openAPIV3Schema` once, after [`check_definition`] found nothing wrong, with
//! [`Schema::from_openapi`](crate::Schema::from_openapi), and builds one [`Validator`] of it. Each object then goes
//! through [`prune`], [`default`] and [`Validator::validate`], in this order.
//!
//! Errors are worded and ordered as kube-apiserver's.

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

pub use default::default;
pub use definition::check_definition;
pub use prune::prune;
pub use validator::Validator;

//! Structural schemas, patches and server-side apply: pure functions over JSON values.
//!
//! - [`schema`] is the tree that says what objects look like, for built-in and custom kinds alike;
//! - [`structural`] reads it from `openAPIV3Schema`, judges definitions, and prunes, defaults and validates objects;
//!   patterns and CEL rules are compiled once, in a [`structural::Validator`];
//! - [`patch`] is JSON patch, merge patch and strategic merge patch;
//! - [`apply`] is server-side apply and the managed fields that all writes keep.
//!
//! Depend on the facade `trimtab-apimachinery` instead of this crate; its paths are the stable ones.

pub mod apply;
pub mod go;
pub mod patch;
pub mod schema;
pub mod structural;

pub use schema::Schema;

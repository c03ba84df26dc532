//! The built-in Kubernetes kinds: what each is called, what it looks like, what is filled in and what is refused.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.
//!
//! Kinds are data plus small strategies. This crate is pure: no I/O, no clock of its own, no async code.
//!
//! To add a kind: a line in `builtin/table.rs` (its names, verbs and subresources), its type in `builtin/types.rs`, and,
//! if it is not an ordinary kind, a strategy in `strategies/`.

pub mod builtin;
pub mod columns;
pub mod conversion;
pub mod protobuf;
pub mod resource;
pub mod schema_ref;
pub mod strategy;

mod strategies;

pub use schema_ref::SchemaRef;
pub use strategies::webhook_client;

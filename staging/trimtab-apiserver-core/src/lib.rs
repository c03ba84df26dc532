//! The Kubernetes API over a store.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.

pub mod api;
pub mod registry;

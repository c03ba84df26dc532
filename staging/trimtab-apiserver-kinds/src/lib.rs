//! The built-in Kubernetes kinds: what each is called, what it looks like, what is filled in and what is refused.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.
//!
//! Kinds are data plus small strategies. This crate is pure: no I/O, no clock of its own, no async code.

pub mod resource;
pub mod strategy;

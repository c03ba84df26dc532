//! Other servers that serve a part of the Kubernetes API.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.
//!
//! `aggregator` follows APIServices: it registers what the server has itself, looks whether the servers behind the others are
//! there, asks them what they serve, and tells the core. `proxy` passes requests on to one of them.
//!
//! `kit` is for who writes such a server.

pub mod kit;
pub mod options;

mod aggregator;
mod proxy;

pub use aggregator::{Aggregator, Config};

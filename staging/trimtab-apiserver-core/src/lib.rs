//! The Kubernetes API over a store.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.
//!
//! A request goes one way: `serving` (TLS) → `http` (authenticate, impersonate, let in by `flow`, authorize, negotiate)
//! → `registry` (decode, default, admit, validate, store) and back. `crd` adds to what the registry serves, and takes
//! away from it, as definitions of custom resources come and go. `server` puts the parts together.

pub mod admission;
pub mod allocators;
pub mod api;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod extensions;
pub mod limits;
pub mod options;
pub mod registry;
pub mod server;
pub mod status;

mod ambient;
mod changes;
mod crd;
mod discovery;
mod files;
mod flow;
mod http;
mod metrics;
mod openapi;
mod serving;
mod version;
mod webhook;

pub use ambient::{Clock, Entropy};
pub use server::{ApiServer, ApiService, StartError};

//! Operating etcd: how it is, snapshots and restores, the change between http and https, and the way between etcd and
//! the embedded store.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.

pub mod backup;
pub mod bolt;
pub mod description;
pub mod inventory;
pub mod migrate;
pub mod options;
pub mod plan;
pub mod status;
pub mod switch;

mod access;
mod certificates;
mod durable;
mod engine;
mod environment;
mod error;
mod journal;
mod runner;
mod stage;
mod text;
mod world;

pub use access::Access;
pub use engine::Ended;
pub use error::{Error, Result};

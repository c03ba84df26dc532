//! A whole Kubernetes control plane inside the test process.
//!
//! Depend on the facade `trimtab-testing` instead of this crate; its paths are the stable ones.
//!
//! [`TestEnv::start`] starts an API server over a store in memory, with the controllers that collect garbage and empty
//! namespaces. Clients talk to it without a socket, as its administrator. Nothing is written to disk, no port is
//! taken, so any number of environments run side by side.

mod env;
mod eventually;

pub use env::{EnvError, TestEnv};
pub use eventually::GaveUp;

//! A whole Kubernetes control plane inside the test process.
//!
//! Depend on the facade `trimtab-testing` instead of this crate; its paths are the stable ones.
//!
//! [`TestEnv::start`] starts an API server over a store in memory, with the controllers that collect garbage and empty
//! namespaces. Clients talk to it without a socket, as its administrator. Nothing is written to disk, no port is
//! taken, so any number of environments run side by side.
//!
//! With a [seed](Builder::seed), on a runtime of one thread and paused time, everything that happens follows from the seed:
//! the [`History`] of two runs is the same, change by change. Then leases, TTLs, grace periods and backoffs go by the test's
//! clock, and a day passes as fast as what happens in it.

mod builder;
mod diff;
mod dump;
mod env;
mod eventually;
mod golden;
mod history;
mod manifests;
mod normal;
mod requests;

pub use builder::Builder;
pub use diff::{differences, lacks};
pub use env::{EnvError, TestEnv};
pub use eventually::GaveUp;
pub use history::{Change, History, World};
pub use normal::{State, name_of, normalised};
pub use requests::RequestEntry;

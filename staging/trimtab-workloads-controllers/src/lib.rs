//! The controllers that belong beside an API server, as kube-controller-manager's do: without them owners would not
//! take their dependents along, and no namespace would ever go.
//!
//! Depend on the facade `trimtab-workloads` instead of this crate; its paths are the stable ones.

mod context;
mod garbage_collector;
mod live;
mod namespace;
mod options;
mod pool;
mod resources;
mod set;
mod standing;

pub use options::Options;
pub use set::{ControllerSet, SetError, known, run};

#[cfg(test)]
mod tests;

//! Whole programs on the framework, as its users write them, against a control plane in the process, on paused time.
//!
//! Each program is a file that reads as an example; beside it are what its users expect of it (`tests.rs`) and what happens to
//! it in the tests that all programs share (`scenario.rs`).

// === the programs ===

/// A custom resource with two owned kinds, one that is referred to by name, a finalizer, conditions and a declared phase.
mod database;

/// A policy without an object of its own, over namespaces of which metadata is watched.
mod policy;

/// A system outside the cluster, told of by events and found by a timer.
mod bucket;

/// The sample controller.
mod website;

// === what is asked of all of them ===

/// Each writes nothing when it is started again.
mod restarts;

/// Each does its work when it is killed, deposed, left in the dark and refused at random.
mod robustness;

/// Each needs to be allowed what it declares, and no more.
mod roles;

// === what their tests share ===

/// What people do, what was done by whom, what is, and what was.
mod kit;

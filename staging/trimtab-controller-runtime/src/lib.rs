//! The controller framework: managers, controllers, reconcilers, and the turn that one reconcile has.
//!
//! Depend on the facade `trimtab-controller` instead of this crate; its paths are the stable ones.
//!
//! A [`Manager`] runs controllers. A controller watches kinds, turns their changes into keys, and gives each key a
//! [`Turn`]; the author's [`Reconcile`] looks at the latest state, does what is missing, and says what it saw.
//!
//! # What always holds
//!
//! - **Level-triggered**: the outcome depends on the state, never on which events arrived. A reconciler gets a key and the
//!   latest state; losing, repeating or reordering notifications does not change where it ends.
//! - **Own writes seen**: a key has no turn from caches older than the key's own last write through its [`Turn`]. The
//!   wait is bounded by a [patience](ControllerBuilder::patience), after which the key goes on with a warning. A write whose
//!   answer was lost on the way cannot be waited for. What was written and is gone when the caches have come that far, made
//!   and deleted between two lists perhaps, of which no watch tells, has the key looked at again.
//! - **Isolated**: a panic or a slow key stops neither other keys nor the process. A panic is a failure of its key; a key
//!   that waits for caches holds no worker.
//! - **Backoff is about failures**: extra triggers do not lengthen it, nor does success with a later look.
//!
//! What does not: that the caches of two kinds are at the same point in time, or that they show what others wrote.
//!
//! # Traces
//!
//! Each turn is a trace of `tracing` spans, from what triggered it to the write of its status: [`process`] names them, and shows
//! how a program sends them to OpenTelemetry.

mod builder;
mod cluster;
mod controller;
mod error;
mod failing;
mod informer_metrics;
mod manager;
mod metrics;
mod process_metrics;
mod reconcile;
mod requests;
mod seldom;
mod share;
mod spans;
mod subject;
mod turn;
mod worker;

pub mod introspection;
pub mod predicate;
pub mod process;
pub mod rbac;
pub mod serving;
pub mod source;

pub use builder::ControllerBuilder;
pub use cluster::Cluster;
pub use controller::Controller;
pub use error::{Error, Result};
pub use manager::{Endpoints, Lead, Manager, Part};
pub use reconcile::{Next, Reconcile};
pub use subject::{Keyed, Reconciled, RequestKey, Subject};
pub use turn::{ConditionStatus, Conditions, Turn, Written};

#[cfg(test)]
mod tests;

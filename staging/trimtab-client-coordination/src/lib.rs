//! What clients of one cluster do to get along: retry conflicts, and tell people what happened.
//!
//! Depend on the facade `trimtab-client` instead of this crate; its paths are the stable ones.
//!
//! - [`retry`]: read, change and write again when somebody else was faster.
//! - [`events`]: a recorder of events that never blocks its caller.

pub mod events;
pub mod retry;

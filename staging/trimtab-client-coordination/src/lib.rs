//! What clients of one cluster do to get along: elect a leader or share keys, retry conflicts, and tell people what happened.
//!
//! Depend on the facade `trimtab-client` instead of this crate; its paths are the stable ones.
//!
//! - [`leader`]: of all replicas one does the work.
//! - [`sharding`]: all replicas work, each on its share.
//! - [`retry`]: read, change and write again when somebody else was faster.
//! - [`write`](mod@write): bring one object to what is wished, from a command or a migration.
//! - [`clock`]: what time it is, also where tests drive it.
//! - [`events`]: a recorder of events that never blocks its caller.

pub mod clock;
pub mod events;
pub mod leader;
mod lease;
pub mod retry;
pub mod sharding;
pub mod write;

#[cfg(test)]
mod tests;

//! The contract's suite: every clause on every backend, in five parts.
//!
//! - [`example`]: the worked example of the contract's documentation.
//! - [`sequential`]: random calls, one after the other, against a model.
//! - [`concurrent`]: writers and watchers at once; the history must fit the clauses.
//! - [`snapshot`]: snapshots while everything changes.
//! - [`time`]: expiry, automatic compaction, progress, slow watchers; on paused time.
//! - [`etcd`]: the same in etcd, in real time; and what only a store over a network meets.
//!
//! [`model`] is the simplest store that could be right; [`clauses`] holds one checker for each clause;
//! [`backends`] opens what is tested.

mod backends;
mod clauses;
mod concurrent;
mod etcd;
mod example;
mod model;
mod sequential;
mod snapshot;
mod time;

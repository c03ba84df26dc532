//! The cache against a fake API server, on paused time.

pub(crate) mod clauses;
mod harness;
mod selecting;
mod server;
mod stream;
mod world;

mod histories;

mod sharing;
mod storing;
mod watching;

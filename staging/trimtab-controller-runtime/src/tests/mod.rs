//! Controllers against a server in memory, on paused time.

mod clauses;
mod server;
mod widgets;

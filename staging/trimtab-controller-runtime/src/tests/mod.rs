//! Controllers against a server in memory, on paused time.

mod clauses;
mod managers;
mod server;
mod turns;
mod widgets;

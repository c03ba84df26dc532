//! Controllers against a server in memory, on paused time.

mod clauses;
mod leading;
mod managers;
mod roles;
mod server;
mod sources;
mod turns;
mod widgets;

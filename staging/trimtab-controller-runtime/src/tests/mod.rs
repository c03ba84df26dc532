//! Controllers against a server in memory, on paused time.

mod claims;
mod clauses;
mod documented;
mod leading;
mod managers;
mod many;
mod processes;
mod roles;
mod server;
mod sharding;
mod sources;
mod spans;
mod turns;
mod widgets;

//! Elections under watch.

mod behaviours;
mod clauses;
mod configs;
mod histories;
mod world;

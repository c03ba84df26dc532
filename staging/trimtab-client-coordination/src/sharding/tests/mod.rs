//! Groups under watch.

mod behaviours;
mod clauses;
mod histories;
mod sets;
mod states;
mod world;

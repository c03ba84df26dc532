//! Tests of the queue: the state machine beside a plain model and its histories against the named clauses; behaviours of
//! client-go and controller-runtime, one by one; limiters; memory; and the queue as tasks see it.

mod behaviours;
mod clauses;
mod histories;
mod limiters;
mod memory;
mod model;
mod shared;
mod world;

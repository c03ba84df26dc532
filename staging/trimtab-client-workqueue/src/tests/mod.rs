//! Tests of the queue: clauses over recorded histories, the state machine against random ones, and the shared queue.

mod clauses;
mod limiters;
mod model;
mod shared;

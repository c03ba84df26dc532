//! Policies against requests: what is refused, warned of, noted and changed, and in which order.

mod custom;
mod kit;
mod matching;
mod mutating;
mod status;
mod validating;

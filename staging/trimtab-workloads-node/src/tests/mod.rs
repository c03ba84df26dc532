//! The simulation on a real API server, inside the process, on paused time.

mod kit;
mod living;
mod naming;
mod scheduling;

//! The registry over a memory store: requests as a client makes them, answers as it sees them.

mod bytes;
mod crud;
pub(super) mod kit;
mod properties;
mod watching;

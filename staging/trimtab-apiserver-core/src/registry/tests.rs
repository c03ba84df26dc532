//! The registry over a memory store.

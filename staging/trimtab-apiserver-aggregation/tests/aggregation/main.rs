//! An API server, and servers behind it.

mod down;
mod kept;
mod kit;
mod proxied;
mod reasons;
mod same;
mod upgraded;

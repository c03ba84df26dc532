//! An API server, and servers behind it.

mod down;
mod kept;
mod kit;
mod proxied;
mod reasons;
mod rotated;
mod same;
mod upgraded;

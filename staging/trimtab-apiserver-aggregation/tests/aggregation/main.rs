//! An API server, and servers behind it.

mod admitted;
mod down;
mod kept;
mod kit;
mod observed;
mod proxied;
mod reasons;
mod rotated;
mod same;
mod upgraded;

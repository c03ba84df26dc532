//! Who asks, and whether they may: authentication and authorization for the API server.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.

pub mod user;

pub use user::{Attributes, Decision, UserInfo};

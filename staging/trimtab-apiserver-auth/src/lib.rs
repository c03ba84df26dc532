//! Who asks, and whether they may: authentication and authorization for the API server.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.
//!
//! The crate decides and knows nothing of HTTP or of storage: [`rbac::Policy`] is told of roles and bindings by
//! whoever stores them, the authenticators get strings and certificates.

mod anyone;
pub mod bootstrap_token;
pub mod certs;
pub mod rbac;
pub mod service_account;
mod token_keys;
pub mod tokens;
pub mod user;
pub mod x509;

pub use anyone::Anyone;
pub use user::{Attributes, Decision, UserInfo};

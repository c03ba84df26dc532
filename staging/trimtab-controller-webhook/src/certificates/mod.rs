//! Certificates that a program makes for its own webhooks: an authority, what it issues, and their renewal in time.

mod error;
mod injection;
mod material;
mod provisioner;
mod rotation;
mod secret;

#[cfg(test)]
mod tests;

pub(crate) use material::expiry;

pub use error::ProvisionError;
pub use provisioner::{Clock, Provisioner};
pub use rotation::Lifetimes;

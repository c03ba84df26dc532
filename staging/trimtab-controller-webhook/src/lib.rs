//! Webhooks: defaulting, validation and conversion of objects, the server that answers for them, and its certificates.
//!
//! Depend on the facade `trimtab-controller` instead of this crate; its paths are the stable ones.
//!
//! A program says what it does with objects of a kind ([`Defaulter`], [`Validator`], [`DeletionValidator`], [`Spoke`], or
//! [`Handler`] for everything else), gathers that in [`Webhooks`], and serves it with a [`WebhookServer`]. The API server
//! learns of it by [`Webhooks::manifests`].
//!
//! # What always holds
//!
//! - **Difference only**: of what a [`Defaulter`] returns, only what it changed reaches the object as it was sent. What its
//!   type does not know, or writes differently, stays as it was.
//! - **Identity kept**: a conversion changes labels and annotations of an object's metadata, and nothing else of it.
//! - **Trusted before used**: no serving certificate is from an authority that has not been in the bundle, and injected,
//!   for a while; except the first one, and one in place of a certificate that is of no use any more.
//!
//! # What the program needs to be allowed
//!
//! With a [`Provisioner`] that keeps certificates in a Secret: to `create` Secrets, and to `get` and `update` that one. To
//! inject: to `get` and `patch` the configurations and, for conversions, the CustomResourceDefinitions, by their names.
//! [`WebhookServer::rules`] has it, and so have the rules of a manager that the server is a part of.

mod admission;
mod authentication;
mod certificates;
mod conversion;
mod envelope;
mod error;
mod hook;
mod manifests;
mod metrics;
mod server;
mod target;
mod webhooks;

pub use admission::{
    Admitted, Defaulter, DeletionValidator, Handler, Operation, Refusal, Request, Reviewed, Validator,
};
pub use authentication::{Authenticator, Bearer};
pub use certificates::{Clock, Lifetimes, ProvisionError, Provisioner};
pub use conversion::{
    Conversion, ConversionError, Lost, Spoke, hub_round_trip, keep_in_annotation, restore_from_annotation,
    spoke_round_trip,
};
pub use error::WebhookError;
pub use hook::{FailurePolicy, Hook, rule};
pub use manifests::{Conversions, Manifests};
pub use server::{Identity, WebhookServer};
pub use target::Target;
pub use webhooks::Webhooks;

#[cfg(test)]
mod tests;

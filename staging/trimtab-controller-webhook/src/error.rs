//! What is wrong with the webhooks of a program, or with serving them.

use trimtab_controller_runtime::serving::ServeError;

use crate::certificates::ProvisionError;

/// Why webhooks cannot be served or declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// Two webhooks have this path. Give one of them another by [`Hook::at`](crate::Hook::at).
    #[error("there are two webhooks at the path {0}")]
    PathTaken(String),
    /// Two webhooks have this name. Give one of them another by [`Hook::named`](crate::Hook::named).
    #[error("there are two webhooks with the name {0}")]
    NameTaken(String),
    /// Two conversions are about the same kind.
    #[error("there are two conversions of {0}")]
    ConversionTaken(String),
    /// A conversion's spoke is of another kind than its hub, or of a version that is there already.
    #[error("{spoke} cannot be a spoke of {hub}: {why}")]
    Spoke {
        /// Version and kind of the spoke.
        spoke: String,
        /// Version and kind of the hub.
        hub: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A manifest would be refused by the API server.
    #[error("the webhook {webhook} cannot be declared: {why}")]
    Undeclarable {
        /// The webhook's name.
        webhook: String,
        /// What is wrong.
        why: String,
    },
    /// Where the API server is to find the webhooks makes no sense.
    #[error(
        "{0:?} is no address for webhooks: an address is https://HOST[:PORT][/PATH], without query or fragment"
    )]
    Url(String),
    /// Certificates cannot be had.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The listener cannot listen, or had to cut requests off.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The API server refuses a manifest.
    #[error("{what} cannot be applied: {cause}")]
    Apply {
        /// Kind and name.
        what: String,
        /// Why not.
        cause: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{what} was not applied within {patience:?}")]
    Late {
        /// Kind and name.
        what: String,
        /// How long it had.
        patience: std::time::Duration,
    },
    /// A manifest cannot be written as YAML.
    #[error("a manifest cannot be written: {0}")]
    Encode(String),
}

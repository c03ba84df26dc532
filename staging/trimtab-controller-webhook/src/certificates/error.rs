//! Why certificates cannot be made, kept or made known.

/// Why a program has no certificates of its own, or the API server does not know them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// A certificate cannot be made for these names.
    #[error("a certificate for {names} cannot be made: {cause}")]
    Make {
        /// Host names and addresses.
        names: String,
        /// Why not.
        cause: rcgen::Error,
    },
    /// Lifetimes that would leave a time without a certificate that is trusted.
    #[error(
        "authorities of {authority:#} cannot issue certificates of {serving:#} after an overlap of {overlap:#}: a third of \
         the first must be as long as the others together, and a third of the second as long as the overlap"
    )]
    Lifetimes {
        /// How long authorities last.
        authority: jiff::SignedDuration,
        /// How long serving certificates last.
        serving: jiff::SignedDuration,
        /// How long an authority is known before it issues.
        overlap: jiff::SignedDuration,
    },
    /// The clock is so far off that no certificate can be dated.
    #[error("the time {0} is no date for a certificate")]
    Time(jiff::Timestamp),
    /// The Secret is not one of ours, and is left alone. Remove it, or name another.
    #[error("the Secret {0} holds something else than certificates of webhooks; remove it, or name another")]
    Foreign(String),
    /// What was just made cannot be used, which depends on no input.
    #[error("a new certificate cannot be used: {0}")]
    Unusable(String),
    /// The Secret was written by others each time that it was to be written here.
    #[error("the Secret {0} is written by others again and again")]
    Contended(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {0:?}")]
    Late(std::time::Duration),
    /// The API server refused, or could not be reached.
    #[error("{what}: {cause}")]
    Api {
        /// What was wanted of it.
        what: String,
        /// Why not.
        cause: Box<kube::Error>,
    },
}

impl ProvisionError {
    /// Says what was wanted of the API server.
    pub(super) fn api(what: String) -> impl FnOnce(kube::Error) -> Self {
        move |cause| Self::Api {
            what,
            cause: Box::new(cause),
        }
    }
}

//! What can go wrong with serving.

use std::time::Duration;

/// Why something cannot be served, or was not served to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address makes no sense, or is in use, or is not this machine's.
    #[error(
        "cannot listen on {address:?}: {cause}; an address is host:port, or :port for all of the machine's"
    )]
    Bind {
        /// The address that was asked for.
        address: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// The TLS library refuses the configuration, which depends on no input.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A route's path has to begin with a slash.
    #[error("the path {0:?} of a route does not begin with a slash")]
    PathInvalid(String),
    /// Two routes have this path.
    #[error("there is another route with the path {0:?}")]
    PathTaken(String),
    /// Two checks of one endpoint have this name, or it is empty.
    #[error("a health check needs a name of its own, and {0:?} is none")]
    CheckName(String),
    /// Connections that had not ended when the grace was over were cut off.
    #[error("{open} connections were cut off, which had not ended {grace:?} after the stop")]
    CutOff {
        /// How many.
        open: usize,
        /// How long they had.
        grace: Duration,
    },
}

//! Why a server cannot be started.

use std::net::SocketAddr;

use trimtab_apiserver_auth::certs::CertError;
use trimtab_apiserver_storage as storage;

use crate::admission::PluginError;
use crate::allocators::InvalidRange;

/// A server that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --bind-address and --secure-port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be made, read or kept.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// Certificate, key and authority do not fit together.
    #[error("{0}")]
    Tls(String),
    /// The store cannot be used.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The range of service addresses makes no sense.
    #[error(transparent)]
    ServiceRange(#[from] InvalidRange),
    /// An admission plugin cannot be configured.
    #[error(transparent)]
    Admission(#[from] PluginError),
    /// What other servers serve cannot be followed.
    #[error("what other servers serve cannot be followed: {0}")]
    Extensions(String),
    /// What every cluster starts with cannot be written.
    #[error("the first objects cannot be written: {0}")]
    Bootstrap(String),
}

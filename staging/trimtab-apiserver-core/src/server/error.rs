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
    /// Everything is being moved into the store, and is not all there.
    #[error(
        "a migration into this store has not ended, and it is not whole: run `trimtab migrate --from {from} --to etcd` again \
         with the same --etcd-* flags, without --ahead and with nothing running on the source; it goes on where it was"
    )]
    Migrating {
        /// The data dir that it is of.
        from: String,
    },
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

//! What can go wrong when etcd is operated.

use std::path::Path;

use trimtab_apiserver_auth::certs::CertError;
use trimtab_apiserver_storage::{self as storage, backup};

use crate::bolt::SnapshotError;

/// Something that cannot be done to etcd, or to what it keeps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be done as it was asked for.
    #[error("{0}")]
    Usage(String),
    /// A file or a directory cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A snapshot is not whole.
    #[error("{path}: {source}")]
    Snapshot {
        /// The file.
        path: String,
        /// Why.
        source: SnapshotError,
    },
    /// A program does not do what it was started for.
    #[error("{program}: {why}")]
    Program {
        /// The command line.
        program: String,
        /// What it said, or why it could not be started.
        why: String,
    },
    /// A member or a store does not answer as it should.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// A backup cannot be made or restored.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// A key cannot be written.
    #[error("{key}: {source}")]
    Key {
        /// The key, or the first of those that were to be written at once.
        key: String,
        /// Why.
        source: storage::Error,
    },
    /// Something did not come about in time.
    #[error("{0}")]
    Late(String),
    /// What is there is not what was there.
    #[error("{0}")]
    Differs(String),
}

/// The result of operating etcd.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }

    pub(crate) fn snapshot(path: &Path) -> impl FnOnce(SnapshotError) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::Snapshot { path, source }
    }
}

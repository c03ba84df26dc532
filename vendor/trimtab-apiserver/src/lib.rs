//! An embeddable Kubernetes API server.
//!
//! ```no_run
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use trimtab_apiserver::ApiServer;
//! use trimtab_apiserver::storage::{Config, EmbeddedStore};
//!
//! let store = Arc::new(EmbeddedStore::open("data", Config::default())?);
//! let server = ApiServer::builder(store).bind("127.0.0.1:0".parse()?).start().await?;
//! std::fs::write("admin.kubeconfig", server.kubeconfig())?;
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A server without an address answers in this process alone: [`ApiServer::service`] is what a client is given as
//! its transport.

#[doc(inline)]
pub use trimtab_apiserver_core::{ApiServer, ApiService, StartError};

/// Which admission plugins are on.
pub mod admission {
    #[doc(inline)]
    pub use trimtab_apiserver_core::admission::{PluginError, Plugins};
}

/// Authentication and authorization.
pub mod auth {
    #[doc(inline)]
    pub use trimtab_apiserver_auth::{bootstrap_token, certs, rbac, service_account, tokens, user, x509};
    #[doc(inline)]
    pub use trimtab_apiserver_core::auth::{FrontProxy, Mode};
}

/// The audit log.
#[doc(inline)]
pub use trimtab_apiserver_core::audit;

/// Backups of what a server stores, as files.
#[doc(inline)]
pub use trimtab_apiserver_core::backup;

/// What binaries around a server share.
#[doc(inline)]
pub use trimtab_apiserver_core::cli;

/// Operating etcd: how it is, snapshots, and the change between http and https.
pub mod etcd {
    #[doc(inline)]
    pub use trimtab_apiserver_etcd::{
        Access, Ended, Error, Result, backup, bolt, description, inventory, options, plan, status, switch,
    };
}

/// What a server allows its clients.
#[doc(inline)]
pub use trimtab_apiserver_core::limits;

/// The command line of an API server.
#[doc(inline)]
pub use trimtab_apiserver_core::options;

/// Built-in kinds, and what describes a kind.
pub mod kinds {
    #[doc(inline)]
    pub use trimtab_apiserver_kinds::{builtin, resource, strategy};
}

/// The versioned store behind a server.
pub mod storage {
    #[doc(inline)]
    pub use trimtab_apiserver_storage::{
        Compare, Config, DiskUse, EmbeddedStore, Error, EtcdAdmin, EtcdAlarm, EtcdConfig, EtcdCredentials,
        EtcdMember, EtcdSnapshot, EtcdStatus, EtcdStore, EtcdTls, Event, EventKind, Figures, KeyValue,
        MemoryStore, Op, RangeRequest, RangeResponse, Result, Revision, Snapshot, SnapshotEntry, Store, Txn,
        TxnResponse, WatchBatch, WatchRequest, WatchStream, backup,
    };
}

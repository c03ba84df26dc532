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

/// The kit for writing a server of a part of the API.
///
/// ```no_run
/// # use serde_json::{Value, json};
/// # use std::sync::Arc;
/// use trimtab_apiserver::extension::{ApiError, Asked, Computed, Definition, Delegation, ExtensionServer};
/// use trimtab_apiserver::storage::{Config, EmbeddedStore};
///
/// /// The time, whenever somebody asks.
/// #[derive(Debug)]
/// struct Clock;
///
/// #[async_trait::async_trait]
/// impl Computed for Clock {
///     type Object = Value;
///
///     async fn list(&self, _: &Asked) -> Result<Vec<Value>, ApiError> {
///         let seconds = std::time::UNIX_EPOCH.elapsed().map_err(ApiError::internal)?.as_secs();
///         Ok(vec![json!({"metadata": {"name": "now"}, "seconds": seconds})])
///     }
/// }
///
/// # async fn start(times: Value, notes: Value) -> Result<(), Box<dyn std::error::Error>> {
/// // `times` and `notes` are CustomResourceDefinitions, as kube's derive makes them.
/// let server = ExtensionServer::builder(Delegation::in_cluster()?)
///     .computed(Definition::of(&times)?, Clock)
///     .stored(Definition::of(&notes)?, Arc::new(EmbeddedStore::open("notes", Config::default())?))
///     .service("default", "clock")
///     .bind("0.0.0.0:6443".parse()?)
///     .start()
///     .await?;
/// println!("{}", server.api_services(443).ok_or("it has no Service")?); // for kubectl apply
/// # server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub mod extension {
    #[doc(inline)]
    pub use trimtab_apiserver_aggregation::kit::{
        Admission, ApiError, Asked, Attributes, Builder, Change, Changes, Computed, Convert, Definition,
        DefinitionError, Delegation, DelegationError, ExtensionServer, Kept, Name, Operation, ServerError,
        Storage, StorageError, Trusted,
    };
}

/// Which admission plugins are on.
pub mod admission {
    #[doc(inline)]
    pub use trimtab_apiserver_core::admission::{PluginError, Plugins};
}

/// Other servers that serve a part of the API through this one.
pub mod aggregation {
    #[doc(inline)]
    pub use trimtab_apiserver_aggregation::options::{AggregatorError, AggregatorOptions};
    #[doc(inline)]
    pub use trimtab_apiserver_aggregation::{Aggregator, Config};
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

/// What a store holds, in figures.
#[doc(inline)]
pub use trimtab_apiserver_core::status;

/// Operating etcd: how it is, snapshots, the change between http and https, and the way from and to the embedded store.
pub mod etcd {
    #[doc(inline)]
    pub use trimtab_apiserver_etcd::{
        Access, Ended, Error, Result, backup, bolt, description, inventory, migrate, options, plan, status,
        switch,
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

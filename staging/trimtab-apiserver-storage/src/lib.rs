//! The versioned key-value store behind the API server: one contract, several backends.
//!
//! Depend on the facade `trimtab-apiserver` instead of this crate; its paths are the stable ones.

pub mod backup;
pub mod config;
pub mod contract;
pub mod embedded;
pub mod etcd;
pub mod memory;

mod draft;
mod keeper;
mod shared;
mod state;

pub use config::Config;
pub use contract::{
    Compare, DiskUse, Error, Event, EventKind, Figures, KeyValue, MIGRATION, Op, RangeRequest, RangeResponse,
    Result, Revision, SYNC_MILLIS, Snapshot, SnapshotEntry, Store, Txn, TxnResponse, WatchBatch,
    WatchRequest, WatchStream,
};
pub use embedded::EmbeddedStore;
pub use etcd::{
    EtcdAdmin, EtcdAlarm, EtcdConfig, EtcdCredentials, EtcdMember, EtcdSnapshot, EtcdStatus, EtcdStore,
    EtcdTls,
};
pub use memory::MemoryStore;

//! What the parts share: transactions, stores on simulated disks, and what must hold of what they answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use trimtab_apiserver_storage::{
    Config, EmbeddedStore, Op, RangeRequest, RangeResponse, Result, Revision, Store, Txn, WatchBatch,
    WatchRequest,
};

use crate::clauses;
use crate::disk::SimDisk;
use crate::model::Model;

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ttl: None,
    }
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }
}

pub(crate) fn txn(ops: impl IntoIterator<Item = Op>) -> Txn {
    Txn {
        success: ops.into_iter().collect(),
        ..Txn::default()
    }
}

/// Nothing is compacted but by the test, and files are shortened at once.
pub(crate) fn config() -> Config {
    Config {
        compaction_window: None,
        defragment_from: 256 << 10,
        ..Config::default()
    }
}

/// A moment, since a store wants to know one.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn open(disk: &SimDisk) -> Result<EmbeddedStore> {
    EmbeddedStore::on_disk("disk", Arc::new(disk.clone()), config(), now())
}

pub(crate) async fn all(store: &dyn Store) -> RangeResponse {
    store
        .range(RangeRequest::prefix(""))
        .await
        .expect("reads never fail")
}

/// A number from the environment, or the usual one.
pub(crate) fn number(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, and should be a number"))
    })
}

/// A runtime for one store after the other.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime")
}

/// Everything that a watch has to say by now.
pub(crate) async fn watched(store: &dyn Store, from: Revision) -> Vec<WatchBatch> {
    let watch = store.watch(WatchRequest::prefix("").from(from)).await;
    let mut watch = watch.expect("watches");
    let mut batches = Vec::new();
    while let Some(batch) = watch.next().now_or_never() {
        batches.push(batch.expect("goes on").expect("no error"));
    }
    batches
}

/// What is there, and what watches say, is what the model says, which has been compacted as the store has.
pub(crate) async fn agrees(store: &dyn Store, model: &Model) -> Result<(), String> {
    clauses::durable(model, &all(store).await)?;
    let from = model.oldest;
    let batches = watched(store, from).await;
    clauses::ordered(&batches)?;
    clauses::unique(&batches)?;
    clauses::atomic(&batches)?;
    clauses::reliable(model, b"", from, &batches)?;
    let last = batches
        .last()
        .map_or(model.oldest.max(1) - 1, |batch| batch.revision);
    let told = model
        .events(b"", from, model.revision())
        .last()
        .map(|e| e.kv.mod_revision);
    if told.is_some_and(|told| told > last) {
        return Err(format!(
            "Reliable: the watch ends at {last}, and there is a change at {told:?}"
        ));
    }
    Ok(())
}

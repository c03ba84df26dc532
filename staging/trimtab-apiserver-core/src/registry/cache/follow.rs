//! The task that keeps a cache up with the store: a range to begin with, then one watch, taken up again where it was
//! lost. It ends with the cache, with the store, or with the resource.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch::Receiver;
use trimtab_apiserver_storage::{Error, RangeRequest, Revision, Store, WatchRequest, WatchStream};

use super::Cache;
use super::change::Arrived;
use crate::registry::ResourceTable;
use crate::registry::item::Item;

/// How many objects are taken in before others get a turn.
const LOAD_AT_ONCE: usize = 500;
/// How long after a failure it is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Why following came to an end.
enum Stop {
    /// There is nothing to follow any more, or nobody for whom.
    Over,
    /// What was missed can be had no more.
    Missed,
    /// The store failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Compacted { .. } => Self::Missed,
            Error::Closed => Self::Over,
            other => Self::Failed(other),
        }
    }
}

/// Ends the cache's watches when the task ends, however that is.
struct Ending(Weak<Cache>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(cache) = self.0.upgrade() {
            cache.unload();
        }
    }
}

pub(super) async fn follow(cache: Weak<Cache>, store: Weak<dyn Store>, table: Arc<ResourceTable>) {
    let _ending = Ending(cache.clone());
    let mut served = table.changes();
    let mut wait = RETRY.0;
    loop {
        let stopped = match begin(&cache, &store).await {
            Ok(()) => keep_up(&cache, &store, &table, &mut served, &mut wait).await,
            Err(stopped) => stopped,
        };
        match stopped {
            Stop::Over => return,
            Stop::Missed => {}
            Stop::Failed(error) => tracing::warn!(%error, "cannot follow the store; trying again"),
        }
        let Some(cache) = cache.upgrade() else {
            return;
        };
        cache.unload();
        drop(cache);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Reads what there is.
async fn begin(cache: &Weak<Cache>, store: &Weak<dyn Store>) -> Result<(), Stop> {
    let prefix = cache.upgrade().ok_or(Stop::Over)?.prefix.clone();
    let request = RangeRequest::prefix(prefix);
    let response = store.upgrade().ok_or(Stop::Over)?.range(request).await?;
    let mut items: BTreeMap<Bytes, Arc<Item>> = BTreeMap::new();
    for (i, kv) in response.kvs.into_iter().enumerate() {
        items.insert(kv.key.clone(), Arc::new(Item::new(kv)));
        if (i + 1).is_multiple_of(LOAD_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    cache.upgrade().ok_or(Stop::Over)?.load(items, response.revision);
    Ok(())
}

/// Follows the store's watches until that cannot go on.
async fn keep_up(
    cache: &Weak<Cache>,
    store: &Weak<dyn Store>,
    table: &ResourceTable,
    served: &mut Receiver<u64>,
    wait: &mut Duration,
) -> Stop {
    loop {
        match watch(cache, store, table, served, wait).await {
            // It is taken up again after the last change that came.
            Stop::Failed(error) => {
                tracing::debug!(%error, "a watch of the store was lost");
                tokio::time::sleep(*wait).await;
                *wait = (*wait * 2).min(RETRY.1);
            }
            other => return other,
        }
    }
}

async fn watch(
    cache: &Weak<Cache>,
    store: &Weak<dyn Store>,
    table: &ResourceTable,
    served: &mut Receiver<u64>,
    wait: &mut Duration,
) -> Stop {
    let Some((prefix, revision)) = position(cache) else {
        return Stop::Over;
    };
    let request = WatchRequest::prefix(prefix).from(revision + 1);
    let mut stream = match open(store, request).await {
        Ok(stream) => stream,
        Err(stop) => return stop,
    };
    loop {
        tokio::select! {
            changed = served.changed() => {
                let Some(cache) = cache.upgrade() else {
                    return Stop::Over;
                };
                let is_served = table.snapshot().iter().any(|resource| cache.is_of(resource));
                if changed.is_err() || !is_served {
                    return Stop::Over;
                }
                cache.poke();
            }
            batch = stream.next() => {
                let batch = match batch {
                    Some(Ok(batch)) => batch,
                    Some(Err(error)) => return error.into(),
                    None => return Stop::Failed(Error::Io("the watch ended".to_owned())),
                };
                let arrived: Vec<Arrived> = batch.events.into_iter().map(Arrived::from).collect();
                let Some(cache) = cache.upgrade() else {
                    return Stop::Over;
                };
                cache.apply(arrived, batch.revision);
                *wait = RETRY.0;
            }
        }
    }
}

/// Opens a watch. The store is not kept by it: a store that nobody else has is to end.
async fn open(store: &Weak<dyn Store>, request: WatchRequest) -> Result<WatchStream, Stop> {
    let store = store.upgrade().ok_or(Stop::Over)?;
    Ok(store.watch(request).await?)
}

fn position(cache: &Weak<Cache>) -> Option<(Bytes, Revision)> {
    let cache = cache.upgrade()?;
    Some((cache.prefix.clone(), cache.revision()?))
}

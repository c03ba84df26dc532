//! The task that keeps a cache up with the store: a range to begin with, then one watch, taken up again where it was
//! lost. It ends with the cache, with the store, or with the resource.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use trimtab_apiserver_storage::{Error, RangeRequest, Store, WatchRequest, WatchStream};

use super::Cache;
use super::change::Arrived;
use crate::changes::Changes;
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
    let mut follower = Follower {
        served: table.changes(),
        cache,
        store,
        table,
        wait: RETRY.0,
    };
    loop {
        let stopped = match follower.begin().await {
            Ok(()) => follower.keep_up().await,
            Err(stopped) => stopped,
        };
        match stopped {
            Stop::Over => return,
            Stop::Missed => {}
            Stop::Failed(error) => tracing::warn!(%error, "cannot follow the store; trying again"),
        }
        let Ok(cache) = follower.cache() else {
            return;
        };
        cache.unload();
        drop(cache);
        follower.rest().await;
    }
}

/// What following takes. Neither the cache nor the store is kept by it: those that nobody else has are to end.
struct Follower {
    cache: Weak<Cache>,
    store: Weak<dyn Store>,
    table: Arc<ResourceTable>,
    /// Changes of what is served.
    served: Changes,
    /// How long the next rest takes.
    wait: Duration,
}

impl Follower {
    fn cache(&self) -> Result<Arc<Cache>, Stop> {
        self.cache.upgrade().ok_or(Stop::Over)
    }

    fn store(&self) -> Result<Arc<dyn Store>, Stop> {
        self.store.upgrade().ok_or(Stop::Over)
    }

    /// Waits after a failure, longer each time until something has come.
    async fn rest(&mut self) {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY.1);
    }

    /// Reads what there is.
    async fn begin(&self) -> Result<(), Stop> {
        let request = RangeRequest::prefix(self.cache()?.prefix.clone());
        let response = self.store()?.range(request).await?;
        let mut items: BTreeMap<Bytes, Arc<Item>> = BTreeMap::new();
        for (i, kv) in response.kvs.into_iter().enumerate() {
            items.insert(kv.key.clone(), Arc::new(Item::new(kv)));
            if (i + 1).is_multiple_of(LOAD_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        self.cache()?.load(items, response.revision);
        Ok(())
    }

    /// Follows the store's watches until that cannot go on.
    async fn keep_up(&mut self) -> Stop {
        loop {
            match self.watch().await {
                Ok(never) => match never {},
                // It is taken up again after the last change that came.
                Err(Stop::Failed(error)) => {
                    tracing::debug!(%error, "a watch of the store was lost");
                    self.rest().await;
                }
                Err(other) => return other,
            }
        }
    }

    async fn watch(&mut self) -> Result<Infallible, Stop> {
        let mut stream = self.open().await?;
        loop {
            tokio::select! {
                biased;
                () = self.served.changed() => {
                    let cache = self.cache()?;
                    let is_served = self.table.snapshot().iter().any(|resource| cache.is_of(resource));
                    if !is_served {
                        return Err(Stop::Over);
                    }
                    cache.poke();
                }
                batch = stream.next() => {
                    let ended = || Stop::Failed(Error::Io("the watch ended".to_owned()));
                    let batch = batch.ok_or_else(ended)??;
                    let arrived: Vec<Arrived> = batch.events.into_iter().map(Arrived::from).collect();
                    self.cache()?.apply(arrived, batch.revision);
                    self.wait = RETRY.0;
                }
            }
        }
    }

    /// Watches from where the cache is.
    async fn open(&self) -> Result<WatchStream, Stop> {
        let cache = self.cache()?;
        let revision = cache.revision().ok_or(Stop::Over)?;
        let request = WatchRequest::prefix(cache.prefix.clone()).from(revision + 1);
        drop(cache);
        Ok(self.store()?.watch(request).await?)
    }
}

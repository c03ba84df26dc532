//! What a turn has written and caches may not show yet: the reason for which a key waits after its turn.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use trimtab_apimachinery_meta::{ObjectKey, finalizers};
use trimtab_client_cache::barrier::WriteBarrier;
use trimtab_client_cache::store::{Store, WaitError};
use trimtab_client_cache::{Cached, key_of};

use crate::subject::Reconciled;

/// The writes of one turn.
#[derive(Default)]
pub(crate) struct Unseen {
    writes: WriteBarrier,
    released: Option<Box<dyn Settling>>,
}

/// What is seen in caches at some time.
trait Settling: Send + Sync {
    fn seen(&self) -> BoxFuture<'_, Result<(), WaitError>>;
}

/// A finalizer that was removed. The last one takes the object with it, in a deletion whose version is not told to
/// whoever removed it.
struct Released<K> {
    store: Store<K>,
    key: ObjectKey,
    uid: Option<String>,
    finalizer: String,
}

impl Unseen {
    pub(super) fn released<K: Reconciled>(&mut self, store: &Store<K>, object: &K, finalizer: &str) {
        self.released = Some(Box::new(Released {
            store: store.clone(),
            key: key_of(object),
            uid: object.meta().uid.clone(),
            finalizer: finalizer.to_owned(),
        }));
    }

    pub(super) fn wrote<T: Reconciled>(&mut self, store: &Store<T>, answer: &T) {
        self.writes.wrote(store, answer);
    }

    pub(super) fn deleted<T: Reconciled>(&mut self, store: &Store<T>, key: ObjectKey, uid: String) {
        self.writes.deleted(store, key, uid);
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_seen(&mut self) -> bool {
        self.released.is_none() && self.writes.is_passed()
    }

    /// The version of the last write that is seen by now and whose object is gone nevertheless, so that perhaps nobody was
    /// told of its end.
    pub(crate) fn lost(&self) -> Option<String> {
        self.writes.lost().map(str::to_owned)
    }

    /// Waits until the caches show all of it, at most for this long.
    pub(crate) async fn seen(&mut self, patience: Duration) -> Result<(), WaitError> {
        let all = async {
            if let Some(released) = &self.released {
                released.seen().await?;
            }
            self.writes.passed(patience).await
        };
        tokio::time::timeout(patience, all)
            .await
            .unwrap_or_else(|_| Err(WaitError::TimedOut(String::new())))
    }
}

impl<K: Reconciled> Settling for Released<K> {
    fn seen(&self) -> BoxFuture<'_, Result<(), WaitError>> {
        let without = |stored: Option<&Cached<K>>| {
            let still = stored.is_some_and(|object| {
                let meta = object.meta().unwrap_or_default();
                meta.uid == self.uid && finalizers::contains(&meta, &self.finalizer)
            });
            (!still).then_some(())
        };
        self.store.wait_for(&self.key, without).boxed()
    }
}

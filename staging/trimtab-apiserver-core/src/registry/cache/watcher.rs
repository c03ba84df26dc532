//! What one watcher has not yet been given.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use trimtab_apiserver_storage::Revision;

use super::{Cache, Change};

/// A watcher that leaves more changes than this lying is cut off: it is to come again, from where it is.
pub(super) const MOST_WAITING: usize = 10_000;

/// What becomes of a change that a watcher is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing else waits: the watcher has to be woken.
    First,
    /// It waits behind others, or the watcher wants no more.
    Behind,
    /// Too much waits: the watcher has been ended, and has to be woken to see it.
    TooMany,
}

/// What the cache and one watch share.
#[derive(Debug)]
pub(super) struct Watcher {
    /// A collection's prefix, or an object's key.
    scope: Bytes,
    /// Changes up to this revision are not wanted.
    after: Revision,
    slot: Mutex<Slot>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Slot {
    waiting: VecDeque<Arc<Change>>,
    /// It should look around.
    poked: bool,
    /// Nothing more comes.
    ended: bool,
}

impl Watcher {
    pub(super) fn new(scope: Bytes, after: Revision) -> Self {
        Self {
            scope,
            after,
            slot: Mutex::default(),
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn scope(&self) -> &Bytes {
        &self.scope
    }

    pub(super) fn after(&self) -> Revision {
        self.after
    }

    /// Whether a change is one of those that it watches.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let is_in = if self.scope.ends_with(b"/") {
            change.key.starts_with(&self.scope)
        } else {
            change.key == self.scope
        };
        is_in && change.revision > self.after
    }

    /// Adds a change.
    pub(super) fn push(&self, change: &Arc<Change>) -> Pushed {
        let mut slot = self.slot.lock();
        if slot.ended {
            return Pushed::Behind;
        }
        if slot.waiting.len() >= MOST_WAITING {
            // What is left out of the middle would be worse than an end.
            slot.ended = true;
            slot.waiting = VecDeque::new();
            return Pushed::TooMany;
        }
        slot.waiting.push_back(change.clone());
        if slot.waiting.len() == 1 {
            Pushed::First
        } else {
            Pushed::Behind
        }
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn poke(&self) {
        self.slot.lock().poked = true;
        self.wake();
    }

    /// Nothing more comes after what is waiting.
    pub(super) fn end(&self) {
        self.slot.lock().ended = true;
        self.wake();
    }
}

/// What a watch wakes up for.
#[derive(Debug)]
pub(crate) enum Woken {
    /// Changes, in their order.
    Changes(VecDeque<Arc<Change>>),
    /// What is served may have changed.
    Poked,
    /// Nothing more comes.
    Ended,
}

/// A watch of the cache. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct CacheWatch {
    cache: Arc<Cache>,
    watcher: Arc<Watcher>,
}

impl CacheWatch {
    pub(super) fn new(cache: Arc<Cache>, watcher: Arc<Watcher>) -> Self {
        Self { cache, watcher }
    }

    /// Waits for something to happen. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Woken {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Woken> {
        self.watcher.waker.register(cx.waker());
        let mut slot = self.watcher.slot.lock();
        if !slot.waiting.is_empty() {
            return Poll::Ready(Woken::Changes(std::mem::take(&mut slot.waiting)));
        }
        if slot.ended {
            return Poll::Ready(Woken::Ended);
        }
        if std::mem::take(&mut slot.poked) {
            return Poll::Ready(Woken::Poked);
        }
        Poll::Pending
    }

    /// How far the cache has come, if all changes up to there have been handed out; otherwise the changes that wait.
    pub(crate) fn caught_up(&mut self) -> Result<Option<Revision>, VecDeque<Arc<Change>>> {
        // In this order: what comes in between is after that revision.
        let reached = self.cache.revision();
        let waiting = std::mem::take(&mut self.watcher.slot.lock().waiting);
        if waiting.is_empty() {
            Ok(reached)
        } else {
            Err(waiting)
        }
    }

    /// Waits until the cache has come as far as this, or has nothing to show. Cancel-safe.
    pub(crate) fn reached(&self, revision: Revision) -> impl Future<Output = ()> + Send + use<> {
        let cache = self.cache.clone();
        async move {
            let is_enough = |reached: Option<Revision>| reached.is_none_or(|reached| reached >= revision);
            cache.revision_like(is_enough).await;
        }
    }
}

impl Drop for CacheWatch {
    fn drop(&mut self) {
        self.cache.forget(&self.watcher);
    }
}

//! What a cache tells of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use trimtab_apimachinery_meta::GroupResource;
use trimtab_apiserver_storage::Revision;

use super::{Cache, Caches, MOST_CHANGES};

/// What happened to a cache so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) initializations: AtomicU64,
    pub(super) initial: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) dispatched: AtomicU64,
    pub(super) terminated: AtomicU64,
}

/// A cache's figures at a moment.
#[derive(Clone, Debug)]
pub(crate) struct CacheFigures {
    pub(crate) of: GroupResource,
    /// Times that it began anew.
    pub(crate) initializations: u64,
    /// Objects that it began with, all times together.
    pub(crate) initial: u64,
    /// Changes that came from the store.
    pub(crate) received: u64,
    /// Changes that were handed to watchers, once for each.
    pub(crate) dispatched: u64,
    /// Watchers that left too much lying.
    pub(crate) terminated: u64,
    /// How far it has come.
    pub(crate) revision: Option<Revision>,
    /// Changes that it may keep.
    pub(crate) capacity: u64,
    /// How many objects it has, and how many bytes they are.
    pub(crate) size: Option<(u64, u64)>,
}

impl Counts {
    pub(super) fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl Caches {
    /// The figures of all, in the order of their names.
    pub(crate) fn figures(&self) -> Vec<CacheFigures> {
        let by_prefix = self.by_prefix.lock();
        let mut all: Vec<CacheFigures> = by_prefix.values().map(|cache| cache.figures()).collect();
        drop(by_prefix);
        all.sort_by_cached_key(|figures| (figures.of.group.clone(), figures.of.resource.clone()));
        all
    }
}

impl Cache {
    fn figures(&self) -> CacheFigures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheFigures {
            of: self.storage.1.clone(),
            initializations: count(&self.counts.initializations),
            initial: count(&self.counts.initial),
            received: count(&self.counts.received),
            dispatched: count(&self.counts.dispatched),
            terminated: count(&self.counts.terminated),
            revision: self.revision(),
            capacity: MOST_CHANGES as u64,
            size: self.size(),
        }
    }
}

//! What a cache tells of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trimtab_apimachinery_meta::GroupResource;
use trimtab_apiserver_storage::Revision;

use super::{Cache, Caches, MOST_CHANGES};
use crate::metrics::buckets::Buckets;

/// What happened to a cache so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) initializations: AtomicU64,
    pub(super) initial: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) dispatched: AtomicU64,
    pub(super) terminated: AtomicU64,
    /// Lists that it answered, and those that the store did.
    lists: [Lists; 2],
    /// How long readers have waited for it to come far enough.
    pub(super) waits: Waits,
}

/// Who has answered a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListedBy {
    Cache,
    Store,
}

#[derive(Debug, Default)]
struct Lists {
    count: AtomicU64,
    fetched: AtomicU64,
    returned: AtomicU64,
}

/// What lists have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListFigures {
    pub(crate) count: u64,
    /// Objects that were looked at.
    pub(crate) fetched: u64,
    /// Objects that were in the answers.
    pub(crate) returned: u64,
}

/// Upper bounds in nanoseconds; kube-apiserver's.
const WAITS: [u64; 13] = [
    5_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    400_000_000,
    600_000_000,
    800_000_000,
    1_000_000_000,
    1_250_000_000,
    1_500_000_000,
    2_000_000_000,
    3_000_000_000,
];

/// Times that readers have waited.
#[derive(Clone, Debug)]
pub(crate) struct Waits(pub(crate) Arc<Buckets>);

impl Default for Waits {
    fn default() -> Self {
        Self(Arc::new(Buckets::new(&WAITS)))
    }
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
    /// Lists that it answered.
    pub(crate) listed: ListFigures,
    /// Lists that the store answered.
    pub(crate) store_listed: ListFigures,
    pub(crate) waits: Waits,
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
    /// Counts a list that looked at so many objects and answered with so many.
    pub(crate) fn listed(&self, by: ListedBy, fetched: usize, returned: usize) {
        let lists = &self.counts.lists[by as usize];
        Counts::add(&lists.count, 1);
        Counts::add(&lists.fetched, fetched);
        Counts::add(&lists.returned, returned);
    }

    fn figures(&self) -> CacheFigures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let lists = |by: ListedBy| {
            let lists = &self.counts.lists[by as usize];
            ListFigures {
                count: count(&lists.count),
                fetched: count(&lists.fetched),
                returned: count(&lists.returned),
            }
        };
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
            listed: lists(ListedBy::Cache),
            store_listed: lists(ListedBy::Store),
            waits: self.counts.waits.clone(),
        }
    }
}

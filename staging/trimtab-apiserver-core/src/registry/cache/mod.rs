//! The watch cache: what lists and watches read instead of the store.
//!
//! For each resource that somebody lists or watches there is one [`Cache`], which follows the store by one watch. It
//! holds the resource's objects as the store holds them (their bytes are the store's own where the store is in this
//! process), with the places of their parts, and the last changes. Watchers get pointers to changes.
//!
//! # What always holds
//!
//! - **Consistent**: a snapshot is the collection at one revision, and that is at least the one that was waited for.
//! - **Ordered**, **Unique**, **Reliable**: a watcher gets every change of its scope after its start, in order and once;
//!   if it cannot, its watch ends.
//! - **Bounded**: of changes that have happened only so many are kept, and a watcher that leaves too many lying is cut
//!   off.
//! - **Optional**: a cache that is not there, or not there yet, is never an error: readers go to the store instead.

mod change;
mod figures;
mod follow;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use trimtab_apimachinery_meta::GroupResource;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Revision, Store};

use self::change::Arrived;
pub(crate) use self::change::{Change, Sight, encode, line, partial_line};
use self::figures::Counts;
pub(crate) use self::figures::{CacheFigures, ListFigures, ListedBy};
pub(crate) use self::watcher::{CacheWatch, Woken};
use self::watcher::{Pushed, Watcher};
use super::item::Item;
use super::{ResourceTable, keys};

/// How long a reader waits for the cache to come as far as it needs; as kube-apiserver.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How often the store is asked anew how far it is while somebody waits; as kube-apiserver.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// At most this many changes that have happened are kept …
const MOST_CHANGES: usize = 4096;
/// … and about this many bytes of them.
const MOST_BYTES: usize = 8 << 20;

/// The caches of a server.
#[derive(Debug)]
pub(crate) struct Caches {
    store: Arc<dyn Store>,
    table: Arc<ResourceTable>,
    by_prefix: Mutex<HashMap<String, Arc<Cache>>>,
}

impl Caches {
    pub(crate) fn new(store: Arc<dyn Store>, table: Arc<ResourceTable>) -> Self {
        Self {
            store,
            table,
            by_prefix: Mutex::default(),
        }
    }

    /// The cache of a resource, begun if there is none. Resources that are stored in the same place share it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: following the store is a task of it.
    pub(crate) fn of(&self, resource: &Resource) -> Arc<Cache> {
        let prefix = keys::resource_prefix(resource);
        let mut by_prefix = self.by_prefix.lock();
        if let Some(cache) = by_prefix.get(&prefix).filter(|cache| !cache.has_ended()) {
            return cache.clone();
        }
        by_prefix.retain(|_, cache| !cache.has_ended());
        let cache = Cache::start(resource, prefix.clone().into(), &self.store, &self.table);
        by_prefix.insert(prefix, cache.clone());
        cache
    }
}

impl Caches {
    /// The cache of a resource, if there is one.
    pub(crate) fn existing(&self, resource: &Resource) -> Option<Arc<Cache>> {
        let prefix = keys::resource_prefix(resource);
        self.by_prefix.lock().get(&prefix).cloned()
    }
}

/// The objects of one resource, and their last changes.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Where its objects are, as resources say it …
    storage: (bool, GroupResource),
    /// … and what their keys begin with.
    prefix: Bytes,
    inner: RwLock<Inner>,
    /// It has come further, or has nothing to show any more. Who waits longest is woken first.
    advanced: Notify,
    follower: Mutex<Option<JoinHandle<()>>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    items: BTreeMap<Bytes, Arc<Item>>,
    /// What they hold, in bytes.
    bytes: usize,
    /// Everything up to here is in it; `None` while it has nothing to show.
    revision: Option<Revision>,
    /// The items have been the same since this revision, at least.
    changed: Revision,
    /// The last changes, oldest first.
    recent: VecDeque<Arc<Change>>,
    /// What the changes hold, in bytes.
    recent_bytes: usize,
    /// Every change after this revision is among the last ones.
    complete_after: Revision,
    /// Who watches, by what: a collection's prefix, or an object's key.
    watchers: HashMap<Bytes, Vec<Arc<Watcher>>>,
}

/// A part of a collection at one revision.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) items: Vec<Arc<Item>>,
    /// How many there are, whatever the limit.
    pub(crate) count: usize,
    pub(crate) revision: Revision,
}

impl Cache {
    fn start(
        resource: &Resource,
        prefix: Bytes,
        store: &Arc<dyn Store>,
        table: &Arc<ResourceTable>,
    ) -> Arc<Self> {
        let cache = Arc::new(Self {
            storage: (resource.custom, resource.storage.clone()),
            prefix,
            inner: RwLock::default(),
            advanced: Notify::new(),
            follower: Mutex::default(),
            counts: Counts::default(),
        });
        let task = follow::follow(Arc::downgrade(&cache), Arc::downgrade(store), table.clone());
        *cache.follower.lock() = Some(tokio::spawn(task));
        cache
    }

    /// Whether a resource's objects are those that it holds.
    fn is_of(&self, resource: &Resource) -> bool {
        (resource.custom, &resource.storage) == (self.storage.0, &self.storage.1)
    }

    fn has_ended(&self) -> bool {
        self.follower.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How far it has come; `None` while it has nothing to show.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.inner.read().revision
    }

    /// How many objects it has, and how many bytes they are; `None` while it has nothing to show.
    pub(crate) fn size(&self) -> Option<(u64, u64)> {
        let inner = self.inner.read();
        inner.revision?;
        Some((inner.items.len() as u64, inner.bytes as u64))
    }

    /// Waits until it has something to show; answers whether it has.
    pub(crate) async fn ready(&self) -> bool {
        let waited = timeout(PATIENCE, self.revision_like(|reached| reached.is_some()));
        waited.await.is_ok()
    }

    /// Waits until everything up to `revision` is in it; answers whether it is, as far as one was ready to wait.
    ///
    /// Cancel-safe.
    pub(crate) async fn reach(&self, store: &dyn Store, revision: Revision) -> bool {
        let is_there = |reached: Option<Revision>| reached.is_some_and(|reached| reached >= revision);
        if is_there(self.revision()) {
            self.counts.waits.0.add(0);
            return true;
        }
        let begun = Instant::now();
        let is_in = self.wait_to_reach(store, is_there).await;
        self.counts.waits.0.took(begun.elapsed());
        is_in
    }

    async fn wait_to_reach(&self, store: &dyn Store, is_there: impl Fn(Option<Revision>) -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // Where that fails the store may still tell of itself.
            if let Err(error) = store.request_progress().await {
                tracing::debug!(%error, "cannot ask the store how far it is");
            }
            let next = (Instant::now() + ASK_EVERY).min(end);
            if timeout_at(next, self.revision_like(&is_there)).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Waits until it has come so far.
    async fn revision_like(&self, is_enough: impl Fn(Option<Revision>) -> bool) {
        loop {
            let advanced = self.advanced.notified();
            if is_enough(self.revision()) {
                return;
            }
            advanced.await;
        }
    }

    /// The objects in a range, at most `limit` of them (0 for all): as far as it has come, or as of the revision `at` if
    /// they have not changed since.
    pub(crate) fn snapshot(
        &self,
        start: &[u8],
        end: &Bound<Bytes>,
        limit: usize,
        at: Option<Revision>,
    ) -> Option<Snapshot> {
        let inner = self.inner.read();
        let reached = inner.revision?;
        let revision = at.unwrap_or(reached);
        if revision < inner.changed || revision > reached {
            return None;
        }
        let mut snapshot = Snapshot {
            items: Vec::new(),
            count: 0,
            revision,
        };
        let end = end.as_ref().map(|b| &b[..]);
        if matches!(end, Bound::Included(end) | Bound::Excluded(end) if start > end) {
            return Some(snapshot);
        }
        for item in inner.items.range::<[u8], _>((Bound::Included(start), end)) {
            snapshot.count += 1;
            if limit == 0 || snapshot.count <= limit {
                snapshot.items.push(item.1.clone());
            }
        }
        Some(snapshot)
    }

    /// Watches a scope (a collection's prefix, or an object's key) from after `revision`. `None` if not all changes since
    /// are there.
    pub(crate) fn watch(self: &Arc<Self>, scope: Bytes, revision: Revision) -> Option<CacheWatch> {
        let mut inner = self.inner.write();
        inner.revision?;
        if revision < inner.complete_after {
            return None;
        }
        let watcher = Arc::new(Watcher::new(scope, revision));
        for change in &inner.recent {
            if watcher.wants(change) {
                watcher.push(change);
            }
        }
        let scope = watcher.scope().clone();
        inner.watchers.entry(scope).or_default().push(watcher.clone());
        Some(CacheWatch::new(self.clone(), watcher))
    }

    /// How many watch it.
    #[cfg(test)]
    pub(crate) fn watchers(&self) -> usize {
        self.inner.read().watchers.values().map(Vec::len).sum()
    }

    fn forget(&self, watcher: &Arc<Watcher>) {
        let mut inner = self.inner.write();
        if let Some(others) = inner.watchers.get_mut(watcher.scope()) {
            others.retain(|other| !Arc::ptr_eq(other, watcher));
            if others.is_empty() {
                inner.watchers.remove(watcher.scope());
            }
        }
    }

    // === What the follower does ===

    /// Begins anew with these objects.
    fn load(&self, items: BTreeMap<Bytes, Arc<Item>>, revision: Revision) {
        let mut inner = self.inner.write();
        Counts::add(&self.counts.initializations, 1);
        Counts::add(&self.counts.initial, items.len());
        inner.bytes = items.values().map(|item| item.value.len()).sum();
        inner.items = items;
        inner.revision = Some(revision);
        inner.changed = revision;
        inner.complete_after = revision;
        drop(inner);
        self.advanced.notify_waiters();
    }

    /// Has nothing to show from now on; all watches end.
    fn unload(&self) {
        let mut inner = self.inner.write();
        let watchers = std::mem::take(&mut *inner).watchers;
        drop(inner);
        self.advanced.notify_waiters();
        in_order(&watchers).for_each(|watcher| watcher.end());
    }

    /// Takes changes in, and hands them to those who watch; everything up to `revision` has come now.
    fn apply(&self, arrived: Vec<Arrived>, revision: Revision) {
        let mut awake: Vec<Arc<Watcher>> = Vec::new();
        let mut inner = self.inner.write();
        if inner.revision.is_none() {
            return;
        }
        Counts::add(&self.counts.received, arrived.len());
        let (mut dispatched, mut terminated) = (0, 0);
        for Arrived {
            revision,
            key,
            now,
            before,
        } in arrived
        {
            let known = match &now {
                Some(item) => inner.items.insert(key.clone(), item.clone()),
                None => inner.items.remove(&key),
            };
            let was = known.as_ref().map_or(0, |item| item.value.len());
            let is = now.as_ref().map_or(0, |item| item.value.len());
            inner.bytes = (inner.bytes + is).saturating_sub(was);
            // They are the same, but of what is known the parts have been found already.
            let before = known.or_else(|| before.map(|kv| Arc::new(Item::new(kv))));
            let change = Arc::new(Change::new(revision, key, now, before));
            for scope in scopes(&self.prefix, &change.key) {
                for watcher in inner.watchers.get(scope).into_iter().flatten() {
                    if change.revision <= watcher.after() {
                        continue;
                    }
                    let pushed = watcher.push(&change);
                    dispatched += usize::from(pushed != Pushed::TooMany);
                    terminated += usize::from(pushed == Pushed::TooMany);
                    if pushed != Pushed::Behind {
                        awake.push(watcher.clone());
                    }
                }
            }
            inner.changed = change.revision;
            inner.keep(change);
        }
        let has_advanced = inner.revision < Some(revision);
        inner.revision = inner.revision.max(Some(revision));
        drop(inner);
        Counts::add(&self.counts.dispatched, dispatched);
        Counts::add(&self.counts.terminated, terminated);
        if has_advanced {
            self.advanced.notify_waiters();
        }
        awake.iter().for_each(|watcher| watcher.wake());
    }

    /// Has every watcher look around.
    fn poke(&self) {
        in_order(&self.inner.read().watchers).for_each(|watcher| watcher.poke());
    }
}

/// By what they look at: who is woken first must not depend on chance, or no history would come again.
fn in_order(watchers: &HashMap<Bytes, Vec<Arc<Watcher>>>) -> impl Iterator<Item = &Arc<Watcher>> {
    let mut scopes: Vec<_> = watchers.iter().collect();
    scopes.sort_unstable_by_key(|(scope, _)| *scope);
    scopes.into_iter().flat_map(|(_, watchers)| watchers)
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.lock().take() {
            follower.abort();
        }
    }
}

impl Inner {
    /// Adds a change to the last ones, and forgets what is too much.
    fn keep(&mut self, change: Arc<Change>) {
        self.recent_bytes += change.size();
        self.recent.push_back(change);
        while self.recent.len() > MOST_CHANGES || (self.recent_bytes > MOST_BYTES && self.recent.len() > 1) {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= oldest.size();
            self.complete_after = oldest.revision;
        }
    }
}

/// The scopes that a key is in: of the resource, of a namespace, of the object alone.
fn scopes<'k>(prefix: &'k [u8], key: &'k [u8]) -> impl Iterator<Item = &'k [u8]> {
    let parent = key
        .iter()
        .rposition(|byte| *byte == b'/')
        .map(|slash| &key[..=slash]);
    let parent = parent.filter(|parent| *parent != prefix);
    [Some(prefix), parent, Some(key)].into_iter().flatten()
}

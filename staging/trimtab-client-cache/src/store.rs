//! The store: the watched objects of one kind, by key and by index.
//!
//! One [`Writer`] changes it, any number of readers hold [`Store`]s. *Atomic*: each read and each write is one step, so a
//! reader sees all of a replacement or none of it. *Monotonic*: what is older than what the store has is dropped.
//! Readers copy pointers, never objects, and hold the lock no longer than that takes.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use kube::core::ObjectMeta;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use trimtab_apimachinery_meta::resource_version::{self, InvalidResourceVersion};
use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};

use crate::Object;
use crate::cached::{Cached, Untyped};
use crate::index::{self, Filled, Index, IndexError};
use crate::selection::Selection;

mod objects;
mod writer;

use objects::Objects;
pub(crate) use writer::UntypedWriter;
pub use writer::{Replacement, Writer};

/// A reader of the watched objects of one kind. Clones read the same objects.
pub struct Store<K> {
    shared: Arc<Shared>,
    of: PhantomData<fn() -> K>,
}

/// Why the awaited resource version was not seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up. The write may still become visible.
    #[error("not seen in time, the cache is at resource version {0:?}")]
    TimedOut(String),
    /// Nobody writes to the store any more.
    #[error("the informer has stopped")]
    Stopped,
    /// The resource version is none.
    #[error(transparent)]
    Invalid(#[from] InvalidResourceVersion),
}

struct Shared {
    /// Held by who prepares a change, so that the state stays as it is meanwhile, but can be read.
    /// Lock order: this, then the state.
    changing: Mutex<()>,
    state: RwLock<State>,
    scope: Scope,
    /// Changes after every write, to what the state then is.
    progress: RwLock<Progress>,
    /// Wakes after that, who waits longest first: by chance, as `watch` of tokio does, no history would come again.
    progressed: Notify,
}

/// Of which objects a store is sure to hear.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// In these namespaces, if there are any here.
    namespaces: Vec<String>,
    /// With these labels; `None`: nobody can tell.
    labels: Option<LabelSelector>,
}

impl Scope {
    pub(crate) fn of(selection: &Selection) -> Self {
        let is_plain = selection.fields.is_empty() && selection.shard.is_empty();
        Self {
            namespaces: selection.namespaces().map(str::to_owned).collect(),
            labels: LabelSelector::parse(&selection.labels).ok().filter(|_| is_plain),
        }
    }

    /// Whether an object with these metadata is among them.
    fn shows(&self, meta: &ObjectMeta) -> bool {
        let Self { namespaces, labels } = self;
        let namespace = meta.namespace.as_ref();
        let is_here =
            namespaces.is_empty() || namespace.is_some_and(|namespace| namespaces.contains(namespace));
        let label = |name: &str| meta.labels.as_ref()?.get(name);
        is_here && labels.as_ref().is_some_and(|labels| labels.matches_with(label))
    }
}

/// How far the store is: at least one part, each fed by a watch of its own.
struct Progress {
    parts: Vec<Part>,
}

#[derive(Default)]
struct Part {
    namespace: Option<String>,
    version: String,
    synced: bool,
    stopped: bool,
}

#[derive(Clone)]
struct State {
    objects: Objects,
    indexes: HashMap<String, Filled>,
    /// Bytes of all objects, without what they share.
    size: usize,
}

/// A new, empty store: its reader and its writer.
///
/// An informer makes its own. This is for feeding a store from elsewhere: a test, another protocol.
pub fn store<K: Object>() -> (Store<K>, Writer<K>) {
    let (store, mut writers) = store_in(Scope::of(&Selection::all()));
    // Without namespaces there is one writer.
    let writer = writers.remove(0);
    (store.cast(), Writer::new(writer))
}

/// A new, empty store with a writer for each namespace of a scope; with one for all, if it has none.
pub(crate) fn store_in(scope: Scope) -> (Store<Untyped>, Vec<UntypedWriter>) {
    let by_owner = (index::OWNER_UID.to_owned(), Filled::new(Index::by_owner()));
    let namespaces: Vec<_> = match &scope.namespaces[..] {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let parts = namespaces.iter().map(|namespace| Part {
        namespace: namespace.clone(),
        ..Part::default()
    });
    let progress = Progress {
        parts: parts.collect(),
    };
    let shared = Arc::new(Shared {
        changing: Mutex::default(),
        state: RwLock::new(State {
            objects: Objects::new(),
            indexes: HashMap::from([by_owner]),
            size: 0,
        }),
        scope,
        progress: RwLock::new(progress),
        progressed: Notify::new(),
    });
    let writers = namespaces
        .into_iter()
        .enumerate()
        .map(|(part, namespace)| UntypedWriter {
            shared: shared.clone(),
            part,
            namespace,
        });
    let writers = writers.collect();
    (Store::of(shared), writers)
}

// === impl Store ===

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self::of(self.shared.clone())
    }
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("objects", &self.len())
            .field("resource_version", &self.resource_version())
            .finish()
    }
}

impl<K> Store<K> {
    fn of(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            of: PhantomData,
        }
    }

    /// The same store, as one of objects that are `T`s.
    pub(crate) fn cast<T>(&self) -> Store<T> {
        Store::of(self.shared.clone())
    }

    /// The object under this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Cached<K>> {
        self.shared.get(key).map(Cached::cast)
    }

    /// Whether an object with these metadata is sure to be here once the store has come as far as its version.
    pub(crate) fn shows(&self, meta: &ObjectMeta) -> bool {
        self.shared.scope.shows(meta)
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Cached<K>> {
        of_type(self.shared.list())
    }

    /// The objects of one namespace, ordered by name. The empty namespace is that of cluster-scoped objects.
    pub fn list_in(&self, namespace: &str) -> Vec<Cached<K>> {
        of_type(self.shared.list_in(namespace))
    }

    /// The objects that have this value in the index, ordered by namespace and name.
    ///
    /// # Errors
    /// [`IndexError::Unknown`]: no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Result<Vec<Cached<K>>, IndexError> {
        self.shared.by_index(index, value).map(of_type)
    }

    /// The values that objects have in the index, in no order.
    ///
    /// # Errors
    /// [`IndexError::Unknown`]: no such index.
    pub fn index_values(&self, index: &str) -> Result<Vec<String>, IndexError> {
        self.shared.index_values(index)
    }

    /// The objects that have an owner with this UID.
    pub fn owned_by(&self, uid: &str) -> Vec<Cached<K>> {
        self.by_index(index::OWNER_UID, uid).unwrap_or_default()
    }

    /// Adds an index, also over what is stored already. Readers are not held up by that.
    ///
    /// # Errors
    /// [`IndexError::Exists`]: the name is taken.
    pub fn add_index(&self, index: Index<K>) -> Result<(), IndexError> {
        self.shared.add_index(index.cast())
    }

    /// Removes an index that was added. False: there is none of this name; the built-in ones stay.
    pub fn remove_index(&self, name: &str) -> bool {
        self.shared.remove_index(name)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the objects take, without what they share, their decoded values and the store itself.
    pub fn size(&self) -> usize {
        self.shared.state.read().size
    }

    /// The resource version that the store is at: every write up to it is visible. Empty before the first list. Of a
    /// store of several namespaces it is the least of theirs.
    pub fn resource_version(&self) -> String {
        self.shared.resource_version()
    }

    /// Whether the first list is in the store.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.read().is_synced()
    }

    /// Waits until the first list is in the store.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the writer is gone and there will be no list.
    pub async fn synced(&self) -> Result<(), WaitError> {
        self.shared.synced().await
    }

    /// Waits until the store has seen every write up to this resource version, at most for this long.
    ///
    /// What is awaited should be a write to an object that this store watches: of other writes it learns late, by
    /// bookmarks. Cancelling the wait changes nothing.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_until(&self, resource_version: &str, patience: Duration) -> Result<(), WaitError> {
        self.shared.wait_until(resource_version, patience).await
    }

    /// Waits until a condition on one object holds. The condition gets `None` while there is no such object, and is asked
    /// again when the object has changed; what it returns is returned.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the writer is gone.
    pub async fn wait_for<T>(
        &self,
        key: &ObjectKey,
        condition: impl Fn(Option<&Cached<K>>) -> Option<T>,
    ) -> Result<T, WaitError> {
        let mut asked: Option<Option<Cached<K>>> = None;
        loop {
            let progressed = self.shared.progressed.notified();
            let stopped = self.is_stopped();
            let now = self.get(key);
            let changed = asked.as_ref().is_none_or(|before| match (before, &now) {
                (Some(before), Some(now)) => !before.is(now),
                (None, None) => false,
                _ => true,
            });
            if changed && let Some(result) = condition(now.as_ref()) {
                return Ok(result);
            }
            asked = Some(now);
            if stopped {
                return Err(WaitError::Stopped);
            }
            progressed.await;
        }
    }

    /// Whether nobody writes any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.progress.read().is_stopped()
    }

    /// Waits for a version of what is in one namespace; without one, of everything.
    pub(crate) async fn reached(
        &self,
        resource_version: &str,
        namespace: Option<&str>,
    ) -> Result<(), WaitError> {
        self.shared.reached(resource_version, namespace).await
    }

    pub(crate) fn has_reached(&self, resource_version: &str, namespace: Option<&str>) -> bool {
        self.shared
            .progress
            .read()
            .has_reached(resource_version, namespace)
    }
}

/// The same objects as ones of this type.
fn of_type<K>(objects: Vec<Cached<Untyped>>) -> Vec<Cached<K>> {
    objects.into_iter().map(Cached::cast).collect()
}

// === impl Shared ===

impl Shared {
    fn get(&self, key: &ObjectKey) -> Option<Cached<Untyped>> {
        self.state.read().objects.get(key).cloned()
    }

    fn list(&self) -> Vec<Cached<Untyped>> {
        let state = self.state.read();
        state.objects.iter().map(|(_, object)| object.clone()).collect()
    }

    fn list_in(&self, namespace: &str) -> Vec<Cached<Untyped>> {
        let state = self.state.read();
        state
            .objects
            .in_namespace(namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn by_index(&self, index: &str, value: &str) -> Result<Vec<Cached<Untyped>>, IndexError> {
        if index == index::NAMESPACE {
            return Ok(self.list_in(value));
        }
        let state = self.state.read();
        let unknown = || IndexError::Unknown(index.to_owned());
        let filled = state.indexes.get(index).ok_or_else(unknown)?;
        let found = filled
            .keys(value)
            .filter_map(|key| state.objects.get(key).cloned());
        Ok(found.collect())
    }

    fn index_values(&self, index: &str) -> Result<Vec<String>, IndexError> {
        let state = self.state.read();
        if index == index::NAMESPACE {
            return Ok(state.objects.namespaces().map(str::to_owned).collect());
        }
        let unknown = || IndexError::Unknown(index.to_owned());
        let filled = state.indexes.get(index).ok_or_else(unknown)?;
        Ok(filled.values().map(str::to_owned).collect())
    }

    fn add_index(&self, index: Index<Untyped>) -> Result<(), IndexError> {
        let name = index.name().to_owned();
        let _changing = self.changing.lock();
        let stored = {
            let state = self.state.read();
            if name == index::NAMESPACE || state.indexes.contains_key(&name) {
                return Err(IndexError::Exists(name));
            }
            state.objects.clone()
        };
        let mut filled = Filled::new(index);
        for (key, object) in stored.iter() {
            filled.change(key, None, Some(object));
        }
        self.state.write().indexes.insert(name, filled);
        Ok(())
    }

    fn remove_index(&self, name: &str) -> bool {
        if name == index::OWNER_UID {
            return false;
        }
        let _changing = self.changing.lock();
        let removed = self.state.write().indexes.remove(name);
        removed.is_some()
    }

    fn resource_version(&self) -> String {
        self.progress.read().version().to_owned()
    }

    async fn synced(&self) -> Result<(), WaitError> {
        self.progressed(|progress| progress.is_synced().then_some(()))
            .await
    }

    async fn wait_until(&self, resource_version: &str, patience: Duration) -> Result<(), WaitError> {
        resource_version::compare(resource_version, resource_version)?;
        tokio::time::timeout(patience, self.reached(resource_version, None))
            .await
            .unwrap_or_else(|_| Err(WaitError::TimedOut(self.resource_version())))
    }

    async fn reached(&self, resource_version: &str, namespace: Option<&str>) -> Result<(), WaitError> {
        self.progressed(|progress| progress.has_reached(resource_version, namespace).then_some(()))
            .await
    }

    async fn progressed<T>(&self, done: impl Fn(&Progress) -> Option<T>) -> Result<T, WaitError> {
        loop {
            let progressed = self.progressed.notified();
            {
                let now = self.progress.read();
                if let Some(result) = done(&now) {
                    return Ok(result);
                }
                if now.is_stopped() {
                    return Err(WaitError::Stopped);
                }
            }
            progressed.await;
        }
    }
}

impl Progress {
    fn version(&self) -> &str {
        let versions = self.parts.iter().map(|part| &*part.version);
        versions
            .reduce(|least, other| if is_older(other, least) { other } else { least })
            .unwrap_or_default()
    }

    fn is_synced(&self) -> bool {
        self.parts.iter().all(|part| part.synced)
    }

    fn is_stopped(&self) -> bool {
        self.parts.iter().all(|part| part.stopped)
    }

    fn has_reached(&self, wanted: &str, namespace: Option<&str>) -> bool {
        let part = self
            .parts
            .iter()
            .find(|part| part.namespace.is_some() && part.namespace.as_deref() == namespace);
        let version = part.map_or_else(|| self.version(), |part| &part.version);
        resource_version::compare(version, wanted).is_ok_and(|order| order.is_ge())
    }
}

/// Whether a version is older; the empty one is the oldest.
fn is_older(version: &str, than: &str) -> bool {
    match (version.is_empty(), than.is_empty()) {
        (true, other) => !other,
        (false, true) => false,
        _ => resource_version::compare(version, than).is_ok_and(|order| order.is_lt()),
    }
}

impl State {
    fn put(&mut self, key: &Arc<ObjectKey>, new: Option<Cached<Untyped>>) -> Option<Cached<Untyped>> {
        self.size += new.as_ref().map_or(0, Cached::size);
        let old = match &new {
            Some(object) => self.objects.insert(key, object.clone()),
            None => self.objects.remove(key),
        };
        self.size -= old.as_ref().map_or(0, Cached::size);
        for index in self.indexes.values_mut() {
            index.change(key, old.as_ref(), new.as_ref());
        }
        old
    }
}

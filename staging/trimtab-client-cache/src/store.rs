//! The store: the watched objects of one kind, by key and by index.
//!
//! One [`Writer`] changes it, any number of readers hold [`Store`]s. *Atomic*: each read and each write is one step, so a
//! reader sees all of a replacement or none of it. *Monotonic*: what is older than what the store has is dropped.
//! Readers copy pointers, never objects, and hold the lock no longer than that takes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use parking_lot::RwLock;
use tokio::sync::watch;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_apimachinery_meta::resource_version::{self, InvalidResourceVersion};

use crate::Delta;
use crate::index::{self, Filled, Index, IndexError};
use crate::object::{key_of, same_uid, version};

/// A reader of the watched objects of one kind. Clones read the same objects.
pub struct Store<K> {
    shared: Arc<Shared<K>>,
}

/// The one that changes a store. Each change returns what handlers are to be told.
pub struct Writer<K> {
    shared: Arc<Shared<K>>,
}

/// The whole content of a store at one moment, as a list gives it.
#[derive(Debug)]
pub struct Replacement<K> {
    /// All objects, in any order.
    pub objects: Vec<K>,
    /// Objects that the server has but that could not be decoded, with their UIDs. What the store knows of them stays;
    /// what it has under the same name with another UID is gone.
    pub skipped: HashMap<ObjectKey, String>,
    /// The resource version of the list.
    pub resource_version: String,
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

struct Shared<K> {
    state: RwLock<State<K>>,
    /// Changes after every write, to what the state then is.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Default)]
struct Progress {
    version: String,
    synced: bool,
    stopped: bool,
}

struct State<K> {
    objects: BTreeMap<Arc<ObjectKey>, Arc<K>>,
    indexes: HashMap<String, Filled<K>>,
}

/// A new, empty store: its reader and its writer.
///
/// An informer makes its own. This is for feeding a store from elsewhere: a test, another protocol.
pub fn store<K: Resource + 'static>() -> (Store<K>, Writer<K>) {
    let by_owner = (index::OWNER_UID.to_owned(), Filled::new(Index::by_owner()));
    let shared = Arc::new(Shared {
        state: RwLock::new(State {
            objects: BTreeMap::new(),
            indexes: HashMap::from([by_owner]),
        }),
        progress: watch::Sender::default(),
    });
    let writer = Writer {
        shared: shared.clone(),
    };
    (Store { shared }, writer)
}

// === impl Store ===

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
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
    /// The object under this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.state.read().objects.get(key).cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name. The empty namespace is that of cluster-scoped objects.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.state.read().in_namespace(namespace)
    }

    /// The objects that have this value in the index, ordered by namespace and name.
    ///
    /// # Errors
    /// [`IndexError::Unknown`]: no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Result<Vec<Arc<K>>, IndexError> {
        let state = self.shared.state.read();
        if index == index::NAMESPACE {
            return Ok(state.in_namespace(value));
        }
        let unknown = || IndexError::Unknown(index.to_owned());
        let filled = state.indexes.get(index).ok_or_else(unknown)?;
        Ok(filled
            .keys(value)
            .filter_map(|key| state.objects.get(key).cloned())
            .collect())
    }

    /// The values that objects have in the index, in no order.
    ///
    /// # Errors
    /// [`IndexError::Unknown`]: no such index.
    pub fn index_values(&self, index: &str) -> Result<Vec<String>, IndexError> {
        let state = self.shared.state.read();
        if index == index::NAMESPACE {
            let mut namespaces: Vec<_> = state.objects.keys().map(|key| key.namespace.clone()).collect();
            namespaces.dedup();
            return Ok(namespaces);
        }
        let unknown = || IndexError::Unknown(index.to_owned());
        Ok(state
            .indexes
            .get(index)
            .ok_or_else(unknown)?
            .values()
            .cloned()
            .collect())
    }

    /// The objects that have an owner with this UID.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.by_index(index::OWNER_UID, uid).unwrap_or_default()
    }

    /// Adds an index, also over what is stored already.
    ///
    /// # Errors
    /// [`IndexError::Exists`]: the name is taken.
    pub fn add_index(&self, index: Index<K>) -> Result<(), IndexError> {
        let mut state = self.shared.state.write();
        let name = index.name().to_owned();
        if name == index::NAMESPACE || state.indexes.contains_key(&name) {
            return Err(IndexError::Exists(name));
        }
        let mut filled = Filled::new(index);
        for (key, object) in &state.objects {
            filled.change(key, None, Some(object));
        }
        state.indexes.insert(name, filled);
        Ok(())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The resource version that the store is at: every write up to it is visible. Empty before the first list.
    pub fn resource_version(&self) -> String {
        self.shared.progress.borrow().version.clone()
    }

    /// Whether the first list is in the store.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.borrow().synced
    }

    /// Waits until the first list is in the store.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the writer is gone and there will be no list.
    pub async fn synced(&self) -> Result<(), WaitError> {
        self.changed_until(|progress, _| progress.synced.then_some(Ok(())))
            .await
    }

    /// Waits until the store has seen every write up to this resource version, at most for this long.
    ///
    /// What is awaited should be a write to an object that this store watches: of other writes it learns late, by
    /// bookmarks. Cancelling the wait changes nothing.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub async fn wait_until(&self, resource_version: &str, patience: Duration) -> Result<(), WaitError> {
        resource_version::compare(resource_version, resource_version)?;
        tokio::time::timeout(patience, self.reached(resource_version))
            .await
            .unwrap_or_else(|_| Err(WaitError::TimedOut(self.resource_version())))
    }

    /// Waits until a condition on one object holds. The condition gets `None` while there is no such object; what it
    /// returns is returned.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the writer is gone.
    pub async fn wait_for<T>(
        &self,
        key: &ObjectKey,
        condition: impl Fn(Option<&Arc<K>>) -> Option<T>,
    ) -> Result<T, WaitError> {
        self.changed_until(|_, state| condition(state.objects.get(key)).map(Ok))
            .await
    }

    /// Says that nobody writes any more: who waits need not wait longer.
    pub(crate) fn stop(&self) {
        self.shared
            .progress
            .send_modify(|progress| progress.stopped = true);
    }

    pub(crate) async fn reached(&self, resource_version: &str) -> Result<(), WaitError> {
        self.changed_until(|progress, _| has_reached(&progress.version, resource_version).then_some(Ok(())))
            .await
    }

    pub(crate) fn has_reached(&self, resource_version: &str) -> bool {
        has_reached(&self.shared.progress.borrow().version, resource_version)
    }

    async fn changed_until<T>(
        &self,
        done: impl Fn(&Progress, &State<K>) -> Option<Result<T, WaitError>>,
    ) -> Result<T, WaitError> {
        let mut progress = self.shared.progress.subscribe();
        loop {
            let now = progress.borrow_and_update().clone();
            if let Some(result) = done(&now, &self.shared.state.read()) {
                return result;
            }
            if now.stopped || progress.changed().await.is_err() {
                return Err(WaitError::Stopped);
            }
        }
    }
}

fn has_reached(version: &str, wanted: &str) -> bool {
    resource_version::compare(version, wanted).is_ok_and(|order| order.is_ge())
}

impl<K> State<K> {
    fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::namespaced(namespace, "");
        let from_first = self.objects.range::<ObjectKey, _>(&first..);
        from_first
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn put(&mut self, key: &Arc<ObjectKey>, new: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match &new {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(key),
        };
        for index in self.indexes.values_mut() {
            index.change(key, old.as_deref(), new.as_deref());
        }
        old
    }
}

// === impl Writer ===

impl<K> fmt::Debug for Writer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<K> Drop for Writer<K> {
    fn drop(&mut self) {
        self.shared
            .progress
            .send_modify(|progress| progress.stopped = true);
    }
}

impl<K> Writer<K> {
    /// A reader of the store that this changes.
    pub fn reader(&self) -> Store<K> {
        Store {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Resource> Writer<K> {
    /// Replaces all that is stored, in one step. Objects that are no longer there come first in what is returned
    /// (*Complete*); of objects that have not changed nothing is said.
    pub fn replace(&mut self, replacement: Replacement<K>) -> Vec<Delta<K>> {
        let initial = !self.shared.progress.borrow().synced;
        let mut deltas = Vec::new();
        let mut state = self.shared.state.write();
        let is_skipped = |key: &ObjectKey, object: &K| {
            let uid = replacement.skipped.get(key);
            uid.is_some_and(|uid| object.meta().uid.as_ref() == Some(uid))
        };
        let stored = state.objects.iter();
        let mut vanished: HashSet<Arc<ObjectKey>> = stored
            .filter(|(key, object)| !is_skipped(key, object))
            .map(|(key, _)| key.clone())
            .collect();

        let mut changes = Vec::with_capacity(replacement.objects.len());
        for object in replacement.objects {
            let key = Arc::new(key_of(&object));
            vanished.remove(&key);
            changes.push((key, Arc::new(object)));
        }
        for key in vanished {
            if let Some(last) = state.put(&key, None) {
                deltas.push(Delta::Deleted {
                    last,
                    observed: false,
                });
            }
        }
        for (key, object) in changes {
            state.set(key, object, initial, &mut deltas);
        }
        drop(state);
        self.advance(&replacement.resource_version, true);
        deltas
    }

    /// Stores a new state of an object. An older state than the stored one is dropped.
    pub fn upsert(&mut self, object: K) -> Vec<Delta<K>> {
        let key = Arc::new(key_of(&object));
        let version = version(&object).to_owned();
        let mut deltas = Vec::new();
        let mut state = self.shared.state.write();
        let outdated = state
            .objects
            .get(&key)
            .is_some_and(|stored| is_newer(&**stored, &version));
        if !outdated {
            state.set(key, Arc::new(object), false, &mut deltas);
        }
        drop(state);
        self.advance(&version, false);
        deltas
    }

    /// Removes an object of which the server says that it is gone. `last` is its last state. The deletion of an older
    /// object that had the same name is dropped.
    pub fn delete(&mut self, last: K) -> Vec<Delta<K>> {
        let (key, version) = (key_of(&last), version(&last).to_owned());
        let removed = self.remove(&key, &version);
        removed
            .map(|stored| {
                let last = if same_uid(&*stored, &last) {
                    Arc::new(last)
                } else {
                    stored
                };
                Delta::Deleted { last, observed: true }
            })
            .into_iter()
            .collect()
    }

    /// Removes an object that is gone and whose last state could not be decoded.
    pub fn delete_key(&mut self, key: &ObjectKey, resource_version: &str) -> Vec<Delta<K>> {
        let removed = self.remove(key, resource_version);
        removed
            .map(|last| Delta::Deleted { last, observed: true })
            .into_iter()
            .collect()
    }

    /// Takes note that the store has seen every write up to this resource version.
    pub fn bookmark(&mut self, resource_version: &str) {
        self.advance(resource_version, false);
    }

    fn remove(&mut self, key: &ObjectKey, version: &str) -> Option<Arc<K>> {
        let mut state = self.shared.state.write();
        let stored = state
            .objects
            .get(key)
            .filter(|stored| !is_newer(&***stored, version));
        let removed = match stored {
            Some(_) => state.put(&Arc::new(key.clone()), None),
            None => None,
        };
        drop(state);
        self.advance(version, false);
        removed
    }

    /// Moves on to a version, which a replacement may set to any value, and wakes those who wait.
    fn advance(&mut self, version: &str, replaced: bool) {
        self.shared.progress.send_modify(|progress| {
            if replaced
                || resource_version::compare(&progress.version, version).is_ok_and(|order| order.is_lt())
            {
                progress.version = version.to_owned();
            }
            progress.synced |= replaced;
        });
    }
}

impl<K: Resource> State<K> {
    /// Stores the object and says what that changes.
    fn set(&mut self, key: Arc<ObjectKey>, new: Arc<K>, initial: bool, deltas: &mut Vec<Delta<K>>) {
        let old = self.put(&key, Some(new.clone()));
        match old {
            Some(old) if !same_uid(&*old, &*new) => {
                deltas.push(Delta::Deleted {
                    last: old,
                    observed: false,
                });
                deltas.push(Delta::Added { object: new, initial });
            }
            Some(old) if version(&*old) == version(&*new) => {}
            Some(old) => deltas.push(Delta::Updated { old, new }),
            None => deltas.push(Delta::Added { object: new, initial }),
        }
    }
}

fn is_newer<K: Resource>(stored: &K, version_text: &str) -> bool {
    resource_version::compare(version(stored), version_text).is_ok_and(|order| order.is_gt())
}

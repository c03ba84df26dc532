//! The writer: the one who changes a store, and says what has changed.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use trimtab_apimachinery_meta::{ObjectKey, resource_version};

use super::objects::Objects;
use super::{Shared, State, Store};
use crate::Delta;
use crate::cached::{Cached, Untyped};

/// The one that changes a store, or the part of it that one watch feeds. Each change returns what handlers are to be told.
pub struct Writer<K>(UntypedWriter, PhantomData<fn() -> K>);

/// A writer of objects of whatever type.
pub(crate) struct UntypedWriter {
    pub(super) shared: Arc<Shared>,
    /// Which of the progresses is this writer's.
    pub(super) part: usize,
    /// The only namespace that this writer writes to, if it is not alone.
    pub(super) namespace: Option<String>,
}

/// All that there is at one moment, as a list gives it.
#[derive(Debug)]
pub struct Replacement<K> {
    /// All objects, in any order, each once.
    pub objects: Vec<Cached<K>>,
    /// Objects that the server has but that could not be decoded, with their UIDs. What the store knows of them stays;
    /// what it has under the same name with another UID is gone.
    pub skipped: HashMap<ObjectKey, String>,
    /// The resource version of the list.
    pub resource_version: String,
}

impl<K> fmt::Debug for Writer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Drop for UntypedWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One change of a replacement.
type Change = (Arc<ObjectKey>, Option<Cached<Untyped>>);

impl<K> Writer<K> {
    pub(super) fn new(writer: UntypedWriter) -> Self {
        Self(writer, PhantomData)
    }

    /// A reader of the store that this changes.
    pub fn reader(&self) -> Store<K> {
        Store::of(self.0.shared.clone())
    }

    /// Replaces all that is stored, in one step. Objects that are no longer there come first in what is returned
    /// (*Complete*); of objects that have not changed nothing is said.
    pub fn replace(&mut self, replacement: Replacement<K>) -> Vec<Delta<K>> {
        of_type(self.0.replace(replacement.cast()))
    }

    /// Stores a new state of an object. A state of the past, older than the stored one or than what the store is at, is
    /// dropped: the object may have gone since.
    pub fn upsert(&mut self, object: Cached<K>) -> Vec<Delta<K>> {
        of_type(self.0.upsert(object.cast()))
    }

    /// Removes an object of which the server says that it is gone. `last` is its last state. The deletion of an older
    /// object that had the same name is dropped.
    pub fn delete(&mut self, last: Cached<K>) -> Vec<Delta<K>> {
        of_type(self.0.delete(last.cast()))
    }

    /// Removes an object that is gone and whose last state could not be decoded.
    pub fn delete_key(&mut self, key: &ObjectKey, resource_version: &str) -> Vec<Delta<K>> {
        of_type(self.0.delete_key(key, resource_version))
    }

    /// Takes note that the store has seen every write up to this resource version.
    pub fn bookmark(&mut self, resource_version: &str) {
        self.0.bookmark(resource_version);
    }

    pub(crate) fn resource_version(&self) -> String {
        self.0.resource_version()
    }
}

/// The same changes as ones of this type.
fn of_type<K>(deltas: Vec<Delta<Untyped>>) -> Vec<Delta<K>> {
    deltas.into_iter().map(Delta::cast).collect()
}

impl<K> Replacement<K> {
    /// The same, as one of `T`s.
    pub(crate) fn cast<T>(self) -> Replacement<T> {
        let Self {
            objects,
            skipped,
            resource_version,
        } = self;
        Replacement {
            objects: objects.into_iter().map(Cached::cast).collect(),
            skipped,
            resource_version,
        }
    }
}

impl UntypedWriter {
    pub(crate) fn replace(&mut self, replacement: Replacement<Untyped>) -> Vec<Delta<Untyped>> {
        let initial = !self.is_synced();
        let Replacement {
            mut objects,
            skipped,
            resource_version,
        } = replacement;
        objects.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        objects.dedup_by(|later, earlier| later.key() == earlier.key());
        let shared = self.shared.clone();
        let changing = shared.changing.lock();
        let (changes, deltas, much) = {
            let state = shared.state.read();
            let (changes, deltas) = self.compare(&state, objects, &skipped, initial);
            let much = changes.len() * 8 > state.objects.len();
            (changes, deltas, much)
        };
        if much {
            // Readers go on with what was until all is ready.
            let mut next = shared.state.read().clone();
            next.apply(changes);
            let before = std::mem::replace(&mut *shared.state.write(), next);
            drop(before);
        } else {
            shared.state.write().apply(changes);
        }
        drop(changing);
        self.advance(&resource_version, true);
        deltas
    }

    /// What turns the state into one with these objects, which are in order.
    fn compare(
        &self,
        state: &State,
        objects: Vec<Cached<Untyped>>,
        skipped: &HashMap<ObjectKey, String>,
        initial: bool,
    ) -> (Vec<Change>, Vec<Delta<Untyped>>) {
        let (mut changes, mut deltas) = (Vec::new(), Vec::new());
        let mut set = Vec::with_capacity(objects.len());
        let is_skipped =
            |stored: &Cached<Untyped>| skipped.get(stored.key()).is_some_and(|uid| *uid == *stored.uid());
        let mut vanish = |key: &Arc<ObjectKey>, last: &Cached<Untyped>| {
            if !is_skipped(last) {
                changes.push((key.clone(), None));
                deltas.push(Delta::Deleted {
                    last: last.clone(),
                    observed: false,
                });
            }
        };
        let mut stored: Box<dyn Iterator<Item = (&Arc<ObjectKey>, &Cached<Untyped>)>> = match &self.namespace
        {
            Some(namespace) => Box::new(state.objects.in_namespace(namespace)),
            None => Box::new(state.objects.iter()),
        };
        let mut next_stored = stored.next();
        for object in objects {
            while let Some((key, last)) = next_stored.filter(|(key, _)| ***key < *object.key()) {
                vanish(key, last);
                next_stored = stored.next();
            }
            let old = next_stored.filter(|(key, _)| ***key == *object.key());
            if old.is_some() {
                next_stored = stored.next();
            }
            set.push((object, old));
        }
        while let Some((key, last)) = next_stored {
            vanish(key, last);
            next_stored = stored.next();
        }
        changes.reserve(set.len());
        for (mut new, old) in set {
            let key = match old {
                Some((_, old))
                    if old.is_same_object(&new) && old.resource_version() == new.resource_version() =>
                {
                    continue;
                }
                Some((key, old)) => {
                    new.share_key(key);
                    tell_change(old, &new, initial, &mut deltas);
                    key.clone()
                }
                None => {
                    let object = new.clone();
                    deltas.push(Delta::Added { object, initial });
                    new.shared_key().clone()
                }
            };
            changes.push((key, Some(new)));
        }
        (changes, deltas)
    }

    pub(crate) fn upsert(&mut self, mut object: Cached<Untyped>) -> Vec<Delta<Untyped>> {
        let version = object.resource_version().into_owned();
        let mut deltas = Vec::new();
        if self.is_past(&version) {
            return deltas;
        }
        let shared = self.shared.clone();
        let changing = shared.changing.lock();
        let stored = {
            let state = shared.state.read();
            let stored = state.objects.get_with_key(object.key());
            stored.map(|(key, stored)| (key.clone(), stored.clone()))
        };
        let key = match &stored {
            Some((_, stored)) if is_newer(stored, &version) => None,
            Some((key, stored)) => {
                object.share_key(key);
                let is_news = !stored.is_same_object(&object) || stored.resource_version() != *version;
                if is_news {
                    tell_change(stored, &object, false, &mut deltas);
                }
                is_news.then(|| key.clone())
            }
            None => {
                deltas.push(Delta::Added {
                    object: object.clone(),
                    initial: false,
                });
                Some(object.shared_key().clone())
            }
        };
        if let Some(key) = key {
            shared.state.write().put(&key, Some(object));
        }
        drop(changing);
        self.advance(&version, false);
        deltas
    }

    pub(crate) fn delete(&mut self, last: Cached<Untyped>) -> Vec<Delta<Untyped>> {
        let removed = self.remove(last.key(), &last.resource_version());
        let delta = removed.map(|stored| Delta::Deleted {
            last: if stored.is_same_object(&last) {
                last
            } else {
                stored
            },
            observed: true,
        });
        delta.into_iter().collect()
    }

    pub(crate) fn delete_key(&mut self, key: &ObjectKey, resource_version: &str) -> Vec<Delta<Untyped>> {
        let removed = self.remove(key, resource_version);
        let delta = removed.map(|last| Delta::Deleted { last, observed: true });
        delta.into_iter().collect()
    }

    pub(crate) fn bookmark(&mut self, resource_version: &str) {
        self.advance(resource_version, false);
    }

    /// Says that this writer does not write any more: who waits need not wait longer.
    pub(crate) fn stop(&self) {
        let part = self.part;
        self.shared.progress.write().parts[part].stopped = true;
        self.shared.progressed.notify_waiters();
    }

    /// The version up to which this writer's part has been told.
    pub(crate) fn resource_version(&self) -> String {
        self.shared.progress.read().parts[self.part].version.clone()
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.shared.progress.read().parts[self.part].synced
    }

    /// Whether a version is older than what this writer has told of already.
    fn is_past(&self, version: &str) -> bool {
        let progress = self.shared.progress.read();
        resource_version::compare(version, &progress.parts[self.part].version)
            .is_ok_and(|order| order.is_lt())
    }

    fn remove(&mut self, key: &ObjectKey, version: &str) -> Option<Cached<Untyped>> {
        if self.is_past(version) {
            return None;
        }
        let shared = self.shared.clone();
        let changing = shared.changing.lock();
        let stored = {
            let state = shared.state.read();
            let stored = state.objects.get_with_key(key);
            stored
                .filter(|(_, stored)| !is_newer(stored, version))
                .map(|(key, _)| key.clone())
        };
        let removed = stored.and_then(|key| shared.state.write().put(&key, None));
        drop(changing);
        self.advance(version, false);
        removed
    }

    /// Moves on to a version, which a replacement may set to any value, and wakes those who wait.
    fn advance(&mut self, version: &str, replaced: bool) {
        let part = self.part;
        let mut progress = self.shared.progress.write();
        let part = &mut progress.parts[part];
        if replaced || resource_version::compare(&part.version, version).is_ok_and(|order| order.is_lt()) {
            part.version.clear();
            part.version.push_str(version);
        }
        part.synced |= replaced;
        drop(progress);
        self.shared.progressed.notify_waiters();
    }
}

impl State {
    fn apply(&mut self, changes: Vec<Change>) {
        if self.objects.is_empty() {
            // In order, so that the tree is built at once and takes no more than it needs.
            self.size = changes
                .iter()
                .filter_map(|(_, new)| new.as_ref())
                .map(Cached::size)
                .sum();
            for index in self.indexes.values_mut() {
                changes
                    .iter()
                    .for_each(|(key, new)| index.change(key, None, new.as_ref()));
            }
            let objects = changes.into_iter();
            self.objects = Objects::of_ordered(objects.filter_map(|(key, new)| Some((key, new?))));
            return;
        }
        for (key, new) in changes {
            self.put(&key, new);
        }
    }
}

/// Says what a new state of an object is to those who know the old one.
fn tell_change(
    old: &Cached<Untyped>,
    new: &Cached<Untyped>,
    initial: bool,
    deltas: &mut Vec<Delta<Untyped>>,
) {
    let (old, new) = (old.clone(), new.clone());
    if old.is_same_object(&new) {
        deltas.push(Delta::Updated { old, new });
    } else {
        deltas.push(Delta::Deleted {
            last: old,
            observed: false,
        });
        deltas.push(Delta::Added { object: new, initial });
    }
}

fn is_newer(stored: &Cached<Untyped>, version: &str) -> bool {
    resource_version::compare(&stored.resource_version(), version).is_ok_and(|order| order.is_gt())
}

//! The turn: what one reconcile sees and does.
//!
//! A turn shows a key's latest state, takes note of each write that is made through it, and collects the status that is
//! written once, at its end. *Own writes seen*: the key has no next turn before the caches show what was written in this
//! one.

mod apply;
mod claim;
mod diary;
mod finalizer;
mod many;
mod request;
mod settle;
mod status;
mod world;
mod write;

use std::fmt;
use std::sync::Arc;

use kube::Client;
use trimtab_client_cache::Cached;
use trimtab_client_cache::cached::Undecodable;
use trimtab_client_cache::store::Store;
use trimtab_client_coordination::events::Note;
use trimtab_client_coordination::leader::Leadership;
use trimtab_client_workqueue::{Reasons, Work};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::introspection::TurnRecord;
use crate::subject::{Reconciled, Subject};
use apply::Child;
use status::Draft;
use world::view_of;

pub use many::Written;
pub(crate) use request::is_namespaced;
pub(crate) use settle::Unseen;
pub use status::{ConditionStatus, Conditions};

pub(crate) use world::{Glimpse, InUse, Stores, Use, World};

/// One turn of one key: the latest state from caches that have seen the key's own last writes, why the key came up,
/// and the ways to write that keep the next turn from acting on old data.
pub struct Turn<S: Subject> {
    /// The key in hand.
    work: Work<S::Key>,
    attempt: u32,
    /// The main object as this turn knows it: from the cache, then from the answers to the turn's own writes.
    latest: Option<Arc<S>>,
    /// Why `latest` is not known, though the object is there.
    unreadable: Option<Box<Undecodable>>,
    /// What the turn has written.
    unseen: Unseen,
    draft: Option<Box<dyn Draft<S>>>,
    /// Annotations that are written with the status.
    annotations: serde_json::Map<String, serde_json::Value>,
    /// What the turn has applied.
    applied: Vec<Child>,
    /// What was in view at the beginning, with what the turn has written.
    seen: Glimpse<S>,
    /// What people are told of it, if anybody looks.
    record: Option<TurnRecord>,
    world: Arc<World<S>>,
}

impl<S: Subject> Turn<S> {
    pub(crate) fn new(
        world: Arc<World<S>>,
        work: Work<S::Key>,
        attempt: u32,
        record: Option<TurnRecord>,
    ) -> Self {
        let seen = world.look(work.key());
        if seen.main.is_none() && world.store.is_some() {
            world.forget(work.key());
        }
        let (latest, unreadable) = match seen.main.as_ref().map(S::decode).transpose() {
            Ok(latest) => (latest, None),
            Err(undecodable) => (None, Some(Box::new(undecodable))),
        };
        Self {
            work,
            attempt,
            latest,
            unreadable,
            unseen: Unseen::default(),
            draft: None,
            annotations: serde_json::Map::new(),
            applied: Vec::new(),
            seen,
            record,
            world,
        }
    }

    /// Whether the turn can begin: its object is gone, or can be decoded.
    pub(crate) fn readable(&mut self) -> Result<()> {
        self.unreadable
            .take()
            .map_or(Ok(()), |undecodable| Err((*undecodable).into()))
    }

    /// The key.
    pub fn key(&self) -> &S::Key {
        self.work.key()
    }

    /// Why the key came up, for people: no reconciler may depend on it.
    pub fn reasons(&self) -> &Reasons {
        self.work.reasons()
    }

    /// Which attempt this is: 1, and one more for each failure since the last success.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The client of the controller's cluster, for what a turn has no function for. Writes through it are not waited for,
    /// unless they are [noted](Turn::wrote_object).
    pub fn client(&self) -> &Client {
        self.world.cluster.client()
    }

    /// The watched objects of a kind: the controller's own, or one that it owns or watches.
    ///
    /// # Errors
    /// [`Error::NotWatched`].
    pub fn store<T: Reconciled>(&self) -> Result<Store<T>> {
        self.world.stores.get(&self.world.cluster)
    }

    /// The watched objects of a kind in another cluster than the controller's.
    ///
    /// # Errors
    /// [`Error::NotWatched`].
    pub fn store_on<T: Reconciled>(&self, cluster: &Cluster) -> Result<Store<T>> {
        self.world.stores.get(cluster)
    }

    /// The leadership under which the turn runs, with its fencing token, for what is written outside the cluster; none where
    /// nobody is elected.
    pub fn leadership(&self) -> Option<Leadership> {
        self.world.leadership.read().clone()
    }

    /// Ends the turn, which went well or not; what remains is the key, what was written and what was in view.
    pub(crate) fn end(self, well: bool) -> (Work<S::Key>, Unseen, Glimpse<S>) {
        if well {
            self.world.keep_applied(self.work.key(), &self.applied);
        }
        (self.work, self.unseen, self.seen)
    }
}

impl<K: Reconciled> Turn<K> {
    /// The object, or `None` if it is gone. After a write of this turn to it, what the server answered.
    ///
    /// It need not have its managed fields, since to decode them costs as much as a small object, and what is applied may not
    /// have any; an update without them leaves them as they are. Who needs them finds them in the [store](Turn::store).
    pub fn latest(&self) -> Option<Arc<K>> {
        self.latest.clone()
    }

    /// Whether the object is there and being deleted.
    pub fn is_deleting(&self) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|object| object.meta().deletion_timestamp.is_some())
    }

    /// The objects of a kind of which this turn's object is an owner, by its UID, ordered by namespace and name. None if
    /// the object is gone.
    ///
    /// # Errors
    /// [`Error::NotWatched`]; [`Error::Undecodable`] if one of them is not of its type.
    pub fn owned<T: Reconciled>(&self) -> Result<Vec<Arc<T>>> {
        let store = self.store::<T>()?;
        let uid = self.latest.as_ref().and_then(|owner| owner.meta().uid.clone());
        let owned = uid.map(|uid| store.owned_by(&uid)).unwrap_or_default();
        Ok(owned.iter().map(Cached::decode).collect::<Result<_, _>>()?)
    }

    /// Records an event on the turn's object. Never waits; what does not fit the queue is counted and dropped. Nothing is
    /// recorded on an object that is gone.
    pub fn event(&self, note: Note) {
        if let Some(object) = &self.latest {
            self.world.recorder.record(&**object, note);
        }
    }

    /// The object, for what cannot be done without it.
    fn present(&self) -> Result<Arc<K>> {
        self.latest().ok_or_else(|| Error::Gone(self.key().to_string()))
    }

    /// Takes the answer to a write to the main object.
    fn wrote(&mut self, mut answer: K) {
        if let Some(store) = &self.world.store {
            self.unseen.wrote(store, &answer);
        }
        self.seen.wrote(view_of(&answer));
        answer.meta_mut().managed_fields = None;
        self.latest = Some(Arc::new(answer));
    }
}

impl<S: Subject> fmt::Debug for Turn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("key", self.key())
            .field("reasons", self.reasons())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

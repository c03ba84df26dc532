//! The turn: what one reconcile sees and does.
//!
//! A turn shows a key's latest state, takes note of each write that is made through it, and collects the status that is
//! written once, at its end. *Own writes seen*: the key has no next turn before the caches show what was written in this
//! one.

mod apply;
mod finalizer;
mod request;
mod settle;
mod status;
mod world;

use std::fmt;
use std::sync::Arc;

use kube::Client;
use kube::api::Preconditions;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::cached::Undecodable;
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, key_of};
use trimtab_client_coordination::events::Note;
use trimtab_client_workqueue::Reasons;

use crate::error::{Error, Result};
use crate::failing::View;
use crate::reconcile::Reconciled;
use settle::Unseen;
use status::Draft;

pub(crate) use request::is_namespaced;
pub use status::{ConditionStatus, Conditions};
use world::view_of;
pub(crate) use world::{Stores, World};

/// One turn of one key: the latest state from caches that have seen the key's own last writes, why the key came up,
/// and the ways to write that keep the next turn from acting on old data.
pub struct Turn<K: Reconciled> {
    key: ObjectKey,
    reasons: Reasons,
    attempt: u32,
    /// The main object as this turn knows it: from the cache, then from the answers to the turn's own writes.
    latest: Option<Arc<K>>,
    /// Why `latest` is not known, though the object is there.
    unreadable: Option<Undecodable>,
    /// What the turn has written.
    unseen: Unseen<K>,
    draft: Option<Box<dyn Draft<K>>>,
    /// What was in view at the beginning, with what the turn has written.
    view: View,
    world: Arc<World<K>>,
}

impl<K: Reconciled> Turn<K> {
    pub(crate) fn new(world: Arc<World<K>>, key: ObjectKey, reasons: Reasons, attempt: u32) -> Self {
        let cached = world.store.get(&key);
        if cached.is_none() {
            world.forget(&key);
        }
        let (latest, unreadable) = match cached.as_ref().map(Cached::decode).transpose() {
            Ok(latest) => (latest, None),
            Err(undecodable) => (None, Some(undecodable)),
        };
        Self {
            view: world.view(cached.as_ref()),
            unreadable,
            key,
            reasons,
            attempt,
            latest,
            unseen: Unseen::default(),
            draft: None,
            world,
        }
    }

    /// Whether the turn can begin: its object is gone, or can be decoded.
    pub(crate) fn readable(&mut self) -> Result<()> {
        self.unreadable
            .take()
            .map_or(Ok(()), |undecodable| Err(undecodable.into()))
    }

    /// The key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Why the key came up, for people: no reconciler may depend on it.
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// Which attempt this is: 1, and one more for each failure since the last success.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The object, or `None` if it is gone. After a write of this turn to it, what the server answered.
    pub fn latest(&self) -> Option<Arc<K>> {
        self.latest.clone()
    }

    /// Whether the object is there and being deleted.
    pub fn is_deleting(&self) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|object| object.meta().deletion_timestamp.is_some())
    }

    /// The client, for what a turn has no function for. Writes through it are not waited for.
    pub fn client(&self) -> &Client {
        &self.world.client
    }

    /// The watched objects of a kind: the controller's own, or one that it owns or watches.
    ///
    /// # Errors
    /// [`Error::NotWatched`].
    pub fn store<T: Reconciled>(&self) -> Result<Store<T>> {
        self.world.stores.get()
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

    /// Deletes an object, unless another one has its name by now; one that is gone is no error. Its own dependents are
    /// collected in the background.
    ///
    /// # Errors
    /// [`Error::NotWatched`] for kinds that the controller does not watch; what the server refuses.
    pub async fn delete<T: Reconciled>(&mut self, object: &T) -> Result<()> {
        let store = self.store::<T>()?;
        let key = key_of(object);
        let uid = object.meta().uid.clone();
        let preconditions = uid.clone().map(|uid| Preconditions {
            uid: Some(uid),
            ..Preconditions::default()
        });
        match request::delete::<T>(&self.world.client, &key, preconditions).await {
            Err(error) if error.is_not_found() => {}
            answer => answer?,
        }
        self.unseen.deleted(&store, key, uid.unwrap_or_default());
        Ok(())
    }

    /// Records an event on the turn's object. Never waits; what does not fit the queue is counted and dropped. Nothing is
    /// recorded on an object that is gone.
    pub fn event(&self, note: Note) {
        if let Some(object) = &self.latest {
            self.world.recorder.record(&**object, note);
        }
    }

    /// Ends the turn; what remains is what it has written and what it had in view.
    pub(crate) fn end(self) -> (Unseen<K>, View) {
        (self.unseen, self.view)
    }

    /// The object, for what cannot be done without it.
    fn present(&self) -> Result<Arc<K>> {
        self.latest().ok_or_else(|| Error::Gone(self.key.to_string()))
    }

    /// Takes the answer to a write to the main object.
    fn wrote(&mut self, answer: K) {
        self.unseen.wrote(&self.world.store, &answer);
        self.view.extend([view_of(&answer)]);
        self.latest = Some(Arc::new(answer));
    }
}

impl<K: Reconciled> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("key", &self.key)
            .field("reasons", &self.reasons)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

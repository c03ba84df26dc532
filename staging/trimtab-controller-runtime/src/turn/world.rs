//! What all turns of one controller share: the client, the caches, the recorder, and what was applied last.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use kube::Client;
use parking_lot::Mutex;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::store::Store;
use trimtab_client_coordination::events::Recorder;

use super::apply::{Applied, Child};
use crate::error::{Error, Result};
use crate::reconcile::Reconciled;

pub(crate) struct World<K> {
    pub(crate) client: Client,
    /// The field manager of all writes.
    pub(crate) manager: String,
    pub(crate) store: Store<K>,
    pub(crate) stores: Stores,
    pub(crate) recorder: Recorder,
    /// For each owner that exists, what was applied for it last.
    pub(crate) applied: Mutex<HashMap<ObjectKey, HashMap<Child, Applied>>>,
}

/// The caches of a controller, by type.
#[derive(Default)]
pub(crate) struct Stores(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Stores {
    pub(crate) fn add<T: Reconciled>(&mut self, store: Store<T>) {
        self.0.insert(TypeId::of::<T>(), Box::new(store));
    }

    pub(crate) fn get<T: Reconciled>(&self) -> Result<Store<T>> {
        let store = self
            .0
            .get(&TypeId::of::<T>())
            .and_then(|store| store.downcast_ref::<Store<T>>());
        store
            .cloned()
            .ok_or_else(|| Error::NotWatched(T::kind(&T::DynamicType::default()).into_owned()))
    }
}

impl<K> World<K> {
    /// Forgets what was applied for an owner that is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.applied.lock().remove(owner);
    }
}

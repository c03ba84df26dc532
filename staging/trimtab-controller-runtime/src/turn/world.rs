//! What all turns of one controller share: the client, the caches, the recorder, and what was applied last.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use kube::Client;
use parking_lot::Mutex;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, key_of};
use trimtab_client_coordination::events::Recorder;

use super::apply::{Applied, Child};
use crate::error::{Error, Result};
use crate::failing::View;
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
pub(crate) struct Stores(HashMap<TypeId, Box<dyn AnyStore>>);

/// A store of any kind.
trait AnyStore: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    /// Adds the objects with this owner to a view.
    fn add_owned(&self, owner: &str, view: &mut View);
}

impl<T: Reconciled> AnyStore for Store<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn add_owned(&self, owner: &str, view: &mut View) {
        let owned = self.owned_by(owner);
        view.extend(owned.iter().map(cached_view_of));
    }
}

/// An object as views have it.
pub(super) fn view_of<T: Reconciled>(object: &T) -> ((TypeId, ObjectKey), Option<String>) {
    (
        (TypeId::of::<T>(), key_of(object)),
        object.meta().resource_version.clone(),
    )
}

/// An object of a cache as views have it.
fn cached_view_of<T: Reconciled>(object: &Cached<T>) -> ((TypeId, ObjectKey), Option<String>) {
    let version = object.resource_version();
    let version = (!version.is_empty()).then(|| version.into_owned());
    ((TypeId::of::<T>(), object.key().clone()), version)
}

impl Stores {
    pub(crate) fn add<T: Reconciled>(&mut self, store: Store<T>) {
        self.0.insert(TypeId::of::<T>(), Box::new(store));
    }

    pub(crate) fn get<T: Reconciled>(&self) -> Result<Store<T>> {
        let store = self
            .0
            .get(&TypeId::of::<T>())
            .and_then(|store| store.as_any().downcast_ref::<Store<T>>());
        store
            .cloned()
            .ok_or_else(|| Error::NotWatched(T::kind(&T::DynamicType::default()).into_owned()))
    }
}

impl<K: Reconciled> World<K> {
    /// What a turn of this key has in view now.
    pub(crate) fn view(&self, object: Option<&Cached<K>>) -> View {
        let mut view = View::new();
        if let Some(object) = object {
            view.extend([cached_view_of(object)]);
            for store in self.stores.0.values() {
                store.add_owned(&object.uid(), &mut view);
            }
        }
        view
    }

    /// Forgets what was applied for an owner that is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.applied.lock().remove(owner);
    }
}

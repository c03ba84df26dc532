//! What all turns of one controller share: the client, the caches, the recorder, and what was applied last.

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, key_of};
use trimtab_client_coordination::events::Recorder;
use trimtab_client_coordination::leader::Leadership;

use super::apply::{Applied, Child};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::failing::View;
use crate::seldom::Seldom;
use crate::subject::{Reconciled, Subject};

pub(crate) struct World<S: Subject> {
    /// The cluster of the controller's objects.
    pub(crate) cluster: Cluster,
    /// The field manager of all writes.
    pub(crate) manager: String,
    /// The subjects, if they are objects.
    pub(crate) store: Option<Store<S>>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) recorder: Recorder,
    /// For each key, what its last turn has applied.
    pub(crate) applied: Seldom<S::Key, HashMap<Child, Applied>>,
    /// That of the term under way, if it was elected.
    pub(crate) leadership: RwLock<Option<Leadership>>,
}

/// What a controller does with a kind that it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the controller's own.
    Main,
    /// Its objects are made by the controller.
    Owned,
    /// Its objects are read.
    Watched,
}

/// The caches of a controller, by cluster and type.
#[derive(Default)]
pub(crate) struct Stores {
    kept: RwLock<Vec<Kept>>,
    last: AtomicU64,
    /// What is written besides what is owned, as it was declared.
    written: HashSet<TypeId>,
}

struct Kept {
    number: u64,
    cluster: String,
    form: TypeId,
    used: Use,
    store: Arc<dyn AnyStore>,
}

/// A store among those of a controller, until this is dropped.
pub(crate) struct InUse {
    stores: Arc<Stores>,
    number: u64,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut kept = self.stores.kept.write();
        kept.retain(|kept| kept.number != self.number);
    }
}

/// A store of any kind.
trait AnyStore: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    /// Adds the objects with this owner to what is in view.
    fn add_owned(&self, owner: &str, view: &mut Vec<InView>);
}

/// An object as views have it.
pub(crate) type InView = ((TypeId, ObjectKey), Option<String>);

/// What a turn saw when it began, and what it has written since.
pub(crate) struct Glimpse<S> {
    pub(crate) main: Option<Cached<S>>,
    others: Vec<InView>,
}

impl<T: Reconciled> AnyStore for Store<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn add_owned(&self, owner: &str, view: &mut Vec<InView>) {
        view.extend(self.owned_by(owner).iter().map(in_view));
    }
}

/// A written object as views have it.
pub(super) fn view_of<T: Reconciled>(object: &T) -> InView {
    (
        (TypeId::of::<T>(), key_of(object)),
        object.meta().resource_version.clone(),
    )
}

/// An object of a cache as views have it.
fn in_view<T: 'static>(object: &Cached<T>) -> InView {
    let version = object.resource_version();
    let version = (!version.is_empty()).then(|| version.into_owned());
    ((TypeId::of::<T>(), object.key().clone()), version)
}

impl Stores {
    pub(crate) fn new(written: HashSet<TypeId>) -> Self {
        Self {
            written,
            ..Self::default()
        }
    }

    /// Adds a store, for as long as what is returned is kept. Of several of one kind in one cluster, turns read the first one
    /// that is owned; if none is, the first one.
    pub(crate) fn add<T: Reconciled>(
        self: &Arc<Self>,
        cluster: &Cluster,
        store: Store<T>,
        used: Use,
    ) -> InUse {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.kept.write().push(Kept {
            number,
            cluster: cluster.name().to_owned(),
            form: TypeId::of::<T>(),
            used,
            store: Arc::new(store),
        });
        InUse {
            stores: self.clone(),
            number,
        }
    }

    /// The store of the controller's own kind.
    pub(crate) fn main<S: 'static>(&self) -> Option<Store<S>> {
        let kept = self.kept.read();
        let main = kept.iter().find(|kept| kept.used == Use::Main)?;
        main.store.as_any().downcast_ref::<Store<S>>().cloned()
    }

    /// The store of a kind in a cluster.
    pub(crate) fn get<T: Reconciled>(&self, cluster: &Cluster) -> Result<Store<T>> {
        self.find::<T>(cluster).map(|(store, _)| store)
    }

    /// The store of a kind that the controller has said it writes.
    pub(crate) fn to_write<T: Reconciled>(&self, cluster: &Cluster) -> Result<Store<T>> {
        let (store, used) = self.find::<T>(cluster)?;
        if used == Use::Watched && !self.written.contains(&TypeId::of::<T>()) {
            return Err(Error::NotDeclared(kind::<T>()));
        }
        Ok(store)
    }

    fn find<T: Reconciled>(&self, cluster: &Cluster) -> Result<(Store<T>, Use)> {
        let kept = self.kept.read();
        let found = kept
            .iter()
            .filter(|kept| kept.form == TypeId::of::<T>() && kept.cluster == cluster.name())
            .min_by_key(|kept| kept.used == Use::Watched);
        let store = found.and_then(|kept| {
            let store = kept.store.as_any().downcast_ref::<Store<T>>();
            store.map(|store| (store.clone(), kept.used))
        });
        store.ok_or_else(|| Error::NotWatched(kind::<T>()))
    }

    /// What is there of an owner.
    fn add_owned(&self, owner: &str, view: &mut Vec<InView>) {
        for kept in self.kept.read().iter().filter(|kept| kept.used == Use::Owned) {
            kept.store.add_owned(owner, view);
        }
    }

    fn owns_any(&self) -> bool {
        self.kept.read().iter().any(|kept| kept.used == Use::Owned)
    }
}

fn kind<T: Reconciled>() -> String {
    T::kind(&T::DynamicType::default()).into_owned()
}

impl<S: Subject> World<S> {
    /// What is to be seen of a key now.
    pub(crate) fn look(&self, key: &S::Key) -> Glimpse<S> {
        let key = S::object_key(key);
        let main = key.and_then(|key| self.store.as_ref()?.get(key));
        let mut others = Vec::new();
        if let Some(object) = main.as_ref().filter(|_| self.stores.owns_any()) {
            self.stores.add_owned(&object.uid(), &mut others);
        }
        Glimpse { main, others }
    }

    /// Keeps of what was applied for a key what its last turn has applied.
    pub(crate) fn keep_applied(&self, key: &S::Key, children: &[Child]) {
        self.applied.if_any(|applied| {
            if children.is_empty() {
                applied.remove(key);
            } else if let Some(known) = applied.get_mut(key) {
                known.retain(|child, _| children.contains(child));
            }
        });
    }

    /// Forgets what was applied for a key that is gone.
    pub(crate) fn forget(&self, key: &S::Key) {
        self.applied.if_any(|applied| applied.remove(key));
    }
}

impl<S: 'static> Glimpse<S> {
    /// Takes note of a write: what it led to is no news.
    pub(super) fn wrote(&mut self, written: InView) {
        self.others.push(written);
    }

    pub(crate) fn view(&self) -> View {
        let main = self.main.as_ref().map(in_view);
        // What was written comes after what was seen, and takes its place.
        main.into_iter().chain(self.others.iter().cloned()).collect()
    }
}

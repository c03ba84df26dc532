//! Watches as sources: each change of a kind is mapped to the keys that it may concern.
//!
//! A change is mapped from what the object was and from what it is, so that an owner that loses a child hears of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use kube::core::ObjectMeta;
use trimtab_apimachinery_meta::{GroupKind, LabelSelector, ObjectKey, owner};
use trimtab_client_cache::index::{Index, IndexError};
use trimtab_client_cache::informer::{Handling, Registration, Selection, SharedInformer};
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, Delta, Object};
use trimtab_client_workqueue::Add;

use super::{Inlet, LOW, Running, Sight, Source};
use crate::cluster::Cluster;
use crate::predicate::Predicate;
use crate::rbac::Rule;
use crate::share::Share;
use crate::subject::{Reconciled, RequestKey};
use crate::turn::{InUse, Stores, Use, is_namespaced};

/// Which objects of a kind are watched, and which of their changes matter. The default is what the manager
/// [selects](crate::Manager::selecting), and every change.
pub struct Watch<T> {
    predicate: Option<Predicate<T>>,
    selection: Option<Selection>,
    priority: i32,
    cluster: Option<Cluster>,
}

impl<T> Watch<T> {
    /// What the manager selects, and every change.
    pub fn new() -> Self {
        Self {
            predicate: None,
            selection: None,
            priority: 0,
            cluster: None,
        }
    }

    /// Of the changes, those that matter by this predicate as well.
    #[must_use]
    pub fn when(mut self, predicate: Predicate<T>) -> Self
    where
        T: 'static,
    {
        self.predicate = Some(match self.predicate.take() {
            Some(before) => before.and(predicate),
            None => predicate,
        });
        self
    }

    /// These objects instead of those that the manager selects. Where the selection leaves out fields
    /// ([`Selection::without`]), never write back a whole object.
    #[must_use]
    pub fn selecting(mut self, selection: Selection) -> Self {
        self.selection = Some(selection);
        self
    }

    /// The priority of what changes trigger; the default is 0. First lists have [`LOW`] if that is lower.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The objects of another cluster than the controller's.
    #[must_use]
    pub fn on(mut self, cluster: &Cluster) -> Self {
        self.cluster = Some(cluster.clone());
        self
    }

    pub(crate) fn is_on(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }
}

impl<T> Default for Watch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("selection", &self.selection)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl<Q: RequestKey> Source<Q> {
    /// Watches a kind: a change triggers the keys that `map` finds for the object before and after it. `map` must be quick
    /// and must not depend on what it was asked before. For an object that cannot be decoded nothing is found, until it
    /// changes.
    pub fn watch<T: Reconciled>(watch: Watch<T>, map: impl Fn(&T) -> Vec<Q> + Send + Sync + 'static) -> Self {
        Self::watch_cached(watch, move |object: &Cached<T>| {
            object.decode().map(|object| map(&object)).unwrap_or_default()
        })
    }

    /// [`Source::watch`] by what is at hand of cached objects: keys, labels, owners and single fields, none of which costs a
    /// decoding.
    pub fn watch_cached<T: Reconciled>(
        watch: Watch<T>,
        map: impl Fn(&Cached<T>) -> Vec<Q> + Send + Sync + 'static,
    ) -> Self {
        of(watch, Sight::Hidden, Use::Watched, map)
    }
}

/// The caches of a controller, as its sources see them: what maps a change to keys may look things up.
#[derive(Clone)]
pub struct Caches {
    stores: Arc<Stores>,
    cluster: Cluster,
}

impl Caches {
    /// The watched objects of a kind in the controller's cluster; `None` while the controller has no watch of them.
    pub fn store<T: Reconciled>(&self) -> Option<Store<T>> {
        self.stores.get(&self.cluster).ok()
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caches").field(&self.cluster).finish()
    }
}

impl<Q: RequestKey> Source<Q> {
    /// [`Source::watch_cached`], for keys that are found with the help of the controller's other caches. What these hold may be
    /// older or newer than the change: a kind that the answer depends on must trigger the keys itself as well.
    pub fn watch_related<T: Reconciled>(
        watch: Watch<T>,
        map: impl Fn(&Cached<T>, &Caches) -> Vec<Q> + Send + Sync + 'static,
    ) -> Self {
        Self {
            what: T::kind(&T::DynamicType::default()).into_owned(),
            rules: Rule::watched::<T>(),
            start: Box::new(move |inlet, own, stores| {
                let caches = Caches {
                    stores: stores.clone(),
                    cluster: own.clone(),
                };
                let map = move |object: &Cached<T>| map(object, &caches);
                let source = of(watch, Sight::Hidden, Use::Watched, map);
                (source.start)(inlet, own, stores)
            }),
        }
    }
}

/// Watches what `K`s may adopt: those that select an object without a controller hear of it.
pub(crate) fn of_orphans<K: Reconciled, T: Reconciled>(
    selector: impl Fn(&K) -> Option<LabelSelector> + Send + Sync + 'static,
) -> Source<ObjectKey> {
    Source {
        what: T::kind(&T::DynamicType::default()).into_owned(),
        rules: Rule::watched::<T>(),
        start: Box::new(move |inlet, own, stores| {
            let index = own
                .informers()
                .informer::<T>(selection::<T>(own, None))
                .store()
                .add_index(Index::orphans());
            debug_assert!(!matches!(index, Err(IndexError::Unknown(_))), "{index:?}");
            let source = Source::watch_related(Watch::new(), move |object: &Cached<T>, caches| {
                let belonging = object.belonging();
                let Some(store) = caches
                    .store::<K>()
                    .filter(|_| belonging.controller.is_none() && !belonging.deleting)
                else {
                    return Vec::new();
                };
                let selects = |candidate: &Cached<K>| {
                    let selector = candidate.decode().ok().and_then(|owner| selector(&owner));
                    selector
                        .is_some_and(|selector| !selector.is_empty() && belonging.is_selected_by(&selector))
                };
                let here = store.list_in(object.namespace()).into_iter().filter(selects);
                here.map(|owner| owner.key().clone()).collect()
            });
            (source.start)(inlet, own, stores)
        }),
    }
}

/// Watches the controller's own kind.
pub(crate) fn of_itself<K: Reconciled>(watch: Watch<K>) -> Source<ObjectKey> {
    let mut source = of(watch, Sight::InView, Use::Main, |object: &Cached<K>| {
        [object.key().clone()]
    });
    source.rules = Rule::main::<K>();
    source
}

/// Watches what is made for `K`s: the object's controller, if that is a `K`, hears of it.
pub(crate) fn of_owned<K: Reconciled, T: Reconciled>(watch: Watch<T>) -> Source<ObjectKey> {
    let sight = if watch.is_on().is_some() {
        Sight::Hidden
    } else {
        Sight::InView
    };
    let mut source = of(watch, sight, Use::Owned, controller::<K, T>);
    source.rules = Rule::owned::<K, T>();
    source
}

/// Watches what `K`s refer to: those that refer to an object hear of it.
pub(crate) fn of_referred<K: Reconciled, T: Reconciled>(
    watch: Watch<T>,
    references: impl Fn(&K) -> Vec<ObjectKey> + Send + Sync + 'static,
) -> Source<ObjectKey> {
    let kind = T::kind(&T::DynamicType::default()).into_owned();
    Source {
        what: kind.clone(),
        rules: Rule::watched::<T>(),
        start: Box::new(move |inlet, own, stores| {
            let referring = stores
                .main::<K>()
                .map(|store| Referring::new(store, &kind, references));
            let map = move |object: &Cached<T>| match &referring {
                Some(referring) => referring.to(object.key()),
                None => Vec::new(),
            };
            let source = of(watch, Sight::Hidden, Use::Watched, map);
            (source.start)(inlet, own, stores)
        }),
    }
}

/// Finds the objects that refer to another one, as long as this is kept.
struct Referring<K: Object> {
    store: Store<K>,
    /// The index of references, which no other source has.
    index: String,
}

impl<K: Reconciled> Referring<K> {
    fn new(
        store: Store<K>,
        kind: &str,
        references: impl Fn(&K) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let index = format!("refers-to-{}-{number}", kind.to_lowercase());
        let values = move |object: &K| references(object).iter().map(ObjectKey::to_string).collect();
        let added = store.add_index(Index::new(index.clone(), values));
        debug_assert_eq!(added, Ok(()), "the number makes it a name of its own");
        Self { store, index }
    }
}

impl<K: Object> Referring<K> {
    fn to(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let referring = self.store.by_index(&self.index, &key.to_string());
        let referring = referring.unwrap_or_default();
        referring.iter().map(|object| object.key().clone()).collect()
    }
}

impl<K: Object> Drop for Referring<K> {
    fn drop(&mut self) {
        self.store.remove_index(&self.index);
    }
}

/// What is selected of one kind, of all that a manager selects: which objects is said of kinds with namespaces, what is kept of
/// them of all.
fn selection<T: Object>(of_cluster: &Cluster, own: Option<Selection>) -> Selection {
    match own {
        Some(own) => own,
        None if is_namespaced::<T>() => of_cluster.selection().clone(),
        None => of_cluster.selection().clone().without_filters(),
    }
}

fn of<T: Reconciled, Q: RequestKey, Found: IntoIterator<Item = Q> + 'static>(
    watch: Watch<T>,
    sight: Sight,
    used: Use,
    map: impl Fn(&Cached<T>) -> Found + Send + Sync + 'static,
) -> Source<Q> {
    let kind = T::kind(&T::DynamicType::default()).into_owned();
    Source {
        what: kind.clone(),
        rules: Rule::watched::<T>(),
        start: Box::new(move |inlet, own, stores| {
            let cluster = watch.cluster.as_ref().unwrap_or(own);
            let selection = selection::<T>(cluster, watch.selection);
            let informer = cluster.informers().informer::<T>(selection);
            let in_use = stores.add(cluster, informer.store(), used);
            let map = Arc::new(Map {
                kind,
                inlet,
                sight,
                priority: watch.priority,
                predicate: watch.predicate,
                map,
            });
            let handled = map.clone();
            let name = handled.kind.clone();
            let handler = informer.add_handler_with(Handling::named(name), move |delta| handled.told(&delta));
            Box::new(Watching {
                map,
                informer,
                handler,
                _in_use: in_use,
            })
        }),
    }
}

/// From changes to keys.
struct Map<T, Q, F> {
    kind: String,
    inlet: Inlet<Q>,
    sight: Sight,
    priority: i32,
    predicate: Option<Predicate<T>>,
    map: F,
}

struct Watching<T: Object, Q, F> {
    map: Arc<Map<T, Q, F>>,
    informer: SharedInformer<T>,
    handler: Registration<T>,
    _in_use: InUse,
}

impl<T: Reconciled, Q: RequestKey, Found, F> Map<T, Q, F>
where
    F: Fn(&Cached<T>) -> Found,
    Found: IntoIterator<Item = Q>,
{
    fn told(&self, delta: &Delta<T>) {
        if self
            .predicate
            .as_ref()
            .is_some_and(|predicate| !predicate.matters(delta))
        {
            return;
        }
        let (before, after, verb) = match delta {
            Delta::Added { object, .. } => (None, object, "added"),
            Delta::Updated { old, new } => (Some(old), new, "updated"),
            Delta::Deleted { last, .. } => (None, last, "deleted"),
            other => (None, other.object(), "changed"),
        };
        let initial = matches!(delta, Delta::Added { initial: true, .. });
        let priority = if initial {
            self.priority.min(LOW)
        } else {
            self.priority
        };
        let mut keys: Vec<_> = (self.map)(after).into_iter().collect();
        if let Some(before) = before {
            let also: Vec<_> = (self.map)(before).into_iter().collect();
            if also != keys {
                keys.extend(also);
            }
        }
        if keys.len() > 1 {
            keys = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        for key in keys {
            let add = Add::now().priority(priority);
            // Nobody asks why a key is there that was there before.
            let add = if initial {
                add.because("listed")
            } else {
                add.because(format!("{} {} {verb}", self.kind, delta.key()))
            };
            self.inlet.add(key, self.sight, add);
        }
    }
}

impl<T: Reconciled, Q: RequestKey, Found, F> Running for Watching<T, Q, F>
where
    F: Fn(&Cached<T>) -> Found + Send + Sync,
    Found: IntoIterator<Item = Q>,
{
    fn what(&self) -> String {
        self.map.kind.clone()
    }

    fn is_synced(&self) -> bool {
        self.handler.is_synced()
    }

    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.handler.synced())
    }

    fn trouble(&self) -> Option<String> {
        let reflectors = self.informer.status().reflectors;
        reflectors.into_iter().find_map(|reflector| reflector.trouble)
    }

    fn again(&self, add: &Add, share: &Share) {
        let map = &*self.map;
        let objects = self.informer.store().list();
        let keys = objects.iter().flat_map(|object| (map.map)(object));
        let keys: Vec<_> = keys.filter(|key| share.has(key)).collect();
        let _shut_down = map.inlet.queue.add_all(keys, add);
    }
}

/// The object's controller, if that is a `K`.
fn controller<K: Reconciled, T: Reconciled>(object: &Cached<T>) -> Vec<ObjectKey> {
    let owner_kind = K::DynamicType::default();
    let wanted = GroupKind::new(K::group(&owner_kind), K::kind(&owner_kind));
    let owners = ObjectMeta {
        owner_references: object.read(["metadata", "ownerReferences"]).unwrap_or_default(),
        ..ObjectMeta::default()
    };
    let reference = owner::controller_of(&owners).filter(|reference| {
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        GroupKind::new(group, &reference.kind) == wanted
    });
    let namespace = is_namespaced::<K>().then(|| object.namespace().to_owned());
    let key = reference.map(|reference| ObjectKey {
        namespace: namespace.unwrap_or_default(),
        name: reference.name.clone(),
    });
    key.into_iter().collect()
}

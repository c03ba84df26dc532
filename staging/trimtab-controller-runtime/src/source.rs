//! What triggers turns: changes of watched kinds, each mapped to the keys that it may concern.
//!
//! A source adds keys and reasons to the queue and nothing else; what is done about them follows from the state alone
//! (*Level-triggered*). A change is mapped from what the object was and from what it is, so that an owner that loses
//! a child hears of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::core::ObjectMeta;
use trimtab_apimachinery_meta::{GroupKind, ObjectKey, owner};
use trimtab_client_cache::informer::{InformerFactory, Registration, Selection, SharedInformer};
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_workqueue::{Add, WorkQueue};

use crate::failing::Failing;
use crate::reconcile::Reconciled;
use crate::turn::{Stores, is_namespaced};

/// The priority of keys that nobody waits for: first lists and resyncs. controller-runtime's figure.
pub(crate) const LOW: i32 = -100;

/// A source that has not been started: starts it and makes its store known.
pub(crate) type Source = Box<dyn FnOnce(&InformerFactory, &Selection, &mut Stores) -> Box<dyn Watch> + Send>;

/// All sources of one controller.
pub(crate) type Watches = Arc<[Box<dyn Watch>]>;

/// A running source.
pub(crate) trait Watch: Send + Sync {
    /// The watched kind, for people.
    fn kind(&self) -> &str;
    /// Whether the first list is in the store, and all of its keys are in the queue.
    fn is_synced(&self) -> bool;
    /// Waits for that.
    fn synced(&self) -> BoxFuture<'_, ()>;
    /// What the watch struggles with.
    fn trouble(&self) -> Option<String>;
}

struct Watching<T: Reconciled> {
    kind: String,
    informer: SharedInformer<T>,
    handler: Registration<T>,
}

/// Where triggers go. Clones lead to the same place.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) failing: Arc<Failing>,
}

/// Whether turns have what changed in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The key's own object, or one that it owns.
    InView,
    /// Anything else: that it changed has to be remembered.
    Hidden,
}

impl Inlet {
    /// Gives a key a turn. False: the queue is shut down and takes nothing more.
    pub(crate) fn add(&self, key: ObjectKey, sight: Sight, add: Add) -> bool {
        if sight == Sight::Hidden {
            self.failing.nudge(&key);
        }
        self.queue.add_with(key, add).is_ok()
    }
}

/// Starts to watch a kind: each change adds the keys that `map` finds for the object before and after it, unless
/// `matters` says that the change is none.
pub(crate) fn watch<T: Reconciled>(
    inlet: Inlet,
    sight: Sight,
    map: impl Fn(&Cached<T>) -> Vec<ObjectKey> + Send + 'static,
    matters: impl Fn(&Cached<T>, &Cached<T>) -> bool + Send + 'static,
) -> Source {
    Box::new(move |factory, selection, stores| {
        let kind = T::kind(&T::DynamicType::default()).into_owned();
        let informer = factory.informer::<T>(self::selection::<T>(selection));
        stores.add(informer.store());
        let told = kind.clone();
        let handler = informer.add_handler(move |delta| {
            if let Delta::Updated { old, new } = &delta
                && !matters(old, new)
            {
                return;
            }
            trigger(&inlet, sight, &told, &delta, &map);
        });
        Box::new(Watching {
            kind,
            informer,
            handler,
        })
    })
}

/// What a manager selects, of one kind: a namespace means nothing to kinds without namespaces.
pub(crate) fn selection<T: Reconciled>(of_manager: &Selection) -> Selection {
    if is_namespaced::<T>() {
        of_manager.clone()
    } else {
        Selection::all()
    }
}

fn trigger<T: Reconciled>(
    inlet: &Inlet,
    sight: Sight,
    kind: &str,
    delta: &Delta<T>,
    map: &impl Fn(&Cached<T>) -> Vec<ObjectKey>,
) {
    let (objects, verb) = match delta {
        Delta::Added { object, .. } => (vec![object], "added"),
        Delta::Updated { old, new } => (vec![old, new], "updated"),
        Delta::Deleted { last, .. } => (vec![last], "deleted"),
        other => (vec![other.object()], "changed"),
    };
    let priority = if matches!(delta, Delta::Added { initial: true, .. }) {
        LOW
    } else {
        0
    };
    let keys: BTreeSet<ObjectKey> = objects.into_iter().flat_map(map).collect();
    for key in keys {
        let add = Add::now()
            .priority(priority)
            .because(format!("{kind} {} {verb}", delta.key()));
        inlet.add(key, sight, add);
    }
}

/// The object itself.
pub(crate) fn itself<K: Reconciled>(object: &Cached<K>) -> Vec<ObjectKey> {
    vec![object.key().clone()]
}

/// What is found for the object as a value of its type. For one that cannot be decoded nothing is, until it changes; the
/// cache has said so.
pub(crate) fn decoded<T: Reconciled>(
    map: impl Fn(&T) -> Vec<ObjectKey>,
) -> impl Fn(&Cached<T>) -> Vec<ObjectKey> {
    move |object| object.decode().map(|object| map(&object)).unwrap_or_default()
}

/// The object's controller, if that is a `K`.
pub(crate) fn controller<K: Reconciled, T: Reconciled>(object: &Cached<T>) -> Vec<ObjectKey> {
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

/// Any new version is a change.
pub(crate) fn any<T: Reconciled>(_: &Cached<T>, _: &Cached<T>) -> bool {
    true
}

/// Whether more than the status has changed: the spec, by its generation, or the metadata that people and finalizers
/// change.
pub(crate) fn beyond_status<T: Reconciled>(old: &Cached<T>, new: &Cached<T>) -> bool {
    const WATCHED: [&str; 5] = [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "deletionTimestamp",
    ];
    old.generation() != new.generation()
        || new.generation().is_none()
        || WATCHED
            .iter()
            .any(|field| !old.has_same(new, ["metadata", field]))
}

impl<T: Reconciled> Watch for Watching<T> {
    fn kind(&self) -> &str {
        &self.kind
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
}

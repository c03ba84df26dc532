//! What controllers work on: the objects of a kind, or keys of the author's own.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::cached::Undecodable;
use trimtab_client_cache::{Cached, Object};

use crate::error::Result;
use crate::source::{self, Source, Watch};
use crate::turn::Turn;

/// A kind that controllers work on: one that can be watched and written, and whose type says which kind it is.
///
/// Implemented for every type that fits: those of `k8s-openapi`, derived custom resources, and
/// `PartialObjectMeta` of either, of which only metadata is watched.
pub trait Reconciled: Object<DynamicType: Default> + Serialize + Clone {}

impl<K: Object<DynamicType: Default> + Serialize + Clone> Reconciled for K {}

/// What a controller's queue holds. It says what to look at, never what happened; people read its `Display` form in logs
/// and on the live page.
///
/// Implemented for every type that fits.
pub trait RequestKey: Clone + Eq + Ord + Hash + Debug + Display + Send + Sync + 'static {}

impl<Q: Clone + Eq + Ord + Hash + Debug + Display + Send + Sync + 'static> RequestKey for Q {}

/// What a controller reconciles: a kind (every [`Reconciled`] is one), or [`Keyed`] by something else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a controller reconciles",
    note = "use a kind that can be decoded, encoded and cloned, or `Keyed<Q>` for keys of your own"
)]
pub trait Subject: Main<MainKey = Self::Key> {
    /// The keys in the controller's queue.
    type Key: RequestKey;
}

/// The subject of a controller without an object of its own: its turns have a key of the author's type and no latest
/// object. What such a controller looks at are the stores of what it watches.
pub struct Keyed<Q>(PhantomData<fn() -> Q>);

impl<Q> Debug for Keyed<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

impl<K: Reconciled> Subject for K {
    type Key = ObjectKey;
}

impl<Q: RequestKey> Subject for Keyed<Q> {
    type Key = Q;
}

/// Where the two sorts of subjects differ. Nobody else implements it.
pub trait Main: Sized + Send + Sync + 'static {
    /// [`Subject::Key`].
    type MainKey: RequestKey;

    /// The kind, if the subject is one: what the controller is called, in lower case, unless told otherwise.
    fn kind_name() -> Option<String>;

    /// The watch of the subject itself.
    fn source(watch: Watch<Self>) -> Option<Source<Self::MainKey>>;

    /// Under which key the subject is stored, if it is an object.
    fn object_key(key: &Self::MainKey) -> Option<&ObjectKey>;

    /// The object behind a cached state, without its managed fields.
    fn decode(cached: &Cached<Self>) -> Result<Arc<Self>, Undecodable>;

    /// Writes the status that the turn has collected, if it has any.
    fn flush(turn: &mut Turn<Self>) -> Option<BoxFuture<'_, Result<()>>>
    where
        Self: Subject;
}

impl<K: Reconciled> Main for K {
    type MainKey = ObjectKey;

    fn kind_name() -> Option<String> {
        Some(K::kind(&K::DynamicType::default()).into_owned())
    }

    fn source(watch: Watch<Self>) -> Option<Source<ObjectKey>> {
        Some(source::of_itself(watch))
    }

    fn object_key(key: &ObjectKey) -> Option<&ObjectKey> {
        Some(key)
    }

    fn decode(cached: &Cached<Self>) -> Result<Arc<Self>, Undecodable> {
        cached.decode_unmanaged()
    }

    fn flush(turn: &mut Turn<Self>) -> Option<BoxFuture<'_, Result<()>>> {
        turn.has_status().then(|| turn.flush().boxed())
    }
}

impl<Q: RequestKey> Main for Keyed<Q> {
    type MainKey = Q;

    fn kind_name() -> Option<String> {
        None
    }

    fn source(_: Watch<Self>) -> Option<Source<Q>> {
        None
    }

    fn object_key(_: &Q) -> Option<&ObjectKey> {
        None
    }

    fn decode(_: &Cached<Self>) -> Result<Arc<Self>, Undecodable> {
        Ok(Arc::new(Self(PhantomData)))
    }

    fn flush(_: &mut Turn<Self>) -> Option<BoxFuture<'_, Result<()>>> {
        None
    }
}

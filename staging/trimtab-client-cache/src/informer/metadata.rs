//! Informers of whatever type, for what is the same with all kinds: metadata.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Core, Handling, InformerStatus, Registration, SharedInformer, Synced};
use crate::cached::AnyObject;
use crate::store::WaitError;
use crate::{Delta, Object};

/// A running informer, of which at least the metadata of objects can be relied on, whatever type others read them as. Made
/// by [`InformerFactory::metadata_of`](super::InformerFactory::metadata_of). Clones share it; it stops when the last clone,
/// registration and [`SharedInformer`] is dropped.
#[derive(Clone)]
pub struct MetadataInformer(Arc<dyn Running>);

/// What has happened to an object. As of [`Delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The handler has not seen this object before.
    Added {
        /// Whether it was there when the handler joined or the informer started.
        initial: bool,
    },
    /// The object has another resource version than when the handler last saw it, or is told again.
    Updated,
    /// The object is gone. What is told of it is its last known state.
    Deleted {
        /// Whether the server told of the deletion. Otherwise it was inferred.
        observed: bool,
    },
}

/// A handler's place at a [`MetadataInformer`]. Dropping it leaves: the handler is told nothing more.
#[must_use = "dropping the registration removes the handler"]
pub struct MetadataRegistration {
    synced: Synced,
    seat: Box<dyn Leave>,
}

type Handler = Box<dyn FnMut(Change, AnyObject<'_>) + Send>;

/// An informer of any type.
pub(crate) trait Running: Any + Send + Sync {
    fn status(&self) -> InformerStatus;
    fn handle(self: Arc<Self>, handling: Handling, handler: Handler) -> MetadataRegistration;
    fn synced(&self) -> BoxFuture<'_, Result<(), WaitError>>;
}

trait Leave: Send + Sync {
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

// === impl MetadataInformer ===

impl MetadataInformer {
    pub(crate) fn new(running: Arc<dyn Running>) -> Self {
        Self(running)
    }

    /// Calls `handler` with every change, one after the other, beginning with all objects that are there; see
    /// [`SharedInformer::add_handler_with`], whose rules hold.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn add_handler_with(
        &self,
        handling: Handling,
        handler: impl FnMut(Change, AnyObject<'_>) + Send + 'static,
    ) -> MetadataRegistration {
        self.0.clone().handle(handling, Box::new(handler))
    }

    /// Waits until the store has the first list.
    ///
    /// # Errors
    /// [`WaitError::Stopped`]: the informer's runtime is shutting down.
    pub async fn synced(&self) -> Result<(), WaitError> {
        self.0.synced().await
    }

    /// What the informer is doing.
    pub fn status(&self) -> InformerStatus {
        self.0.status()
    }
}

impl fmt::Debug for MetadataInformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        f.debug_struct("MetadataInformer")
            .field("resource", &status.resource)
            .field("selection", &status.selection)
            .finish_non_exhaustive()
    }
}

impl<K: Object> Running for Core<K> {
    fn status(&self) -> InformerStatus {
        Self::status(self)
    }

    fn handle(self: Arc<Self>, handling: Handling, mut handler: Handler) -> MetadataRegistration {
        let told = move |delta: Delta<K>| handler(Change::of(&delta), delta.object().any());
        let registration = SharedInformer::from_core(self).handle(handling, Box::new(told));
        MetadataRegistration {
            synced: registration.sync_signal(),
            seat: Box::new(registration),
        }
    }

    fn synced(&self) -> BoxFuture<'_, Result<(), WaitError>> {
        self.hub.store.synced().boxed()
    }
}

// === impl Change ===

impl Change {
    fn of<K>(delta: &Delta<K>) -> Self {
        match *delta {
            Delta::Added { initial, .. } => Self::Added { initial },
            Delta::Updated { .. } => Self::Updated,
            Delta::Deleted { observed, .. } => Self::Deleted { observed },
        }
    }
}

// === impl MetadataRegistration ===

impl MetadataRegistration {
    /// Waits until the handler has handled the whole initial list (*Synced*).
    pub async fn synced(&self) {
        self.synced.wait().await;
    }

    /// What says when the handler is synced, to be kept elsewhere.
    pub fn sync_signal(&self) -> Synced {
        self.synced.clone()
    }

    /// Removes the handler and waits until a call that is under way has returned; as [`Registration::leave`].
    pub async fn leave(self) {
        self.seat.leave().await;
    }
}

impl fmt::Debug for MetadataRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataRegistration")
            .field("synced", &self.synced.is_synced())
            .finish_non_exhaustive()
    }
}

impl<K: Object> Leave for Registration<K> {
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Self::leave(*self).boxed()
    }
}

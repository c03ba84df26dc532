//! Informers of whatever type, for what is the same with all kinds: metadata.

use std::fmt;
use std::sync::Arc;

use super::{Core, Handling, InformerStatus, Place, Synced};
use crate::Delta;
use crate::cached::{AnyObject, Untyped};
use crate::store::WaitError;

/// A running informer, of which at least the metadata of objects can be relied on, whatever type others read them as. Made
/// by [`InformerFactory::metadata_of`](super::InformerFactory::metadata_of). Clones share it; it stops when the last clone,
/// registration and [`SharedInformer`](super::SharedInformer) is dropped.
#[derive(Clone)]
pub struct MetadataInformer(Arc<Core>);

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
pub struct MetadataRegistration(Place);

// === impl MetadataInformer ===

impl MetadataInformer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// Calls `handler` with every change, one after the other, beginning with all objects that are there; see
    /// [`SharedInformer::add_handler_with`](super::SharedInformer::add_handler_with), whose rules hold.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn add_handler_with(
        &self,
        handling: Handling,
        mut handler: impl FnMut(Change, AnyObject<'_>) + Send + 'static,
    ) -> MetadataRegistration {
        let told = move |delta: Delta<Untyped>| handler(Change::of(&delta), delta.object().any());
        MetadataRegistration(self.0.handle(handling, Box::new(told)))
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

// === impl Change ===

impl Change {
    fn of(delta: &Delta<Untyped>) -> Self {
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
        self.0.sync_signal().wait().await;
    }

    /// What says when the handler is synced, to be kept elsewhere.
    pub fn sync_signal(&self) -> Synced {
        self.0.sync_signal()
    }

    /// Removes the handler and waits until a call that is under way has returned; as
    /// [`Registration::leave`](super::Registration::leave).
    pub async fn leave(self) {
        self.0.leave().await;
    }
}

impl fmt::Debug for MetadataRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataRegistration")
            .field("synced", &self.0.sync_signal().is_synced())
            .finish_non_exhaustive()
    }
}

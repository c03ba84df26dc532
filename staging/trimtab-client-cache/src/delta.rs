//! One change of one object, as told to handlers.

use std::fmt;
use std::sync::Arc;

use kube::Resource;
use trimtab_apimachinery_meta::ObjectKey;

use crate::object::key_of;

/// One change of one object. The store has it already when a handler is told.
///
/// An object that was deleted and made again under the same name, thus with another UID, is a [`Delta::Deleted`]
/// followed by a [`Delta::Added`], also when both happened while nobody was looking.
#[non_exhaustive]
pub enum Delta<K> {
    /// The handler has not seen this object before.
    Added {
        /// The object.
        object: Arc<K>,
        /// Whether it was there when the handler joined or the informer started.
        initial: bool,
    },
    /// The object has another resource version than when the handler last saw it.
    Updated {
        /// What the handler saw last.
        old: Arc<K>,
        /// What is now.
        new: Arc<K>,
    },
    /// The object is gone. A handler that is behind may hear of the end of an object that it has never seen.
    Deleted {
        /// Its last known state.
        last: Arc<K>,
        /// Whether the server told of the deletion. Otherwise it was inferred, and `last` may be older than what was
        /// deleted.
        observed: bool,
    },
}

impl<K> Delta<K> {
    /// The newest state of the object.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added { object, .. } => object,
            Self::Updated { new, .. } => new,
            Self::Deleted { last, .. } => last,
        }
    }
}

impl<K: Resource> Delta<K> {
    /// The key of the object.
    pub fn key(&self) -> ObjectKey {
        key_of(&**self.object())
    }
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added { object, initial } => Self::Added {
                object: object.clone(),
                initial: *initial,
            },
            Self::Updated { old, new } => Self::Updated {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted { last, observed } => Self::Deleted {
                last: last.clone(),
                observed: *observed,
            },
        }
    }
}

impl<K: Resource> fmt::Debug for Delta<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Added { initial: true, .. } => "added initially",
            Self::Added { .. } => "added",
            Self::Updated { .. } => "updated",
            Self::Deleted { observed: true, .. } => "deleted",
            Self::Deleted { .. } => "found deleted",
        };
        write!(f, "{} {what}", self.key())
    }
}

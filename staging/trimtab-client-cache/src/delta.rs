//! One change of one object, as told to handlers.

use std::fmt;

use trimtab_apimachinery_meta::ObjectKey;

use crate::cached::Cached;

/// One change of one object. The store has it already when a handler is told.
///
/// An object that was deleted and made again under the same name, thus with another UID, is a [`Delta::Deleted`]
/// followed by a [`Delta::Added`], also when both happened while nobody was looking.
#[non_exhaustive]
pub enum Delta<K> {
    /// The handler has not seen this object before.
    Added {
        /// The object.
        object: Cached<K>,
        /// Whether it was there when the handler joined or the informer started.
        initial: bool,
    },
    /// The object has another resource version than when the handler last saw it; or it is told again, with the same state
    /// twice, to a handler that asked for it ([`Delta::is_resync`]).
    Updated {
        /// What the handler saw last.
        old: Cached<K>,
        /// What is now.
        new: Cached<K>,
    },
    /// The object is gone. A handler that is behind may hear of the end of an object that it has never seen.
    Deleted {
        /// Its last known state.
        last: Cached<K>,
        /// Whether the server told of the deletion. Otherwise it was inferred, and `last` may be older than what was
        /// deleted.
        observed: bool,
    },
}

impl<K> Delta<K> {
    /// The newest state of the object.
    pub fn object(&self) -> &Cached<K> {
        match self {
            Self::Added { object, .. } => object,
            Self::Updated { new, .. } => new,
            Self::Deleted { last, .. } => last,
        }
    }
}

impl<K> Delta<K> {
    /// The same change, as one of a `T`.
    pub(crate) fn cast<T>(self) -> Delta<T> {
        match self {
            Self::Added { object, initial } => Delta::Added {
                object: object.cast(),
                initial,
            },
            Self::Updated { old, new } => Delta::Updated {
                old: old.cast(),
                new: new.cast(),
            },
            Self::Deleted { last, observed } => Delta::Deleted {
                last: last.cast(),
                observed,
            },
        }
    }

    /// The key of the object.
    pub fn key(&self) -> &ObjectKey {
        self.object().key()
    }

    /// Whether nothing has changed: the handler asked to be told again from time to time.
    pub fn is_resync(&self) -> bool {
        matches!(self, Self::Updated { old, new } if old.is(new))
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

impl<K> fmt::Debug for Delta<K> {
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

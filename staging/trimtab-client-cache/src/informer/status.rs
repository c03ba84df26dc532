//! What an informer is doing and whether it can be relied upon.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Core, Handler, Selection};
use crate::reflector::{Status, StatusHandle};

/// What an informer is doing, for people and metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InformerStatus {
    /// The kind of the objects, as the server calls it.
    pub kind: String,
    /// The resource with its group, as `deployments.apps`.
    pub resource: String,
    /// Whether only metadata is asked of the server.
    pub metadata_only: bool,
    /// Which of them, and what is kept of them.
    pub selection: Selection,
    /// Whether the first list is in the store.
    pub synced: bool,
    /// The resource version that the store is at.
    pub resource_version: String,
    /// How many objects are stored.
    pub objects: usize,
    /// Bytes that they take; see [`Store::size`](crate::store::Store::size).
    pub bytes: usize,
    /// How often an object was found not to be of the type.
    pub undecodable: u64,
    /// The handlers, in the order in which they joined.
    pub handlers: Vec<HandlerStatus>,
    /// How many deltas were lost to a panic of their handler.
    pub handler_panics: u64,
    /// What the reflectors have done and what they struggle with: one, or one for each namespace.
    pub reflectors: Vec<Status>,
}

/// How a handler is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerStatus {
    /// What it is called.
    pub name: String,
    /// How many objects it still has to be told of.
    pub backlog: usize,
    /// Whether it has handled the whole initial list.
    pub synced: bool,
}

/// What is wrong with an informer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unhealthy {
    /// There is no first list, and the last try has failed.
    #[error("{kind} are not listed yet: {trouble}")]
    NotSynced {
        /// The kind that is watched.
        kind: String,
        /// What failed last.
        trouble: String,
    },
    /// The server has not said anything for longer than it should take. What the store has may be old.
    #[error("no word of {kind} from the server for {silent_for:?}{trouble}")]
    Silent {
        /// The kind that is watched.
        kind: String,
        /// For how long.
        silent_for: Duration,
        /// What failed last, after a colon, if anything did.
        trouble: String,
    },
}

impl InformerStatus {
    /// Whether the informer can be relied upon.
    ///
    /// # Errors
    /// [`Unhealthy`], where it cannot. An informer that is only slow to begin is healthy.
    pub fn health(&self) -> Result<(), Unhealthy> {
        let kind = || self.kind.clone();
        for reflector in &self.reflectors {
            if reflector.silent_for > reflector.silence_expected {
                let trouble = reflector.trouble.as_ref();
                return Err(Unhealthy::Silent {
                    kind: kind(),
                    silent_for: reflector.silent_for,
                    trouble: trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default(),
                });
            }
        }
        let trouble = self
            .reflectors
            .iter()
            .find_map(|reflector| reflector.trouble.clone());
        match trouble {
            Some(trouble) if !self.synced => Err(Unhealthy::NotSynced {
                kind: kind(),
                trouble,
            }),
            _ => Ok(()),
        }
    }
}

impl Core {
    pub(crate) fn status(&self) -> InformerStatus {
        let hub = &self.hub;
        let status_of = |handler: &Handler| HandlerStatus {
            name: handler.name.clone(),
            backlog: handler.mailbox.backlog(),
            synced: *handler.mailbox.synced().borrow(),
        };
        let handlers = hub.inlet.lock().handlers.iter().map(status_of).collect();
        InformerStatus {
            kind: self.kind.clone(),
            resource: self.resource.clone(),
            metadata_only: self.metadata_only,
            selection: self.selection.clone(),
            synced: hub.store.is_synced(),
            resource_version: hub.store.resource_version(),
            objects: hub.store.len(),
            bytes: hub.store.size(),
            undecodable: self.undecodable.count(),
            handlers,
            handler_panics: hub.panics.load(Ordering::Relaxed),
            reflectors: self.statuses.iter().map(StatusHandle::snapshot).collect(),
        }
    }
}

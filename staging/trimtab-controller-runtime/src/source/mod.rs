//! What triggers turns: watches, streams and timers, each mapped to the keys that it may concern.
//!
//! A source adds keys and reasons to the queue and nothing else; what is done about them follows from the state alone
//! (*Level-triggered*).

mod running;
mod stream;
mod watch;

use std::fmt;
use std::sync::Arc;

use trimtab_client_workqueue::{Add, Reason, WorkQueue};

use crate::cluster::Cluster;
use crate::failing::Failing;
use crate::rbac::Rule;
use crate::subject::RequestKey;
use crate::turn::Stores;

pub use running::SourceId;
pub(crate) use running::{Place, Running, Sources};
pub use watch::{Caches, Watch};
pub(crate) use watch::{of_itself, of_orphans, of_owned, of_referred};

/// The priority of keys that nobody waits for: first lists and resyncs. controller-runtime's figure.
pub const LOW: i32 = -100;

/// Something that triggers turns, before it is started: see [`Source::watch`], [`Source::stream`], [`Source::every`]. It is
/// handed to a controller when that is [described](crate::ControllerBuilder::source) or [runs](crate::Controller::add).
pub struct Source<Q> {
    /// For people.
    pub(crate) what: String,
    /// What a Role must allow for it.
    pub(crate) rules: Vec<Rule>,
    pub(crate) start: Start<Q>,
}

/// Starts a source: where its triggers go, the controller's cluster, and where turns look for stores.
type Start<Q> = Box<dyn FnOnce(Inlet<Q>, &Cluster, &Arc<Stores>) -> Box<dyn Running> + Send>;

/// One trigger: a key, why, and how urgently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger<Q> {
    /// Which key is to have a turn.
    pub key: Q,
    /// Why, for people.
    pub reason: Reason,
    /// The priority; 0 is what changes have.
    pub priority: i32,
}

/// Where triggers go. Clones lead to the same place.
#[derive(Debug)]
pub struct Inlet<Q> {
    pub(crate) queue: WorkQueue<Q>,
    pub(crate) failing: Arc<Failing<Q>>,
}

/// Whether turns have what changed in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The key's own object, or one that it owns.
    InView,
    /// Anything else: that it changed has to be remembered.
    Hidden,
}

impl<Q> Trigger<Q> {
    /// A trigger as urgent as any change.
    pub fn new(key: Q, reason: impl Into<Reason>) -> Self {
        Self {
            key,
            reason: reason.into(),
            priority: 0,
        }
    }
}

impl<Q> Clone for Inlet<Q> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            failing: self.failing.clone(),
        }
    }
}

impl<Q: RequestKey> Inlet<Q> {
    /// Gives a key a turn. False: the queue is shut down and takes nothing more.
    pub(crate) fn add(&self, key: Q, sight: Sight, add: Add) -> bool {
        // What no view shows has to be remembered by the queue: it ends a wait for a change.
        let add = if sight == Sight::Hidden { add.marked() } else { add };
        self.queue.add_with(key, add).is_ok()
    }

    /// [`Inlet::add`] for many keys that turns do not have in view.
    pub(crate) fn add_all(&self, keys: impl IntoIterator<Item = Q>, add: Add) -> bool {
        self.queue.add_all(keys, &add.marked()).is_ok()
    }
}

impl<Q> fmt::Debug for Source<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.what).finish()
    }
}

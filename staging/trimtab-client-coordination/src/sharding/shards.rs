//! What those who work on a member's partitions have in hand: whether a key is theirs, and a hold on it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::partitions::Partitions;
use super::state::{Hold, State};
use crate::lease::Validity;

/// A member's partitions. Clones are of the same member.
#[derive(Clone, Debug)]
pub struct Shards(pub(super) Arc<Inner>);

/// A hold on a key: while it lives, no other member is given the key's partition, as long as the member's lease lasts.
///
/// Dropping it says that the work has ended.
#[derive(Debug)]
#[must_use = "dropping it says that the work has ended"]
pub struct Held {
    shards: Arc<Inner>,
    hold: Hold,
}

/// Tells of partitions that a member has gained.
#[derive(Debug)]
pub struct Gains {
    shards: Arc<Inner>,
    told: watch::Receiver<()>,
    seen: u64,
}

/// How a member is doing, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether the member's Lease is in force.
    pub is_member: bool,
    /// Who shares the keys, this member included, as it saw it last; in order.
    pub members: Vec<String>,
    /// What it works on.
    pub owned: Partitions,
    /// What it waits for others to let go.
    pub claimed: Partitions,
    /// What it is to let go when the work in hand has ended.
    pub yielding: Partitions,
    /// What failed last, if nothing has succeeded since.
    pub trouble: Option<String>,
}

/// A member has not renewed its lease for so long that it cannot be working as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "shard member has not renewed its lease for {unrenewed_for:?}, the lease lasts for {lease_duration:?}: the process hangs"
)]
pub struct Unhealthy {
    /// How long ago the last renewal that succeeded was sent.
    pub unrenewed_for: Duration,
    /// How long the lease lasts.
    pub lease_duration: Duration,
}

/// What a member and its handles share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: Mutex<State>,
    pub(super) seen: Mutex<Seen>,
    pub(super) lease_duration: Duration,
    /// Changes with each gain and at the end.
    pub(super) gains: watch::Sender<()>,
    /// The last work on a partition has ended that is to go.
    pub(super) drained: Notify,
    /// What is due next has changed.
    pub(super) timers: Notify,
}

/// What a member saw last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) members: Vec<String>,
    pub(super) trouble: Option<String>,
}

// === impl Shards ===

impl Shards {
    /// Whether work on the key with this hash may begin here and now. A moment later it may not: to work on it, hold it.
    pub fn owns(&self, hash: u64) -> bool {
        self.0.state.lock().owns(Partitions::of(hash), Instant::now())
    }

    /// Begins work on the key with this hash. None: it is not this member's now, and the key should be let go; whoever gains it
    /// is told so by its [`Gains`].
    ///
    /// Holds do not exclude each other: the same key may be held twice here. A partition is not handed on before all holds on
    /// it are dropped, so never keep one for longer than the work takes.
    pub fn hold(&self, hash: u64) -> Option<Held> {
        let hold = self.0.state.lock().hold(Partitions::of(hash), Instant::now())?;
        Some(Held {
            shards: Arc::clone(&self.0),
            hold,
        })
    }

    /// What the member works on now.
    pub fn owned(&self) -> Partitions {
        self.0.state.lock().owned()
    }

    /// Tells of what is gained from now on, and first of what is owned already.
    pub fn gains(&self) -> Gains {
        Gains {
            shards: Arc::clone(&self.0),
            told: self.0.gains.subscribe(),
            seen: 0,
        }
    }

    /// How the member is doing.
    pub fn status(&self) -> Status {
        let seen = self.0.seen.lock();
        let (members, trouble) = (seen.members.clone(), seen.trouble.clone());
        drop(seen);
        let state = self.0.state.lock();
        Status {
            is_member: state.validity().is_some_and(Validity::is_valid),
            members,
            owned: state.owned(),
            claimed: state.claimed(),
            yielding: state.yielding(),
            trouble,
        }
    }

    /// Whether the member does what it should. One that has lost its lease is healthy and joins again; so this fails only when
    /// the process has not had a turn for the lease duration and `tolerance`. One that has ended is healthy.
    ///
    /// # Errors
    /// [`Unhealthy`] says for how long.
    pub fn health(&self, tolerance: Duration) -> Result<(), Unhealthy> {
        let state = self.0.state.lock();
        let validity = state.validity().filter(|_| !state.ended);
        let renewed = validity.and_then(Validity::renewed);
        drop(state);
        let unrenewed_for = renewed.map(|renewed| renewed.elapsed()).unwrap_or_default();
        let lease_duration = self.0.lease_duration;
        if unrenewed_for > lease_duration + tolerance {
            return Err(Unhealthy {
                unrenewed_for,
                lease_duration,
            });
        }
        Ok(())
    }
}

// === impl Held ===

impl Held {
    /// Is cancelled when the work should end soon: its partition is to be handed on, the member leaves, or its lease could not
    /// be renewed. Work that goes on delays only the others, as long as the lease lasts.
    pub fn stop(&self) -> &CancellationToken {
        &self.hold.stop
    }

    /// Whether nobody else can work on the key yet: to be asked before what cannot be undone.
    pub fn is_valid(&self) -> bool {
        self.hold.validity.is_valid()
    }

    /// Does `work` as long as the key is held: the clock is read before each of its steps. None: it was dropped where it was,
    /// since others could work on the key, or since it had not ended within the grace after it was told to.
    ///
    /// Work that is not done by this must itself end before the lease does.
    pub async fn run<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.hold.cut.cancelled() => None,
            output = self.hold.validity.guard(work) => output,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let drained = self
            .shards
            .state
            .lock()
            .let_go(self.hold.tenure, self.hold.partition);
        if drained {
            self.shards.drained.notify_one();
        }
    }
}

// === impl Gains ===

impl Gains {
    /// The partitions that were gained since this was called last and are still owned. Their keys are to be looked at: nobody
    /// may have done so since they changed hands. None: the member has ended.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Partitions> {
        loop {
            self.told.mark_unchanged();
            {
                let state = self.shards.state.lock();
                let (gained, seen) = state.gained_after(self.seen);
                self.seen = seen;
                if !gained.is_empty() {
                    return Some(gained);
                }
                if state.ended {
                    return None;
                }
            }
            self.told.changed().await.ok()?;
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Changes the state, and wakes whom that concerns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.gained_after(0);
        let result = change(&mut state);
        let told = state.ended || state.gained_after(0) != before;
        drop(state);
        if told {
            self.gains.send_replace(());
        }
        self.timers.notify_one();
        result
    }
}

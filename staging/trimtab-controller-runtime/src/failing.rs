//! Keys that failed: how long each waits, and what would end the wait.
//!
//! *Backoff is about failures.* A key that failed is due after its backoff, or as soon as something has changed: it is
//! then looked at early, and if it fails again, that does not count as one more failure. A trigger behind which nothing
//! has changed, as the echo of the failed turn's own writes is, changes nothing here either. So neither can triggers
//! lengthen the backoff, nor can a turn that writes and fails become a loop without rest.
//!
//! The queue has a count of failures of its own, which this one replaces: a queue cannot know what has changed.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_workqueue::Backoff;

use crate::seldom::Seldom;

/// The objects that a turn has in view, the main one and those that it owns, with their versions.
pub(crate) type View = HashMap<(TypeId, ObjectKey), Option<String>>;

/// The keys of one controller that failed last.
#[derive(Debug)]
pub(crate) struct Failing<Q> {
    backoff: Mutex<Box<dyn Backoff>>,
    failed: Seldom<Q, Failure>,
}

#[derive(Debug)]
struct Failure {
    count: u32,
    /// `None` for a failure that only a change mends.
    due: Option<Instant>,
    /// What the failed turn saw, with what it wrote itself.
    view: View,
}

/// What a key that failed waits for, if nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The rest of its backoff.
    Backoff(Duration),
    /// A change.
    Change,
}

impl<Q: Clone + Eq + Hash> Failing<Q> {
    pub(crate) fn new(backoff: Box<dyn Backoff>) -> Self {
        Self {
            backoff: Mutex::new(backoff),
            failed: Seldom::default(),
        }
    }

    /// Which attempt the next turn of this key is.
    pub(crate) fn attempt(&self, key: &Q) -> u32 {
        let count = self
            .failed
            .if_any(|failed| failed.get(key).map(|failure| failure.count));
        count.flatten().map_or(1, |count| count.saturating_add(1))
    }

    /// What the key has to wait for, if nothing has changed but what its view shows. `None`: it begins a turn.
    pub(crate) fn wait_for(&self, key: &Q, now: Instant, view: impl FnOnce() -> View) -> Option<WaitFor> {
        let wait = self.failed.if_any(|failed| {
            let failure = failed.get(key)?;
            let wait = match failure.due {
                Some(due) if due <= now => return None,
                Some(due) => WaitFor::Backoff(due - now),
                None => WaitFor::Change,
            };
            (failure.view == view()).then_some(wait)
        });
        wait.flatten()
    }

    /// Takes note of a failed turn that began at `begun` and ended at `now`. Returns the key's backoff, which is no
    /// shorter than `least`.
    pub(crate) fn failed(
        &self,
        key: &Q,
        begun: Instant,
        now: Instant,
        view: View,
        least: Duration,
    ) -> Duration {
        self.failed.with(|failed| {
            let count = match failed.get(key) {
                Some(Failure {
                    count,
                    due: Some(due),
                    ..
                }) if begun < *due => *count,
                last => last.map_or(0, |last| last.count).saturating_add(1),
            };
            let delay = self.backoff.lock().delay(count, now).max(least);
            let due = now.checked_add(delay);
            failed.insert(key.clone(), Failure { count, due, view });
            delay
        })
    }

    /// Takes note of a failure that only a change mends.
    pub(crate) fn gave_up(&self, key: &Q, view: View) {
        let failure = Failure {
            count: 0,
            due: None,
            view,
        };
        self.failed.with(|failed| failed.insert(key.clone(), failure));
    }

    /// Forgets the failures of a key.
    pub(crate) fn forget(&self, key: &Q) {
        self.failed.if_any(|failed| failed.remove(key));
    }
}

//! The guard of a key in a worker's hands.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::add::{Reason, Reasons};
use crate::queue::Shared;
use crate::state::{Outcome, Turn};

/// A key in hand. Nobody else gets it until this says what comes next; dropped without a word, it is retried.
#[must_use = "a key that is dropped is retried"]
pub struct Work<K: Clone + Eq + Hash> {
    shared: Arc<Shared<K>>,
    turn: Turn<K>,
    finished: bool,
}

impl<K: Clone + Eq + Hash> Work<K> {
    pub(crate) fn new(shared: Arc<Shared<K>>, turn: Turn<K>) -> Self {
        Self {
            shared,
            turn,
            finished: false,
        }
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.turn.key
    }

    /// Why it was added: the merged reasons of all adds since its last turn.
    pub fn reasons(&self) -> &Reasons {
        static NONE: Reasons = Reasons::NONE;
        self.turn.reasons.as_deref().unwrap_or(&NONE)
    }

    /// The priority with which it waited.
    pub fn priority(&self) -> i32 {
        self.turn.priority
    }

    /// Whether one of the adds since the last turn was [marked](crate::Add::marked).
    pub fn is_marked(&self) -> bool {
        self.turn.marked
    }

    /// Which attempt this is: 1, and one more for each failure since the last success. Stays at 32,768
    /// when it gets there.
    pub fn attempt(&self) -> u32 {
        self.turn.failures.saturating_add(1)
    }

    /// When it was handed out.
    pub fn since(&self) -> Instant {
        self.turn.since
    }

    /// How long it was ready before it was handed out.
    pub fn waited(&self) -> Duration {
        self.turn.waited
    }

    /// Success: the key's failures are forgotten, and it comes back only if it was added meanwhile.
    pub fn done(self) {
        self.finish(Outcome::Done);
    }

    /// Failure: the key comes back after its backoff, with the same priority.
    pub fn retry(self) {
        self.finish(Outcome::Retry(None));
    }

    /// Failure, saying why: the next turn sees it among its reasons.
    pub fn retry_because(self, reason: impl Into<Reason>) {
        self.finish(Outcome::Retry(Some(reason.into())));
    }

    /// Success, to be looked at again after `delay`, with the same priority. The failures are forgotten.
    pub fn requeue_after(self, delay: Duration) {
        self.finish(Outcome::After(delay));
    }

    /// Forgets the key's failures and keeps it in hand: the next retry starts with the shortest backoff.
    pub fn forget(&mut self) {
        self.turn.failures = 0;
        self.shared.forget(self.turn.slot);
    }

    fn finish(mut self, outcome: Outcome) {
        self.finished = true;
        self.shared.finish(self.turn.slot, outcome);
    }
}

impl<K: Clone + Eq + Hash> Drop for Work<K> {
    fn drop(&mut self) {
        if !self.finished {
            let reason = Some(Reason::Borrowed("abandoned"));
            self.shared.finish(self.turn.slot, Outcome::Retry(reason));
        }
    }
}

impl<K: Clone + Eq + Hash + fmt::Debug> fmt::Debug for Work<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.turn.fmt(f)
    }
}

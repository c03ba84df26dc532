//! Expectations: what a controller has asked for and not seen yet, counted, for those whose answers may get lost.
//!
//! **Most controllers do not need these.** A [`WriteBarrier`](crate::barrier::WriteBarrier) waits for the very versions that
//! the server answered with, ends as soon as the cache has them, and covers updates too; the turns of `trimtab-controller`
//! have one. It cannot wait for a write of which there was no answer: the request timed out, or the connection was cut,
//! and the server may have done what it was asked for. To repeat it is harmless where names are chosen by the
//! controller. Where they are generated, a controller that repeats it makes one object too many. So one that makes *n*
//! objects with generated names counts: it does not act on a key until it has seen as many new objects as it asked for.
//!
//! These are kube-controller-manager's `ControllerExpectations`, with the UIDs of creations as well as of deletions:
//!
//! - *Outstanding*: a key is not satisfied while something that was expected has not been observed.
//! - *Once*: an observation counts once, however often it is repeated, and what was there before does not count.
//! - *Settled*: a key is satisfied when all that was expected has been observed, or has failed.
//! - *Expiring*: a key is satisfied when the timeout has passed since it last began to expect something, whatever is
//!   outstanding. Expectations delay a controller; they never stop it.
//!
//! A creation by someone else, among the same key's objects, that is first seen while the answer to one's own is lost cannot
//! be told from that one, and counts for it.
//!
//! ```
//! use std::time::Instant;
//! use trimtab_client_cache::expectations::Expectations;
//!
//! let (expectations, now) = (Expectations::<&str>::new(), Instant::now());
//! assert!(expectations.is_satisfied(&"web", now), "nothing is expected");
//!
//! // A turn finds one pod and wants three. First it says what it will ask for, then it asks.
//! expectations.expect_creations("web", 2, ["pod-1"], now);
//! expectations.created(&"web", "pod-2"); // the first create was answered; the second one timed out
//! assert!(!expectations.is_satisfied(&"web", now), "nothing has been seen");
//!
//! // The handler of pods sees them come, one of them twice.
//! expectations.creation_observed(&"web", "pod-2");
//! expectations.creation_observed(&"web", "pod-2");
//! expectations.creation_observed(&"web", "pod-1");
//! assert!(!expectations.is_satisfied(&"web", now), "that was one");
//! expectations.creation_observed(&"web", "pod-3");
//! assert!(expectations.is_satisfied(&"web", now), "the second create did arrive");
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a key waits by default: five minutes, from kube-controller-manager's `ExpectationsTimeout`.
pub const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A year: far from what an [`Instant`] can hold.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What each key expects. Keys are those of the owners, as they are in the queue; observations come from the handlers of
/// the owned kind. Shared by reference; each call takes a lock for a moment.
pub struct Expectations<K> {
    timeout: Duration,
    keys: Mutex<HashMap<K, Expected>>,
}

/// What a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// Creations that have not been observed.
    pub creations: usize,
    /// Deletions that have not been observed.
    pub deletions: usize,
    /// When the key will be satisfied whatever has been observed by then: the time to look at it again.
    pub expires: Instant,
}

#[derive(Debug)]
struct Expected {
    since: Instant,
    /// How many creations were asked for of which it is not known what became: the answer is under way, or lost.
    unanswered: usize,
    /// The UIDs of creations that were answered and not observed.
    created: HashSet<String>,
    /// The UIDs of deletions that were not observed.
    deleted: HashSet<String>,
    /// UIDs that were observed and may be of unanswered creations; as many of these count as done. Empty if none is
    /// unanswered.
    unclaimed: HashSet<String>,
    /// UIDs that do not count (any more): they were there before, or were both answered and observed, or are of nobody
    /// who was waited for.
    past: HashSet<String>,
}

impl<K: Eq + Hash> Expectations<K> {
    /// Expectations that expire after [`TIMEOUT`].
    pub fn new() -> Self {
        Self::expiring_after(TIMEOUT)
    }

    /// Expectations that expire after this time, or after a year if that is shorter. It should be longer than a watch is ever
    /// behind, since a key that expires too early acts on what it has not seen.
    pub fn expiring_after(timeout: Duration) -> Self {
        Self {
            timeout: timeout.min(LONGEST),
            keys: Mutex::default(),
        }
    }

    // === by the reconciler ===

    /// Whether the key may be worked on: all that it expected has been observed or has failed, or the time is up.
    pub fn is_satisfied(&self, key: &K, now: Instant) -> bool {
        self.outstanding(key, now).is_none()
    }

    /// What the key waits for; `None` if it is satisfied.
    pub fn outstanding(&self, key: &K, now: Instant) -> Option<Outstanding> {
        let mut keys = self.keys.lock();
        let expected = keys.get(key)?;
        let expires = expected.since + self.timeout;
        if now >= expires {
            keys.remove(key);
            return None;
        }
        expected.outstanding(expires)
    }

    /// Expects the creation of `count` objects, besides what is outstanding, and lets the time for all begin anew. To be
    /// called *before* the requests are sent: an observation may be quicker than the answer. `present` are the UIDs of the
    /// key's objects that the decision was made by; a handler that tells of them late, or again, tells nothing new.
    pub fn expect_creations<U: Into<String>>(
        &self,
        key: K,
        count: usize,
        present: impl IntoIterator<Item = U>,
        now: Instant,
    ) {
        let present: Vec<String> = present.into_iter().map(Into::into).collect();
        self.expect(key, now, |expected| {
            expected.unanswered += count;
            expected.past.extend(present);
        });
    }

    /// Expects the deletion of the objects with these UIDs, besides what is outstanding, and lets the time for all begin
    /// anew. To be called *before* the requests are sent.
    pub fn expect_deletions<U: Into<String>>(&self, key: K, uids: impl IntoIterator<Item = U>, now: Instant) {
        let uids: Vec<String> = uids.into_iter().map(Into::into).collect();
        self.expect(key, now, |expected| expected.deleted.extend(uids));
    }

    /// The server has answered one of the creations: it made the object with this UID.
    pub fn created(&self, key: &K, uid: &str) {
        self.note(key, |expected| expected.created(uid));
    }

    /// The server has refused one of the creations, so that there is nothing to be observed. Not to be called when there was
    /// no answer.
    pub fn creation_failed(&self, key: &K) {
        self.note(key, Expected::answered);
    }

    /// The server has refused the deletion, or the object was gone already, so that there is nothing to be observed. Not
    /// to be called when there was no answer.
    pub fn deletion_failed(&self, key: &K, uid: &str) {
        self.deletion_observed(key, uid);
    }

    /// Forgets the key: what it named does not exist any more. Keys that are never asked about again stay otherwise.
    pub fn forget(&self, key: &K) {
        self.keys.lock().remove(key);
    }

    // === by handlers of the owned kind ===

    /// An object of the key has appeared.
    pub fn creation_observed(&self, key: &K, uid: &str) {
        self.note(key, |expected| expected.observed(uid));
    }

    /// An object of the key is gone, or is being deleted: with a grace period the second comes long before the first, and
    /// both may be told.
    pub fn deletion_observed(&self, key: &K, uid: &str) {
        self.note(key, |expected| {
            expected.deleted.remove(uid);
        });
    }

    // === inside ===

    fn expect(&self, key: K, now: Instant, add: impl FnOnce(&mut Expected)) {
        let mut keys = self.keys.lock();
        let current = keys
            .remove(&key)
            .filter(|expected| now < expected.since + self.timeout);
        let mut expected = current.unwrap_or_else(|| Expected::new(now));
        expected.since = now;
        add(&mut expected);
        if !expected.is_settled() {
            keys.insert(key, expected);
        }
    }

    fn note(&self, key: &K, change: impl FnOnce(&mut Expected)) {
        let mut keys = self.keys.lock();
        if let Some(expected) = keys.get_mut(key) {
            change(expected);
            if expected.is_settled() {
                keys.remove(key);
            }
        }
    }
}

impl Expected {
    fn new(since: Instant) -> Self {
        Self {
            since,
            unanswered: 0,
            created: HashSet::new(),
            deleted: HashSet::new(),
            unclaimed: HashSet::new(),
            past: HashSet::new(),
        }
    }

    fn created(&mut self, uid: &str) {
        if self.unclaimed.remove(uid) {
            self.past.insert(uid.to_owned());
        } else if self.past.contains(uid) || !self.created.insert(uid.to_owned()) {
            return; // answered before
        }
        self.answered();
    }

    /// One creation is not unanswered any more. When none is, what nobody has claimed is somebody else's.
    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.past.extend(self.unclaimed.drain());
        }
    }

    fn observed(&mut self, uid: &str) {
        if self.created.remove(uid) || self.unanswered == 0 {
            self.past.insert(uid.to_owned());
        } else if !self.past.contains(uid) {
            self.unclaimed.insert(uid.to_owned());
        }
    }

    /// Creations that are unanswered and not made good for by an observation.
    fn missing(&self) -> usize {
        self.unanswered.saturating_sub(self.unclaimed.len())
    }

    fn outstanding(&self, expires: Instant) -> Option<Outstanding> {
        let outstanding = Outstanding {
            creations: self.missing() + self.created.len(),
            deletions: self.deleted.len(),
            expires,
        };
        (outstanding.creations + outstanding.deletions > 0).then_some(outstanding)
    }

    /// Whether nothing can be outstanding any more, not even by a late answer.
    fn is_settled(&self) -> bool {
        self.unanswered == 0 && self.created.is_empty() && self.deleted.is_empty()
    }
}

impl<K: Eq + Hash> Default for Expectations<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Expectations<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expectations")
            .field("timeout", &self.timeout)
            .field("keys", &self.keys.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests;

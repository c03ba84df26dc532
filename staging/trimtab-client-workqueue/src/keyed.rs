//! A backoff that counts the failures of each key by itself, for what is not in a queue.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::Backoff;
use crate::slab::{Keyed, KeyedSlab};

/// Counts the failures of each key and says how long it has to wait: what client-go calls a rate limiter, for those who
/// retry without a queue. A [`WorkQueue`](crate::WorkQueue) needs none, since it counts for itself.
///
/// A key is kept from its first failure until it is forgotten.
///
/// ```
/// # use std::time::Duration;
/// # use trimtab_client_workqueue::{Exponential, KeyedBackoff};
/// let mut backoff = KeyedBackoff::new(Exponential::default());
/// let now = tokio::time::Instant::now();
/// assert_eq!(backoff.next(&"a", now), Duration::from_millis(5));
/// assert_eq!(backoff.next(&"a", now), Duration::from_millis(10));
/// assert!(backoff.forget(&"a"));
/// assert_eq!(backoff.failures(&"a"), 0);
/// ```
pub struct KeyedBackoff<K, B> {
    keys: KeyedSlab<Failed<K>>,
    backoff: B,
}

struct Failed<K> {
    key: K,
    /// Saturates.
    failures: NonZeroU16,
}

impl<K: Clone + Eq + Hash, B: Backoff> KeyedBackoff<K, B> {
    /// No key has failed yet.
    pub fn new(backoff: B) -> Self {
        Self {
            keys: KeyedSlab::new(),
            backoff,
        }
    }

    /// Counts one more failure of the key and returns the delay after it. The count stays at 65,535 when it gets there.
    pub fn next(&mut self, key: &K, now: Instant) -> Duration {
        let hash = self.keys.hash(key);
        let failures = match self.keys.find(hash, key) {
            Some(slot) => {
                let failed = self.keys.get_mut(slot);
                failed.failures = failed.failures.saturating_add(1);
                failed.failures
            }
            None => {
                let failures = NonZeroU16::MIN;
                let key = key.clone();
                self.keys.insert(hash, Failed { key, failures });
                failures
            }
        };
        self.backoff.delay(u32::from(failures.get()), now)
    }

    /// Forgets the failures of a key. Whether there were any.
    pub fn forget(&mut self, key: &K) -> bool {
        let found = self.keys.find(self.keys.hash(key), key);
        if let Some(slot) = found {
            self.keys.remove(slot);
        }
        found.is_some()
    }

    /// How often the key has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        let found = self.keys.find(self.keys.hash(key), key);
        found.map_or(0, |slot| u32::from(self.keys.get(slot).failures.get()))
    }

    /// How many keys have failures.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key has failures.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> Keyed for Failed<K> {
    type Key = K;

    fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Clone + Eq + Hash, B: Backoff> fmt::Debug for KeyedBackoff<K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBackoff")
            .field("backoff", &self.backoff)
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

//! Maps of keys that are mostly empty, so that mostly nobody needs their lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// What is known of few keys, if of any, and asked for in each turn. What a key's last turn has noted, its next one sees, since
/// the queue hands the key over.
#[derive(Debug)]
pub(crate) struct Seldom<Q, V> {
    known: Mutex<HashMap<Q, V>>,
    /// How many there are.
    count: AtomicUsize,
}

impl<Q, V> Seldom<Q, V> {
    /// Looks at all of it, or changes it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut HashMap<Q, V>) -> T) -> T {
        let mut known = self.known.lock();
        let done = act(&mut known);
        self.count.store(known.len(), Ordering::Release);
        done
    }

    /// [`Seldom::with`], if there is anything.
    pub(crate) fn if_any<T>(&self, act: impl FnOnce(&mut HashMap<Q, V>) -> T) -> Option<T> {
        (self.count.load(Ordering::Acquire) > 0).then(|| self.with(act))
    }
}

impl<Q, V> Default for Seldom<Q, V> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }
}

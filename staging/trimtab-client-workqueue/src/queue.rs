//! The queue that tasks share: the state machine behind a lock, and how consumers wait for it.
//!
//! Consumers wait for a notification or for the earliest delay to pass. One notification wakes one consumer, so whoever
//! stops waiting passes it on while keys wait: a delay that nobody watches would be late.

use std::fmt;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::add::Add;
use crate::limiter::{Backoff, Exponential};
use crate::metrics::Metrics;
use crate::state::{KeySnapshot, Leftover, Mode, Next, Outcome, State};
use crate::work::Work;

/// A queue of keys, shared by cloning. See the [crate] for what it promises.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

pub(crate) struct Shared<K> {
    state: Mutex<State<K>>,
    /// One permit for each thing that a consumer may have to look at.
    changed: Notify,
    /// Told when a key was finished; only a draining shutdown waits for it.
    finished: Notify,
}

/// Makes a [`WorkQueue`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    backoff: Box<dyn Backoff>,
    ageing: Duration,
}

/// A queue that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQueue {
    /// With no ageing, priorities would mean nothing.
    #[error("ageing must be more than zero and at most one second, not {0:?}")]
    Ageing(Duration),
}

/// The queue is shut down and takes no more keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work queue is shut down")]
pub struct Refused;

/// How a queue ends. In each case it takes no more keys from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Hands out nothing more. What is ready, delayed or in hand is reported.
    Now,
    /// Hands out what is ready and waits until all of it is finished. What is delayed or comes back is reported.
    Drain,
    /// As `Drain`, for at most this long; then as `Now`.
    DrainWithin(Duration),
}

// === impl Builder ===

impl Builder {
    /// The backoff of keys that failed. The default is [`Exponential::default`], without a token bucket.
    pub fn backoff(mut self, backoff: impl Backoff) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// How much waiting one point of priority is worth; the default is 100 ms. More makes priorities stricter and lets
    /// what is less urgent wait longer.
    pub fn ageing(mut self, one_point: Duration) -> Self {
        self.ageing = one_point;
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn build<K: Clone + Eq + Hash>(self) -> Result<WorkQueue<K>, InvalidQueue> {
        if self.ageing.is_zero() || self.ageing > Duration::from_secs(1) {
            return Err(InvalidQueue::Ageing(self.ageing));
        }
        Ok(WorkQueue {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(self.backoff, self.ageing, Instant::now())),
                changed: Notify::new(),
                finished: Notify::new(),
            }),
        })
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            backoff: Box::new(Exponential::default()),
            ageing: Duration::from_millis(100),
        }
    }
}

// === impl WorkQueue ===

impl WorkQueue<()> {
    /// Starts to describe a queue; the type of its keys follows from how it is used.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// Adds a key, to be handed out at once.
    ///
    /// # Errors
    /// The queue is shut down; the key was not taken.
    pub fn add(&self, key: K) -> Result<(), Refused> {
        self.add_with(key, Add::now())
    }

    /// Adds a key, to be handed out after `delay`.
    ///
    /// # Errors
    /// The queue is shut down; the key was not taken.
    pub fn add_after(&self, key: K, delay: Duration) -> Result<(), Refused> {
        self.add_with(key, Add::after(delay))
    }

    /// Adds a key that failed elsewhere, to be handed out after its backoff. See [`Add::rate_limited`].
    ///
    /// # Errors
    /// The queue is shut down; the key was not taken.
    pub fn add_rate_limited(&self, key: K) -> Result<(), Refused> {
        self.add_with(key, Add::rate_limited())
    }

    /// Adds a key with options.
    ///
    /// # Errors
    /// The queue is shut down; the key was not taken.
    pub fn add_with(&self, key: K, add: Add) -> Result<(), Refused> {
        let taken = self.shared.state.lock().add(key, add, Instant::now());
        if !taken {
            return Err(Refused);
        }
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Waits for the next key; `None` means that the queue is shut down and there will be no more.
    ///
    /// Cancel safe: a key leaves the queue only together with the guard that this returns.
    pub async fn get(&self) -> Option<Work<K>> {
        let _baton = Baton(&self.shared);
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let next = self.shared.state.lock().take(Instant::now());
            match next {
                Next::Turn(turn) => return Some(Work::new(self.shared.clone(), turn)),
                Next::End => return None,
                Next::Wait(None) => changed.await,
                Next::Wait(Some(due)) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// Shuts the queue down and reports the keys that no worker finished. Takes effect when it is called; the future
    /// waits as long as `how` says. A later call can only hasten the end.
    pub fn shut_down(&self, how: Shutdown) -> impl Future<Output = Vec<Leftover<K>>> + use<K> {
        let shared = self.shared.clone();
        shared.close(if how == Shutdown::Now {
            Mode::Closed
        } else {
            Mode::Draining
        });
        async move {
            match how {
                Shutdown::Now => {}
                Shutdown::Drain => shared.drained().await,
                Shutdown::DrainWithin(longest) => {
                    if timeout(longest, shared.drained()).await.is_err() {
                        shared.close(Mode::Closed);
                    }
                }
            }
            shared.state.lock().take_leftovers()
        }
    }

    /// Whether the queue takes no more keys.
    pub fn is_shut_down(&self) -> bool {
        self.shared.state.lock().mode() != Mode::Open
    }

    /// The queue's figures now. Takes time in proportion to the keys.
    pub fn metrics(&self) -> Metrics {
        self.shared.state.lock().metrics(Instant::now())
    }

    /// All keys and where they are, in no order. Takes time and memory in proportion to the keys.
    pub fn snapshot(&self) -> Vec<KeySnapshot<K>> {
        self.shared.state.lock().snapshot(Instant::now())
    }
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl<K: Clone + Eq + Hash> Shared<K> {
    pub(crate) fn finish(&self, key: &K, outcome: Outcome) {
        self.state.lock().finish(key, outcome, Instant::now());
        self.changed.notify_one();
        self.finished.notify_waiters();
    }

    pub(crate) fn forget(&self, key: &K) {
        self.state.lock().forget(key);
    }

    fn close(&self, mode: Mode) {
        self.state.lock().shut_down(mode);
        self.changed.notify_waiters();
        self.finished.notify_waiters();
    }

    async fn drained(&self) {
        loop {
            let mut finished = pin!(self.finished.notified());
            finished.as_mut().enable();
            let done = {
                let state = self.state.lock();
                state.mode() == Mode::Closed || state.is_drained()
            };
            if done {
                self.changed.notify_waiters(); // consumers learn that there is no more
                return;
            }
            finished.await;
        }
    }
}

/// Wakes another consumer when this one stops waiting, if there is still something to watch over.
struct Baton<'a, K: Clone + Eq + Hash>(&'a Shared<K>);

impl<K: Clone + Eq + Hash> Drop for Baton<'_, K> {
    fn drop(&mut self) {
        let state = self.0.state.lock();
        if state.has_waiting() || state.mode() != Mode::Open {
            drop(state);
            self.0.changed.notify_one();
        }
    }
}

//! The queue that tasks share: the state machine behind a lock, and how consumers wait for it.
//!
//! Who adds a key wakes one consumer, who takes the key, and wakes the next one if there is more. While keys are delayed,
//! one of the waiting consumers holds a timer for the first of them; whoever leaves with the timer wakes another one to
//! take it over.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::coop::cooperative;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::add::Add;
use crate::limiter::{Backoff, Exponential};
use crate::metrics::Metrics;
use crate::ready::FlowOf;
use crate::slab::Slot;
use crate::state::{Change, KeySnapshot, Leftover, Mode, Next, Outcome, State};
use crate::work::Work;

/// A queue of keys, shared by cloning. See the [crate] for what it promises.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

/// On cache lines of its own, so that consumers who count references do not disturb whoever holds the lock.
#[repr(align(128))]
pub(crate) struct Shared<K> {
    inner: Mutex<Inner<K>>,
    /// Told when the queue is closed, and when it is drained.
    finished: Notify,
}

struct Inner<K> {
    state: State<K>,
    waiting: Waiting,
}

/// The consumers that wait.
#[derive(Debug, Default)]
struct Waiting {
    asleep: Vec<(Ticket, Waker)>,
    /// Who holds the timer, and when it goes off. Not always asleep: it may have been woken a moment ago.
    timer: Option<(Ticket, Instant)>,
    last_ticket: Ticket,
}

/// Tells one waiting consumer from another.
type Ticket = u64;

/// So many keys of many are added in one step.
const STEP: usize = 16;

/// A consumer that waits for a key.
struct Get<'a, K: Clone + Eq + Hash> {
    shared: &'a Arc<Shared<K>>,
    /// Since it waited for the first time.
    ticket: Option<Ticket>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Makes a [`WorkQueue`].
#[must_use]
pub struct Builder<K> {
    backoff: Box<dyn Backoff>,
    ageing: Duration,
    flow_of: Option<FlowOf<K>>,
}

/// A queue that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQueue {
    /// With no ageing, priorities would mean little; with endless ageing, one could wait for ever.
    #[error("ageing must be more than zero and at most one day, not {0:?}")]
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

impl<K: Clone + Eq + Hash> Builder<K> {
    /// The backoff of keys that failed. The default is [`Exponential::default`], without a token bucket.
    pub fn backoff(mut self, backoff: impl Backoff) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// How long a ready key waits for more urgent ones before it is overdue; the default is 1 s. While keys are overdue,
    /// one turn in [`WorkQueue::AGED_TURN`] is theirs.
    pub fn ageing(mut self, ageing: Duration) -> Self {
        self.ageing = ageing;
        self
    }

    /// Gives each flow of keys its turn, so that one with many keys does not hold up the others: among keys of one
    /// priority, the flows take turns, and within a flow it is first in, first out. A flow may be a namespace, a tenant or
    /// a kind. Without this, all keys are one flow.
    ///
    /// `flow` is called under the queue's lock: it must be quick, give the same answer for the same key, and not panic.
    pub fn fair_by<F: Hash>(mut self, flow: impl Fn(&K) -> F + Send + 'static) -> Self {
        let hasher = RandomState::new();
        self.flow_of = Some(Box::new(move |key| hasher.hash_one(flow(key))));
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn build(self) -> Result<WorkQueue<K>, InvalidQueue> {
        if self.ageing.is_zero() || self.ageing > Duration::from_secs(86_400) {
            return Err(InvalidQueue::Ageing(self.ageing));
        }
        let state = State::new(self.backoff, self.ageing, self.flow_of, Instant::now());
        Ok(WorkQueue {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner {
                    state,
                    waiting: Waiting::default(),
                }),
                finished: Notify::new(),
            }),
        })
    }
}

impl<K> Default for Builder<K> {
    fn default() -> Self {
        Self {
            backoff: Box::new(Exponential::default()),
            ageing: Duration::from_secs(1),
            flow_of: None,
        }
    }
}

impl<K> fmt::Debug for Builder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("backoff", &self.backoff)
            .field("ageing", &self.ageing)
            .field("fair", &self.flow_of.is_some())
            .finish()
    }
}

// === impl WorkQueue ===

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// While a ready key of a lower priority is overdue, at least one turn in so many is for such keys, the longest
    /// waiting first.
    pub const AGED_TURN: u32 = crate::ready::AGED_TURN;

    /// Starts to describe a queue. The type of its keys follows from how it is used.
    pub fn builder() -> Builder<K> {
        Builder::default()
    }

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
        let mut inner = self.shared.inner.lock();
        let change = inner.state.add(key, add, Instant::now).ok_or(Refused)?;
        let woken = inner.whom_to_tell(change);
        drop(inner);
        wake(woken);
        Ok(())
    }

    /// Adds many keys with the same options: a few at a time in one step, so that it takes a fraction of the time that so many
    /// adds take. The keys are asked for outside of these steps, and go out in the order in which they come.
    ///
    /// # Errors
    /// The queue is shut down; keys that had been added until then are among what the shutdown reports.
    pub fn add_all(&self, keys: impl IntoIterator<Item = K>, add: &Add) -> Result<(), Refused> {
        let mut keys = keys.into_iter();
        let mut step = Vec::with_capacity(STEP);
        let mut woken = Vec::new();
        loop {
            step.extend(keys.by_ref().take(STEP));
            if step.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            let mut inner = self.shared.inner.lock();
            for key in step.drain(..) {
                let change = inner.state.add(key, add.clone(), || now).ok_or(Refused)?;
                woken.extend(inner.whom_to_tell(change));
            }
            drop(inner);
            wake(woken.drain(..));
        }
    }

    /// Waits for the next key; `None` means that the queue is shut down and there will be no more.
    ///
    /// Cancel safe: a key leaves the queue only together with the guard that this returns.
    pub async fn get(&self) -> Option<Work<K>> {
        // Cooperative, since a queue that never runs dry would keep the task from ever letting others run.
        cooperative(Get {
            shared: &self.shared,
            ticket: None,
            sleep: None,
        })
        .await
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
            shared.inner.lock().state.take_leftovers()
        }
    }

    /// Whether the queue takes no more keys.
    pub fn is_shut_down(&self) -> bool {
        self.shared.inner.lock().state.mode() != Mode::Open
    }

    /// The queue's figures now. Takes time in proportion to the priorities in use and the keys in hand.
    pub fn metrics(&self) -> Metrics {
        self.shared.inner.lock().state.metrics(Instant::now())
    }

    /// How many keys are ready. Delayed keys and those in hand do not count.
    pub fn len(&self) -> usize {
        self.shared.inner.lock().state.ready_len(Instant::now())
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys and where they are, in no order. Takes time and memory in proportion to the keys.
    pub fn snapshot(&self) -> Vec<KeySnapshot<K>> {
        self.shared.inner.lock().state.snapshot(Instant::now())
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
    pub(crate) fn finish(&self, slot: Slot, outcome: Outcome) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let (change, _dropped_later) = inner.state.finish(slot, outcome, now);
        if inner.state.mode() != Mode::Open && inner.state.is_drained() {
            let all = inner.waiting.all();
            drop(inner);
            wake(all);
            self.finished.notify_waiters();
            return;
        }
        let woken = inner.whom_to_tell(change);
        drop(inner);
        wake(woken);
    }

    pub(crate) fn forget(&self, slot: Slot) {
        self.inner.lock().state.forget(slot);
    }

    fn close(&self, mode: Mode) {
        let mut inner = self.inner.lock();
        inner.state.shut_down(mode, Instant::now());
        let all = inner.waiting.all();
        drop(inner);
        wake(all);
        self.finished.notify_waiters();
    }

    async fn drained(&self) {
        loop {
            let mut finished = pin!(self.finished.notified());
            finished.as_mut().enable();
            let done = {
                let state = &self.inner.lock().state;
                state.mode() == Mode::Closed || state.is_drained()
            };
            if done {
                return;
            }
            finished.await;
        }
    }
}

// === impl Inner ===

impl<K: Clone + Eq + Hash> Inner<K> {
    /// Who has to look at what has changed.
    fn whom_to_tell(&mut self, change: Change) -> Option<Waker> {
        if self.waiting.asleep.is_empty() {
            return None;
        }
        match (change, self.waiting.timer) {
            (Change::None, _) => None,
            (Change::Ready, _) | (Change::Delayed, None) => self.waiting.one(),
            (Change::Delayed, Some((ticket, due))) => {
                let sooner = self.state.next_due().is_some_and(|next| next < due);
                sooner.then(|| self.waiting.remove(ticket)).flatten()
            }
        }
    }

    /// A consumer stops to wait. Returns who has to go on in its place, if there is something to look at.
    fn leave(&mut self, ticket: Option<Ticket>) -> Option<Waker> {
        if let Some(ticket) = ticket {
            self.waiting.remove(ticket);
            if self.waiting.timer.is_some_and(|(holder, _)| holder == ticket) {
                self.waiting.timer = None;
            }
        }
        if self.waiting.asleep.is_empty() {
            return None;
        }
        let unwatched = self.state.has_delayed() && self.waiting.timer.is_none();
        (self.state.has_ready() || unwatched).then(|| self.waiting.one())?
    }
}

// === impl Waiting ===

impl Waiting {
    fn one(&mut self) -> Option<Waker> {
        self.asleep.pop().map(|(_, waker)| waker)
    }

    fn all(&mut self) -> Vec<Waker> {
        self.asleep.drain(..).map(|(_, waker)| waker).collect()
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.asleep.iter().position(|(other, _)| *other == ticket)?;
        Some(self.asleep.swap_remove(place).1)
    }

    fn sleep(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) -> Ticket {
        let ticket = *ticket.get_or_insert_with(|| {
            self.last_ticket += 1;
            self.last_ticket
        });
        match self.asleep.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, known)) => known.clone_from(waker),
            None => self.asleep.push((ticket, waker.clone())),
        }
        ticket
    }

    /// Offers the timer for `due` to a consumer. It is its own if nobody else holds it.
    fn hold_timer(&mut self, ticket: Ticket, due: Option<Instant>) -> bool {
        let mine = self.timer.is_none_or(|(holder, _)| holder == ticket);
        if mine {
            self.timer = due.map(|due| (ticket, due));
        }
        mine && due.is_some()
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

// === impl Get ===

impl<K: Clone + Eq + Hash> Future for Get<'_, K> {
    type Output = Option<Work<K>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let now = Instant::now();
            let mut inner = this.shared.inner.lock();
            let due = match inner.state.take(now) {
                Next::Turn(turn) => {
                    let next = inner.leave(this.ticket.take());
                    drop(inner);
                    wake(next);
                    return Poll::Ready(Some(Work::new(this.shared.clone(), turn)));
                }
                Next::End => return Poll::Ready(None),
                Next::Wait(due) => due,
            };
            let ticket = inner.waiting.sleep(&mut this.ticket, cx.waker());
            let mine = inner.waiting.hold_timer(ticket, due);
            drop(inner);
            let Some(due) = due.filter(|_| mine) else {
                this.sleep = None;
                return Poll::Pending;
            };
            let sleep = match &mut this.sleep {
                Some(sleep) if sleep.deadline() == due => sleep,
                sleep => sleep.insert(Box::pin(sleep_until(due))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.sleep = None;
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Get<'_, K> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let next = self.shared.inner.lock().leave(self.ticket);
            wake(next);
        }
    }
}

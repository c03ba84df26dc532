//! A priority level at work: requests that take seats, wait for them, and give them back.
//!
//! Taking a seat that is free is one short lock. **Invariant:** whoever has been told to start has its seats until its
//! [`Seat`] is dropped, and whoever stops waiting, for whatever reason, is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::demand::Demand;
use super::dropped::Dropped;
use super::metrics::{LevelFigures, SchemaFigures};
use super::queues::{Arrival, FairQueues, Load, Shape, Shown};

/// Why a request is not let in; the names are those of kube-apiserver's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its queue is full.
    QueueFull,
    /// All seats are taken, and the level lets nobody wait.
    ConcurrencyLimit,
    /// It has waited for as long as it may.
    TimeOut,
    /// The client has gone away.
    Cancelled,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came to this level so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) dispatched: u64,
    pub(crate) rejected: u64,
    pub(crate) timed_out: u64,
    pub(crate) cancelled: u64,
}

/// A priority level.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) name: String,
    pub(crate) figures: LevelFigures,
    /// A request is at most so many seats wide.
    widest: AtomicU32,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queues: FairQueues,
    waiting: HashMap<u64, Waiter, RandomState>,
    next: u64,
    counts: Counts,
    dropped: Dropped,
    demand: Demand,
}

#[derive(Debug)]
struct Waiter {
    start: oneshot::Sender<()>,
    schema: Arc<SchemaFigures>,
    arrived: Instant,
}

/// What a request gets that comes to a level.
#[derive(Debug)]
pub(crate) enum Entry {
    In(Seat),
    Waits(Waiting),
    Refused(Reason),
}

/// Seats that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    level: Arc<Level>,
    schema: Arc<SchemaFigures>,
    queue: u32,
    seats: u32,
    since: Instant,
    /// Whether it is of a watch, which holds it only until it has begun.
    pub(crate) of_watch: bool,
}

/// A place in a queue; dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    level: Arc<Level>,
    schema: Arc<SchemaFigures>,
    id: u64,
    queue: u32,
    seats: u32,
    arrived: Instant,
    start: oneshot::Receiver<()>,
    /// Why it ends without a seat.
    reason: Reason,
    /// It has become a seat.
    served: bool,
}

/// One that waits, as it is shown to people.
#[derive(Clone, Debug)]
pub(crate) struct ShownWaiter {
    pub(crate) schema: String,
    pub(crate) seats: u32,
    pub(crate) waited: Duration,
}

impl Level {
    pub(crate) fn new(name: &str, shape: Shape, limit: u32, figures: LevelFigures) -> Self {
        Self {
            name: name.to_owned(),
            figures,
            widest: AtomicU32::new(u32::MAX),
            began: Instant::now(),
            state: Mutex::new(State {
                queues: FairQueues::new(shape, limit, Duration::ZERO),
                waiting: HashMap::default(),
                next: 0,
                counts: Counts::default(),
                dropped: Dropped::default(),
                demand: Demand::default(),
            }),
        }
    }

    /// How wide a request may be here, in seats.
    pub(crate) fn widest(&self) -> u32 {
        self.widest.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shape(&self, shape: Shape, widest: u32) {
        self.widest.store(widest, Ordering::Relaxed);
        self.state.lock().queues.reshape(shape);
    }

    /// From now on it has so many seats.
    pub(crate) fn set_limit(&self, limit: u32) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.queues.set_limit(now - self.began, limit);
        state.dispatch(now - self.began);
    }

    /// Ends a period of counting the demand, and answers what it is.
    pub(crate) fn take_demand(&self) -> Demand {
        let now = Instant::now() - self.began;
        let mut state = self.state.lock();
        let period = state.queues.take_demand(now);
        state.demand.update(period);
        state.demand
    }

    /// A request of the flow with this hash comes for some seats.
    pub(crate) fn enter(self: &Arc<Self>, schema: &Arc<SchemaFigures>, flow: u64, seats: u32) -> Entry {
        let now = Instant::now();
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        match state.queues.arrive(now - self.began, id, flow, seats) {
            Arrival::Started(queue) => {
                state.counts.dispatched += 1;
                drop(state);
                Entry::In(Seat::new(self.clone(), schema.clone(), queue, seats, now))
            }
            Arrival::Waits(queue) => {
                let (start, started) = oneshot::channel();
                let waiter = Waiter {
                    start,
                    schema: schema.clone(),
                    arrived: now,
                };
                state.waiting.insert(id, waiter);
                // It may be its turn at once: a wide one before it may be in the way of others only.
                state.dispatch(now - self.began);
                drop(state);
                schema.queued(seats);
                Entry::Waits(Waiting {
                    level: self.clone(),
                    schema: schema.clone(),
                    id,
                    queue,
                    seats,
                    arrived: now,
                    start: started,
                    reason: Reason::Cancelled,
                    served: false,
                })
            }
            full_or_busy => {
                state.counts.rejected += 1;
                drop(state);
                let reason = match full_or_busy {
                    Arrival::Full => Reason::QueueFull,
                    _ => Reason::ConcurrencyLimit,
                };
                schema.rejected(reason);
                Entry::Refused(reason)
            }
        }
    }

    /// Counts one that is refused, and answers after how many seconds it is to come again.
    pub(crate) fn retry_after(&self) -> u64 {
        let second = self.began.elapsed().as_secs();
        self.state.lock().dropped.note(second)
    }

    pub(crate) fn load(&self) -> (Load, Counts, u32) {
        let state = self.state.lock();
        (state.queues.load(), state.counts, state.queues.limit())
    }

    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.state.lock().queues.shown()
    }

    /// Those that wait in a queue, oldest first.
    pub(crate) fn shown_waiting(&self, queue: u32) -> Vec<ShownWaiter> {
        let state = self.state.lock();
        let waiting = state.queues.waiting(queue).filter_map(|(id, seats)| {
            let waiter = state.waiting.get(&id)?;
            Some(ShownWaiter {
                schema: waiter.schema.name.clone(),
                seats,
                waited: waiter.arrived.elapsed(),
            })
        });
        waiting.collect()
    }
}

impl State {
    /// Tells all whose turn it is to start.
    fn dispatch(&mut self, now: Duration) {
        while let Some(started) = self.queues.next(now) {
            if let Some(waiter) = self.waiting.remove(&started.id) {
                self.counts.dispatched += 1;
                // If it has gone away it gives its seats back itself.
                let _ = waiter.start.send(());
            }
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// Waits for its turn, until `end` at most. Dropping the future gives the place up.
    ///
    /// # Errors
    ///
    /// Why there is no seat.
    pub(crate) async fn wait(mut self, end: Instant) -> Result<Seat, Reason> {
        match timeout_at(end, &mut self.start).await {
            Ok(Ok(())) => Ok(self.seat()),
            // The level does not forget those who wait.
            Ok(Err(_)) => Err(Reason::Cancelled),
            Err(_) => {
                // It may have been its turn just now.
                if self.start.try_recv().is_ok() {
                    return Ok(self.seat());
                }
                self.reason = Reason::TimeOut;
                Err(Reason::TimeOut)
            }
        }
    }

    fn seat(&mut self) -> Seat {
        let now = Instant::now();
        self.served = true;
        self.schema.unqueued(self.seats);
        self.schema.waited(now - self.arrived, true);
        Seat::take(
            self.level.clone(),
            self.schema.clone(),
            self.queue,
            self.seats,
            now,
        )
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let now = Instant::now();
        let at = now - self.level.began;
        let mut state = self.level.state.lock();
        if state.waiting.remove(&self.id).is_some() {
            state.queues.leave(at, self.id, self.queue);
        } else {
            // It was told to start, and does not.
            state.queues.finish(at, self.queue, self.seats, Duration::ZERO);
        }
        match self.reason {
            Reason::TimeOut => state.counts.timed_out += 1,
            _ => state.counts.cancelled += 1,
        }
        state.dispatch(at);
        drop(state);
        self.schema.unqueued(self.seats);
        self.schema.waited(now - self.arrived, false);
        self.schema.rejected(self.reason);
    }
}

// === impl Seat ===

impl Seat {
    /// A seat that was free.
    fn new(level: Arc<Level>, schema: Arc<SchemaFigures>, queue: u32, seats: u32, since: Instant) -> Self {
        if !level.figures.exempt {
            schema.waited(Duration::ZERO, true);
        }
        Self::take(level, schema, queue, seats, since)
    }

    fn take(level: Arc<Level>, schema: Arc<SchemaFigures>, queue: u32, seats: u32, since: Instant) -> Self {
        schema.started(seats);
        Self {
            level,
            schema,
            queue,
            seats,
            since,
            of_watch: false,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now - self.since;
        let at = now - self.level.began;
        let mut state = self.level.state.lock();
        state.queues.finish(at, self.queue, self.seats, took);
        state.dispatch(at);
        drop(state);
        self.schema.finished(self.seats, took, self.of_watch);
    }
}

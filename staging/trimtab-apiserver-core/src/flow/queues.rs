//! Fair queuing of requests for a limited number of seats: a pure data structure, to which the time is told.
//!
//! Virtual time runs at the rate at which each queue that has something to do would be served if all were served alike.
//! A queue's next request has a virtual start, and the one whose virtual finish is the earliest goes first. How long a
//! request takes is guessed at its start, and put right at its end. Only queues that have something to do are kept: the
//! others have no history.
//!
//! # What always holds
//!
//! - **Seats kept**: the requests that are executing hold no more seats than there are, but for one that is wider than
//!   all and runs alone, and until those have ended that were started when there were more.
//! - **Busy**: no request waits whose turn it is and whose seats are free.
//! - **Fair**: no flow starves: between two queues that both have requests waiting, the work that has been served differs
//!   by no more than their widest requests, and what one was let in with before the other was there.
//! - **Bounded**: a queue is no longer than its limit.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::deal::Hand;
use super::demand::{Integral, Period};

/// How long a request is taken to last before it is known, in seconds; kube-apiserver's.
const GUESS: f64 = 0.003;

/// How requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// They do not: there are seats for all.
    Exempt,
    /// They do not: without a seat they are refused.
    Reject,
    /// In one of the queues of their flow's hand, each of a limited length.
    Queue { queues: u32, hand: usize, length: usize },
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has its seats, by this queue.
    Started(u32),
    /// It waits in this queue.
    Waits(u32),
    /// Its queue is full.
    Full,
    /// All seats are taken, and nobody waits here.
    Busy,
}

/// A request that has its seats now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) id: u64,
    pub(crate) queue: u32,
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) executing: u32,
    pub(crate) seats: u32,
    pub(crate) waiting: u32,
    pub(crate) waiting_seats: u32,
}

/// A queue as it is shown to people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) index: u32,
    pub(crate) load: Load,
    pub(crate) next_start: f64,
}

#[derive(Debug)]
pub(crate) struct FairQueues {
    shape: Shape,
    limit: u32,
    last: Duration,
    /// The virtual time, in seat-seconds.
    virtual_now: f64,
    /// Those that have something to do.
    active: HashMap<u32, Queue, RandomState>,
    /// The queue that was served last: of equals the next one after it goes first.
    robin: u32,
    total: Load,
    demand: Integral,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    load: Load,
    /// The virtual start of the next request.
    next_start: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    seats: u32,
    /// The virtual time when it came.
    arrived: f64,
}

fn work(seats: u32) -> f64 {
    f64::from(seats) * GUESS
}

impl FairQueues {
    pub(crate) fn new(shape: Shape, limit: u32, now: Duration) -> Self {
        Self {
            shape,
            limit,
            last: now,
            virtual_now: 0.0,
            active: HashMap::default(),
            robin: 0,
            total: Load::default(),
            demand: Integral::new(now),
        }
    }

    pub(crate) fn load(&self) -> Load {
        self.total
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Everything that has something to do, by number.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let shown = self.active.iter().map(|(index, queue)| Shown {
            index: *index,
            load: queue.load,
            next_start: queue.next_start,
        });
        let mut shown: Vec<Shown> = shown.collect();
        shown.sort_by_key(|queue| queue.index);
        shown
    }

    /// Those that wait in a queue, oldest first.
    pub(crate) fn waiting(&self, queue: u32) -> impl Iterator<Item = (u64, u32)> {
        let queue = self.active.get(&queue).into_iter();
        queue.flat_map(|queue| queue.waiting.iter().map(|w| (w.id, w.seats)))
    }

    /// From now on requests wait like this. Those that wait already are served from the queues that they are in.
    pub(crate) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// From now on there are so many seats; call [`FairQueues::next`] after it.
    pub(crate) fn set_limit(&mut self, now: Duration, limit: u32) {
        self.advance(now);
        self.limit = limit;
    }

    /// What the demand for seats came to since the last time.
    pub(crate) fn take_demand(&mut self, now: Duration) -> Period {
        self.demand.take(now)
    }

    /// A request of a flow, by the flow's hash, comes for some seats; call [`FairQueues::next`] after it if it waits.
    pub(crate) fn arrive(&mut self, now: Duration, id: u64, flow: u64, seats: u32) -> Arrival {
        self.advance(now);
        let (queues, hand, length) = match self.shape {
            Shape::Exempt | Shape::Reject => {
                if !self.fits(seats) {
                    return Arrival::Busy;
                }
                return self.start_at_once(now, 0, seats);
            }
            Shape::Queue { queues, hand, length } => (queues, hand, length),
        };
        let queue = self.choose(flow, queues, hand);
        if self.total.waiting == 0 && self.fits(seats) {
            return self.start_at_once(now, queue, seats);
        }
        if self.active.get(&queue).map_or(0, |queue| queue.waiting.len()) >= length {
            return Arrival::Full;
        }
        let arrived = self.virtual_now;
        let queue_of = self.active.entry(queue).or_default();
        if queue_of.load == Load::default() {
            queue_of.next_start = arrived;
        }
        queue_of.waiting.push_back(Waiting { id, seats, arrived });
        for load in [&mut queue_of.load, &mut self.total] {
            load.waiting += 1;
            load.waiting_seats += seats;
        }
        self.note_demand(now);
        Arrival::Waits(queue)
    }

    /// Gives the next request its seats, if any waits whose turn it is and for whom there are enough.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Started> {
        if self.total.waiting == 0 {
            return None;
        }
        self.advance(now);
        let after = |index: u32| index.wrapping_sub(self.robin).wrapping_sub(1);
        let best = self.active.iter().filter_map(|(index, queue)| {
            let head = queue.waiting.front()?;
            Some((
                queue.next_start + work(head.seats),
                after(*index),
                *index,
                head.seats,
            ))
        });
        let best = best.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (_, _, index, seats) = best?;
        if !self.fits(seats) {
            return None;
        }
        self.robin = index;
        let queue = self.active.get_mut(&index)?;
        let head = queue.waiting.pop_front()?;
        for load in [&mut queue.load, &mut self.total] {
            load.waiting -= 1;
            load.waiting_seats -= seats;
            load.executing += 1;
            load.seats += seats;
        }
        queue.next_start += work(seats);
        queue.bound();
        self.note_demand(now);
        Some(Started {
            id: head.id,
            queue: index,
        })
    }

    /// A request that waits is given up; answers whether it did. Call [`FairQueues::next`] after it: it may have been in the
    /// way.
    pub(crate) fn leave(&mut self, now: Duration, id: u64, queue: u32) -> bool {
        self.advance(now);
        let Some(queue_of) = self.active.get_mut(&queue) else {
            return false;
        };
        let Some(at) = queue_of.waiting.iter().position(|waiting| waiting.id == id) else {
            return false;
        };
        let seats = queue_of.waiting.remove(at).map_or(0, |waiting| waiting.seats);
        for load in [&mut queue_of.load, &mut self.total] {
            load.waiting -= 1;
            load.waiting_seats -= seats;
        }
        queue_of.bound();
        self.forget_if_idle(queue);
        self.note_demand(now);
        true
    }

    /// A request that was started by this queue has ended, after so long; call [`FairQueues::next`] after it.
    pub(crate) fn finish(&mut self, now: Duration, queue: u32, seats: u32, took: Duration) {
        self.advance(now);
        if let Some(queue) = self.active.get_mut(&queue) {
            for load in [&mut queue.load, &mut self.total] {
                load.executing -= 1;
                load.seats -= seats;
            }
            // The guess gives way to what it was.
            queue.next_start -= f64::from(seats) * (GUESS - took.as_secs_f64());
            queue.bound();
        }
        self.forget_if_idle(queue);
        self.note_demand(now);
    }

    fn start_at_once(&mut self, now: Duration, queue: u32, seats: u32) -> Arrival {
        let virtual_now = self.virtual_now;
        let queue_of = self.active.entry(queue).or_default();
        if queue_of.load == Load::default() {
            queue_of.next_start = virtual_now;
        }
        // As one that arrives in a queue where none waits.
        queue_of.next_start = queue_of.next_start.max(virtual_now) + work(seats);
        for load in [&mut queue_of.load, &mut self.total] {
            load.executing += 1;
            load.seats += seats;
        }
        self.robin = queue;
        self.note_demand(now);
        Arrival::Started(queue)
    }

    /// The queue of the flow's hand that has the least to do.
    fn choose(&self, flow: u64, queues: u32, hand: usize) -> u32 {
        let busy = |card: &u32| {
            let load = self
                .active
                .get(card)
                .map_or_else(Load::default, |queue| queue.load);
            load.waiting_seats + load.seats
        };
        let hand = Hand::deal(flow, queues.max(1), hand.max(1));
        hand.cards().iter().copied().min_by_key(busy).unwrap_or_default()
    }

    fn fits(&self, seats: u32) -> bool {
        match self.shape {
            Shape::Exempt => true,
            _ if seats > self.limit => self.total.executing == 0,
            _ => self.total.seats + seats <= self.limit,
        }
    }

    /// Virtual time goes on to `now`.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        if self.active.is_empty() {
            self.virtual_now = 0.0;
            return;
        }
        // By what is served, and not by what there is: seats that are kept free for a wide request serve nobody, and
        // virtual time that ran ahead of the queues would have no memory of who was served less. kube-apiserver's runs by
        // what there is.
        let rate = f64::from(self.total.seats) / self.active.len() as f64;
        self.virtual_now += passed * rate;
    }

    fn forget_if_idle(&mut self, queue: u32) {
        if self
            .active
            .get(&queue)
            .is_some_and(|queue| queue.load == Load::default())
        {
            self.active.remove(&queue);
        }
    }

    fn note_demand(&mut self, now: Duration) {
        self.demand.set(now, self.total.seats + self.total.waiting_seats);
    }
}

impl Queue {
    /// A queue that was served too much is not served for longer than one that had nothing: its next request starts no
    /// earlier than it came.
    fn bound(&mut self) {
        if let Some(head) = self.waiting.front() {
            self.next_start = self.next_start.max(head.arrived);
        }
    }
}

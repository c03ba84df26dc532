//! The queue as a state machine without tasks, locks or clocks: each call says what time it is.
//!
//! Relations kept between calls, where *pending* is a turn that a key is owed:
//! - every entry is in hand, or has a pending turn, or both; nothing else is kept.
//! - an entry that is not in hand is in `ready` or in `delayed`, once; one in hand is in neither.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::add::{Add, Reason, Reasons, When};
use crate::limiter::Backoff;
use crate::metrics::{Histogram, Metrics};

/// Far enough to be never, near enough for the clock not to overflow.
const END_OF_TIME: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It may be handed out.
    Ready,
    /// It waits for its time.
    Delayed,
    /// A worker has it.
    InHand,
    /// A worker has it, and it was added again.
    InHandAgain,
}

/// One key of the queue at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeySnapshot<K> {
    /// The key.
    pub key: K,
    /// Where it is.
    pub phase: Phase,
    /// How long it has been ready or in hand; for a delayed key, how long until it is ready.
    pub time: Duration,
    /// Its priority.
    pub priority: i32,
    /// Failures in a row.
    pub failures: u32,
    /// Why it waits; for a key in hand that was not added again, nothing.
    pub reasons: Reasons,
}

/// A key that the queue held when it was shut down and that no worker finished.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover<K> {
    /// The key.
    pub key: K,
    /// Where it was.
    pub phase: Phase,
}

/// How much of the queue still works. Only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Open,
    Draining,
    Closed,
}

/// What a worker is given.
#[derive(Clone, Debug)]
pub(crate) struct Turn<K> {
    pub(crate) key: K,
    pub(crate) priority: i32,
    pub(crate) failures: u32,
    pub(crate) reasons: Reasons,
    pub(crate) waited: Duration,
}

#[derive(Debug)]
pub(crate) enum Next<K> {
    Turn(Turn<K>),
    /// Nothing is ready; the earliest delayed key is due then.
    Wait(Option<Instant>),
    /// Nothing will ever be ready again.
    End,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Retry(Option<Reason>),
    After(Duration),
}

/// Ready keys in the order in which they go: the time they became ready less what their priority is worth, then the
/// order in which they came.
type Rank = (i64, u64);

#[derive(Debug)]
struct Pending {
    at: Instant,
    /// Order of arrival, to keep equals first in, first out.
    seq: u64,
    priority: i32,
    backoff: bool,
    reasons: Reasons,
}

#[derive(Debug, Default)]
struct Entry {
    failures: u32,
    /// When it was handed out, and with which priority.
    held: Option<(Instant, i32)>,
    pending: Option<Pending>,
    /// Whether the pending turn is in `ready`.
    ready: bool,
}

#[derive(Debug)]
pub(crate) struct State<K> {
    entries: HashMap<K, Entry>,
    ready: BTreeMap<Rank, K>,
    delayed: BTreeMap<(Instant, u64), K>,
    held: usize,
    mode: Mode,
    leftovers: Vec<Leftover<K>>,
    backoff: Box<dyn Backoff>,
    ageing: Duration,
    epoch: Instant,
    next_seq: u64,
    adds: u64,
    retries: u64,
    queue_duration: Histogram,
    work_duration: Histogram,
}

fn plus(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay.min(END_OF_TIME)).unwrap_or(now)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl<K: Clone + Eq + Hash> State<K> {
    pub(crate) fn new(backoff: Box<dyn Backoff>, ageing: Duration, now: Instant) -> Self {
        Self {
            entries: HashMap::new(),
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            held: 0,
            mode: Mode::Open,
            leftovers: Vec::new(),
            backoff,
            ageing,
            epoch: now,
            next_seq: 0,
            adds: 0,
            retries: 0,
            queue_duration: Histogram::default(),
            work_duration: Histogram::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a key waits, ready or delayed: somebody has to look after it.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.ready.is_empty() || !self.delayed.is_empty()
    }

    /// Whether draining has come to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.held == 0 && self.ready.is_empty()
    }

    /// Takes a key in. False: the queue is shut down.
    pub(crate) fn add(&mut self, key: K, add: Add, now: Instant) -> bool {
        if self.mode != Mode::Open {
            return false;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        let waits = entry.pending.is_some();
        let delay = match add.when {
            When::Now => Duration::ZERO,
            When::After(delay) => {
                self.retries += 1;
                delay
            }
            When::RateLimited => {
                self.retries += 1;
                if !waits {
                    entry.failures = entry.failures.saturating_add(1);
                }
                self.backoff.delay(entry.failures.max(1), now)
            }
        };
        let mut reasons = Reasons::default();
        reasons.push(add.reason);
        let pending = Pending {
            at: plus(now, delay),
            seq: 0,
            priority: add.priority,
            backoff: matches!(add.when, When::RateLimited),
            reasons,
        };
        self.merge(key, pending, add.lower, add.keep_backoff, now);
        true
    }

    /// Hands out the first ready key.
    pub(crate) fn take(&mut self, now: Instant) -> Next<K> {
        if self.mode == Mode::Closed {
            return Next::End;
        }
        self.ripen(now);
        let Some((_, key)) = self.ready.pop_first() else {
            return match self.mode {
                Mode::Draining if self.held == 0 => Next::End,
                _ => Next::Wait(self.delayed.first_key_value().map(|((at, _), _)| *at)),
            };
        };
        let entry = self.entries.get_mut(&key).expect("a ready key has an entry");
        let pending = entry.pending.take().expect("a ready key has a pending turn");
        entry.ready = false;
        entry.held = Some((now, pending.priority));
        self.held += 1;
        let waited = now.saturating_duration_since(pending.at);
        self.queue_duration.observe(waited);
        Next::Turn(Turn {
            key,
            priority: pending.priority,
            failures: entry.failures,
            reasons: pending.reasons,
            waited,
        })
    }

    /// Takes a key back from a worker.
    pub(crate) fn finish(&mut self, key: &K, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return; // reported by a shutdown at once, and gone
        };
        let Some((since, priority)) = entry.held.take() else {
            return;
        };
        self.held -= 1;
        self.work_duration.observe(now.saturating_duration_since(since));
        let mut turn = Pending {
            at: now,
            seq: 0,
            priority,
            backoff: false,
            reasons: Reasons::default(),
        };
        let again = match outcome {
            Outcome::Done => {
                entry.failures = 0;
                false
            }
            Outcome::After(delay) => {
                entry.failures = 0;
                self.retries += 1;
                turn.at = plus(now, delay);
                true
            }
            Outcome::Retry(reason) => {
                entry.failures = entry.failures.saturating_add(1);
                self.retries += 1;
                turn.at = plus(now, self.backoff.delay(entry.failures, now));
                turn.backoff = true;
                turn.reasons.push(reason);
                true
            }
        };
        // What came in while the key was in hand was not in a tree: put it there now.
        if let Some(pending) = entry.pending.take() {
            self.merge(key.clone(), pending, false, false, now);
        }
        if again && self.mode == Mode::Open {
            self.merge(key.clone(), turn, false, false, now);
        } else if again && self.entries.get(key).is_some_and(|entry| entry.pending.is_none()) {
            self.leave(key.clone(), Phase::Delayed);
        }
        if self.entries.get(key).is_some_and(|entry| entry.pending.is_none()) {
            self.entries.remove(key);
        }
    }

    /// Forgets the failures of a key in hand.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = 0;
        }
    }

    /// Goes forward to `mode` and moves what will not be handed out any more to the leftovers.
    pub(crate) fn shut_down(&mut self, mode: Mode) {
        self.mode = self.mode.max(mode);
        if self.mode >= Mode::Draining {
            for (_, key) in std::mem::take(&mut self.delayed) {
                self.entries.remove(&key);
                self.leave(key, Phase::Delayed);
            }
        }
        if self.mode == Mode::Closed {
            for (_, key) in std::mem::take(&mut self.ready) {
                self.entries.remove(&key);
                self.leave(key, Phase::Ready);
            }
            for (key, entry) in std::mem::take(&mut self.entries) {
                let again = entry.pending.is_some();
                self.leave(key, if again { Phase::InHandAgain } else { Phase::InHand });
            }
            self.held = 0;
        }
    }

    pub(crate) fn take_leftovers(&mut self) -> Vec<Leftover<K>> {
        std::mem::take(&mut self.leftovers)
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Vec<KeySnapshot<K>> {
        let of = |(key, entry): (&K, &Entry)| {
            let (phase, time, priority) = match (&entry.held, &entry.pending) {
                (Some((since, priority)), pending) => {
                    let phase = if pending.is_some() {
                        Phase::InHandAgain
                    } else {
                        Phase::InHand
                    };
                    (phase, now.saturating_duration_since(*since), *priority)
                }
                (None, Some(p)) if p.at <= now => {
                    (Phase::Ready, now.saturating_duration_since(p.at), p.priority)
                }
                (None, Some(p)) => (Phase::Delayed, p.at.saturating_duration_since(now), p.priority),
                (None, None) => return None,
            };
            Some(KeySnapshot {
                key: key.clone(),
                phase,
                time,
                priority,
                failures: entry.failures,
                reasons: entry
                    .pending
                    .as_ref()
                    .map(|p| p.reasons.clone())
                    .unwrap_or_default(),
            })
        };
        self.entries.iter().filter_map(of).collect()
    }

    pub(crate) fn metrics(&self, now: Instant) -> Metrics {
        let mut metrics = Metrics {
            adds: self.adds,
            retries: self.retries,
            queue_duration: self.queue_duration.clone(),
            work_duration: self.work_duration.clone(),
            ..Metrics::default()
        };
        for entry in self.entries.values() {
            if let Some((since, _)) = entry.held {
                let running = now.saturating_duration_since(since);
                metrics.unfinished += running;
                metrics.longest_running = metrics.longest_running.max(running);
            } else if let Some(pending) = &entry.pending {
                if pending.at > now {
                    metrics.delayed += 1;
                    continue;
                }
                *metrics.depth.entry(pending.priority).or_default() += 1;
                let waited = now.saturating_duration_since(pending.at);
                let longest = metrics.longest_waiting.entry(pending.priority).or_default();
                *longest = (*longest).max(waited);
            }
        }
        metrics
    }

    fn leave(&mut self, key: K, phase: Phase) {
        self.leftovers.push(Leftover { key, phase });
    }

    fn rank(&self, at: Instant, priority: i32, seq: u64) -> Rank {
        let since = nanos(at.saturating_duration_since(self.epoch));
        let worth = nanos(self.ageing).saturating_mul(i64::from(priority));
        (since.saturating_sub(worth), seq)
    }

    /// Moves the delayed keys whose time has come to the ready ones.
    fn ripen(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                break;
            }
            let ((at, seq), key) = first.remove_entry();
            self.adds += 1;
            let entry = self.entries.get_mut(&key).expect("a delayed key has an entry");
            entry.ready = true;
            let priority = entry.pending.as_ref().map_or(0, |pending| pending.priority);
            let rank = self.rank(at, priority, seq);
            self.ready.insert(rank, key);
        }
    }

    /// Owes the key a turn: the higher priority, the earlier time, the reasons of both.
    fn merge(&mut self, key: K, new: Pending, lower: bool, keep_backoff: bool, now: Instant) {
        let entry = self.entries.get_mut(&key).expect("the caller has made the entry");
        let was_ready = entry.ready;
        let merged = match entry.pending.take() {
            None => {
                self.next_seq += 1;
                Pending {
                    seq: self.next_seq,
                    ..new
                }
            }
            Some(mut old) => {
                if entry.held.is_none() {
                    let (at, priority, seq, ready) = (old.at, old.priority, old.seq, entry.ready);
                    if ready {
                        let rank = self.rank(at, priority, seq);
                        self.ready.remove(&rank);
                    } else {
                        self.delayed.remove(&(at, seq));
                    }
                }
                if new.at < old.at && !(keep_backoff && old.backoff) {
                    old.at = new.at;
                    old.backoff = new.backoff;
                }
                old.priority = if lower {
                    new.priority
                } else {
                    old.priority.max(new.priority)
                };
                old.reasons.merge(new.reasons);
                old
            }
        };
        let (at, seq, priority) = (merged.at, merged.seq, merged.priority);
        let rank = self.rank(at, priority, seq);
        let entry = self.entries.get_mut(&key).expect("it was there above");
        entry.pending = Some(merged);
        let due = at <= now;
        entry.ready = due && entry.held.is_none();
        if entry.ready && !was_ready {
            self.adds += 1;
        }
        match (entry.held, due) {
            (Some(_), _) => {}
            (None, true) => drop(self.ready.insert(rank, key)),
            (None, false) if self.mode == Mode::Open => drop(self.delayed.insert((at, seq), key)),
            (None, false) => {
                self.entries.remove(&key);
                self.leave(key, Phase::Delayed);
            }
        }
    }
}

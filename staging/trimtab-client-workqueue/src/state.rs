//! The queue as a state machine without tasks, locks or clocks: each call says what time it is.
//!
//! A key has an entry as long as it waits or is in hand, and no longer. An entry is in exactly one place: among the ready
//! keys, among the delays, or in hand; what is added to a key in hand lies in its entry until the hand lets go.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::add::{Add, Reason, Reasons, When};
use crate::delays::Delays;
use crate::entry::{Entry, Pace, Phase};
use crate::limiter::Backoff;
use crate::metrics::{Durations, Metrics};
use crate::ready::{FlowOf, Ready};
use crate::slab::{KeyedSlab, Slot};

/// Far enough to be never, near enough for the clock not to overflow: thirty years, in nanoseconds.
const END_OF_TIME: u64 = 1_000_000_000 * 86_400 * 365 * 30;

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
    /// Whether it waits for its backoff; for a key in hand, whether its next turn does.
    pub backoff: bool,
    /// Why it waits, or why it is in hand.
    pub reasons: Reasons,
    /// Why it comes again after the turn that it is in.
    pub again: Reasons,
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
    pub(crate) slot: Slot,
    pub(crate) priority: i32,
    pub(crate) failures: u32,
    pub(crate) reasons: Option<Arc<Reasons>>,
    pub(crate) marked: bool,
    pub(crate) waited: Duration,
    pub(crate) since: Instant,
}

#[derive(Debug)]
pub(crate) enum Next<K> {
    Turn(Turn<K>),
    /// Nothing is ready; the earliest delayed key is due then.
    Wait(Option<Instant>),
    /// Nothing will ever be ready again.
    End,
}

/// What a call changed for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// One more key is ready.
    Ready,
    /// One more key is delayed.
    Delayed,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Retry(Option<Reason>),
    After(Duration),
}

/// What a worker has.
#[derive(Debug)]
struct Hand {
    slot: Slot,
    priority: i32,
    since: u64,
    reasons: Option<Arc<Reasons>>,
}

/// A turn that a key is to be owed.
struct Claim {
    at: u64,
    pace: Pace,
    priority: i32,
    lower: bool,
    mark: bool,
    reasons: Option<Arc<Reasons>>,
}

pub(crate) struct State<K> {
    keys: KeyedSlab<Entry<K>>,
    ready: Ready<K>,
    delays: Delays,
    hands: Vec<Hand>,
    mode: Mode,
    leftovers: Vec<Leftover<K>>,
    backoff: Box<dyn Backoff>,
    epoch: Instant,
    adds: u64,
    retries: u64,
    queue_duration: Durations,
    work_duration: Durations,
}

/// In words of 64 bits, since this is done for each turn.
#[inline]
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    let nanos = seconds.saturating_add(u64::from(duration.subsec_nanos()));
    nanos.min(END_OF_TIME)
}

impl<K: Clone + Eq + Hash> State<K> {
    pub(crate) fn new(
        backoff: Box<dyn Backoff>,
        ageing: Duration,
        flow_of: Option<FlowOf<K>>,
        now: Instant,
    ) -> Self {
        Self {
            keys: KeyedSlab::new(),
            ready: Ready::new(nanos(ageing), flow_of),
            delays: Delays::default(),
            hands: Vec::new(),
            mode: Mode::Open,
            leftovers: Vec::new(),
            backoff,
            epoch: now,
            adds: 0,
            retries: 0,
            queue_duration: Durations::default(),
            work_duration: Durations::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn ready_len(&mut self, now: Instant) -> usize {
        let now = self.time(now);
        self.ripen(now);
        self.ready.len()
    }

    pub(crate) fn has_delayed(&self) -> bool {
        self.delays.len() > 0
    }

    /// When the earliest delayed key is due.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        let due = self.delays.next_due(&self.keys)?;
        Some(self.epoch + Duration::from_nanos(due))
    }

    /// Whether draining has come to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.hands.is_empty() && self.ready.is_empty()
    }

    /// Takes a key in. The clock is asked only if the time matters. `None`: the queue is shut down.
    pub(crate) fn add(&mut self, key: K, add: Add, clock: impl FnOnce() -> Instant) -> Option<Change> {
        if self.mode != Mode::Open {
            return None;
        }
        let hash = self.keys.hash(&key);
        let found = self.keys.find(hash, &key);
        if let (Some(slot), When::Now) = (found, add.when)
            && self.keys.get(slot).is_covering(&add)
        {
            return Some(Change::None);
        }
        let now = clock();
        let time = self.time(now);
        let slot = found.unwrap_or_else(|| self.keys.insert(hash, Entry::new(key)));
        let owed = found.is_some_and(|slot| self.keys.get(slot).phase != Phase::InHand);
        let (delay, pace) = match add.when {
            When::Now => (0, Pace::Trigger),
            When::After(delay) => (nanos(delay), Pace::Trigger),
            When::RateLimited { at_latest } => {
                let entry = self.keys.get_mut(slot);
                if !owed {
                    entry.tally.fail();
                }
                let delay = self.backoff.delay(entry.tally.failures().max(1), now);
                (nanos(delay.min(at_latest)), Pace::Backoff)
            }
        };
        if add.when != When::Now {
            self.retries += 1;
        }
        let claim = Claim {
            at: time + delay,
            pace: if add.end_backoff { Pace::Eager } else { pace },
            priority: add.priority,
            lower: add.lower,
            mark: add.mark,
            reasons: add.reasons,
        };
        self.ripen(time);
        Some(match found.map(|slot| self.keys.get(slot).phase) {
            None => {
                self.owe_first(slot, claim);
                self.place(slot, time)
            }
            Some(Phase::InHand) => {
                self.owe_first(slot, claim);
                self.keys.get_mut(slot).phase = Phase::InHandAgain;
                Change::None
            }
            Some(Phase::InHandAgain) => {
                self.merge(slot, claim);
                Change::None
            }
            Some(Phase::Ready) => {
                self.rearrange(slot, claim, time);
                Change::None
            }
            Some(Phase::Delayed) => {
                let before = self.keys.get(slot).at;
                self.merge(slot, claim);
                if self.keys.get(slot).at == before {
                    Change::None
                } else {
                    self.delays.remove();
                    self.place(slot, time)
                }
            }
        })
    }

    /// Hands out the key whose turn it is.
    pub(crate) fn take(&mut self, now: Instant) -> Next<K> {
        if self.mode == Mode::Closed {
            return Next::End;
        }
        let time = self.time(now);
        self.ripen(time);
        let Some(slot) = self.ready.pop(time, &mut self.keys) else {
            return match self.mode {
                Mode::Draining if self.hands.is_empty() => Next::End,
                _ => Next::Wait(self.next_due()),
            };
        };
        let entry = self.keys.get_mut(slot);
        entry.phase = Phase::InHand;
        entry.prev = self.hands.len() as Slot;
        let reasons = entry.reasons.take();
        self.hands.push(Hand {
            slot,
            priority: entry.priority,
            since: time,
            reasons: reasons.clone(),
        });
        let waited = time.saturating_sub(entry.at);
        self.queue_duration.observe(waited);
        Next::Turn(Turn {
            key: entry.key.clone(),
            slot,
            priority: entry.priority,
            failures: entry.tally.failures(),
            reasons,
            marked: entry.tally.take_mark(),
            waited: Duration::from_nanos(waited),
            since: now,
        })
    }

    /// Takes a key back from the worker who has it. What is left of one that is done is for the caller to drop.
    pub(crate) fn finish(
        &mut self,
        slot: Slot,
        outcome: Outcome,
        now: Instant,
    ) -> (Change, Option<Entry<K>>) {
        if self.mode == Mode::Closed {
            return (Change::None, None); // it was reported
        }
        let time = self.time(now);
        let entry = self.keys.get_mut(slot);
        let again = entry.phase == Phase::InHandAgain;
        let place = entry.prev as usize;
        let hand = self.hands.swap_remove(place);
        if let Some(moved) = self.hands.get(place) {
            self.keys.get_mut(moved.slot).prev = place as Slot;
        }
        self.work_duration.observe(time.saturating_sub(hand.since));

        let entry = self.keys.get_mut(slot);
        let (at, pace, reason) = match outcome {
            Outcome::Done => {
                entry.tally.forgive();
                if !again {
                    return (Change::None, Some(self.keys.remove(slot)));
                }
                self.ripen(time);
                return (self.place(slot, time), None);
            }
            Outcome::After(delay) => {
                entry.tally.forgive();
                (time + nanos(delay), Pace::Trigger, None)
            }
            Outcome::Retry(reason) => {
                // A failure that was reported by an add meanwhile is this one.
                if !(again && entry.pace == Pace::Backoff) {
                    entry.tally.fail();
                }
                let delay = self.backoff.delay(entry.tally.failures().max(1), now);
                (time + nanos(delay), Pace::Backoff, reason)
            }
        };
        self.retries += 1;
        self.ripen(time);
        let claim = Claim {
            at,
            pace,
            priority: hand.priority,
            lower: false,
            mark: false,
            reasons: reason.map(|reason| Arc::new(Reasons::of(reason))),
        };
        match (self.mode, again) {
            (Mode::Open, true) => {
                // Who failed waits, unless somebody asked for an end of that.
                let entry = self.keys.get_mut(slot);
                if pace == Pace::Backoff && entry.pace == Pace::Trigger {
                    (entry.at, entry.pace) = (at, pace);
                }
                self.merge(slot, claim);
            }
            (Mode::Open, false) => self.owe_first(slot, claim),
            // What was added while the queue was open has its turn; what would come back has not.
            (_, true) => {}
            (_, false) => {
                let key = self.keys.remove(slot).key;
                self.leave(key, Phase::Delayed);
                return (Change::None, None);
            }
        }
        (self.place(slot, time), None)
    }

    /// Forgets the failures of a key in hand.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if self.mode != Mode::Closed {
            self.keys.get_mut(slot).tally.forgive();
        }
    }

    /// Goes forward to `mode` and moves what will not be handed out any more to the leftovers.
    pub(crate) fn shut_down(&mut self, mode: Mode, now: Instant) {
        if self.mode == Mode::Open {
            // What is due by now is ready, whether or not anybody has looked.
            let time = self.time(now);
            self.ripen(time);
        }
        self.mode = self.mode.max(mode);
        if self.mode >= Mode::Draining {
            while let Some(slot) = self.delays.pop_due(u64::MAX, &self.keys) {
                let key = self.keys.remove(slot).key;
                self.leave(key, Phase::Delayed);
            }
        }
        if self.mode == Mode::Closed {
            self.ready.clear();
            self.hands = Vec::new();
            let left = self.keys.drain().map(|entry| Leftover {
                phase: entry.phase,
                key: entry.key,
            });
            self.leftovers.extend(left);
        }
    }

    pub(crate) fn take_leftovers(&mut self) -> Vec<Leftover<K>> {
        std::mem::take(&mut self.leftovers)
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Vec<KeySnapshot<K>> {
        let now = self.time(now);
        let text = |reasons: &Option<Arc<Reasons>>| reasons.as_deref().cloned().unwrap_or_default();
        let of = |entry: &Entry<K>| {
            let mut snapshot = KeySnapshot {
                key: entry.key.clone(),
                phase: entry.phase,
                time: Duration::ZERO,
                priority: entry.priority,
                failures: entry.tally.failures(),
                backoff: entry.pace == Pace::Backoff,
                reasons: text(&entry.reasons),
                again: Reasons::default(),
            };
            match entry.phase {
                Phase::Delayed if entry.at > now => snapshot.time = Duration::from_nanos(entry.at - now),
                Phase::Delayed | Phase::Ready => {
                    snapshot.phase = Phase::Ready;
                    snapshot.time = Duration::from_nanos(now.saturating_sub(entry.at));
                }
                Phase::InHand | Phase::InHandAgain => {
                    let hand = &self.hands[entry.prev as usize];
                    snapshot.again = std::mem::replace(&mut snapshot.reasons, text(&hand.reasons));
                    snapshot.time = Duration::from_nanos(now.saturating_sub(hand.since));
                    snapshot.priority = hand.priority;
                    snapshot.backoff &= entry.phase == Phase::InHandAgain;
                }
            }
            snapshot
        };
        self.keys.iter().map(of).collect()
    }

    pub(crate) fn metrics(&mut self, now: Instant) -> Metrics {
        let now = self.time(now);
        self.ripen(now);
        let mut metrics = Metrics {
            delayed: self.delays.len(),
            adds: self.adds,
            retries: self.retries,
            queue_duration: self.queue_duration.histogram(),
            work_duration: self.work_duration.histogram(),
            ..Metrics::default()
        };
        for hand in &self.hands {
            let running = Duration::from_nanos(now.saturating_sub(hand.since));
            metrics.unfinished += running;
            metrics.longest_running = metrics.longest_running.max(running);
        }
        for (priority, depth, since) in self.ready.depths(&self.keys) {
            metrics.depth.insert(priority, depth);
            let waited = Duration::from_nanos(now.saturating_sub(since));
            metrics.longest_waiting.insert(priority, waited);
        }
        metrics
    }

    fn time(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    fn leave(&mut self, key: K, phase: Phase) {
        self.leftovers.push(Leftover { key, phase });
    }

    /// Moves the delayed keys whose time has come to the ready ones.
    fn ripen(&mut self, now: u64) {
        while let Some(slot) = self.delays.pop_due(now, &self.keys) {
            self.make_ready(slot);
        }
    }

    fn make_ready(&mut self, slot: Slot) {
        self.adds += 1;
        self.keys.get_mut(slot).phase = Phase::Ready;
        self.ready.push(slot, &mut self.keys);
    }

    /// Puts an entry that is in no place where its time says.
    fn place(&mut self, slot: Slot, now: u64) -> Change {
        if self.keys.get(slot).at <= now {
            self.make_ready(slot);
            Change::Ready
        } else if self.mode == Mode::Open {
            self.delays.push(slot, &mut self.keys);
            Change::Delayed
        } else {
            let key = self.keys.remove(slot).key;
            self.leave(key, Phase::Delayed);
            Change::None
        }
    }

    /// Owes a turn to a key that is owed none.
    fn owe_first(&mut self, slot: Slot, claim: Claim) {
        let entry = self.keys.get_mut(slot);
        (entry.at, entry.pace, entry.priority) = (claim.at, claim.pace, claim.priority);
        entry.tally.mark(claim.mark);
        entry.reasons = claim.reasons;
    }

    /// Merges a claim into the turn that a key is owed: the higher priority, the earlier time, the reasons of both. A
    /// backoff gives way to those only who ask for its end.
    fn merge(&mut self, slot: Slot, claim: Claim) {
        let entry = self.keys.get_mut(slot);
        entry.priority = claim.merged_priority(entry.priority);
        entry.tally.mark(claim.mark);
        entry.because(claim.reasons);
        let gives_way = entry.pace != Pace::Backoff || claim.pace == Pace::Eager;
        if gives_way && claim.at < entry.at {
            (entry.at, entry.pace) = (claim.at, claim.pace);
        } else if claim.pace == Pace::Eager && entry.pace == Pace::Trigger {
            entry.pace = Pace::Eager;
        }
    }

    /// Merges a claim into the turn of a key that is ready: only its priority can change, and then it goes to the end of
    /// its new one. What is overdue is not moved down.
    fn rearrange(&mut self, slot: Slot, claim: Claim, now: u64) {
        let entry = self.keys.get_mut(slot);
        let priority = claim.merged_priority(entry.priority);
        entry.tally.mark(claim.mark);
        entry.because(claim.reasons);
        let stays = priority < entry.priority && self.ready.is_overdue(entry.at, now);
        if priority != entry.priority && !stays {
            self.ready.remove(slot, &mut self.keys);
            self.keys.get_mut(slot).priority = priority;
            self.ready.push(slot, &mut self.keys);
        }
    }
}

impl Claim {
    fn merged_priority(&self, priority: i32) -> i32 {
        if self.lower {
            self.priority
        } else {
            self.priority.max(priority)
        }
    }
}

impl<K> Entry<K> {
    /// Whether an add for now would change nothing.
    fn is_covering(&self, add: &Add) -> bool {
        let as_urgent = match add.lower {
            true => add.priority == self.priority,
            false => add.priority <= self.priority,
        };
        let as_marked = self.tally.is_marked() || !add.mark;
        self.phase == Phase::Ready && as_urgent && as_marked && add.reasons.is_none()
    }
}

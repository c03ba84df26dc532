//! What a timeline keeps, as a state machine without locks or clocks: each call says what time it is.
//!
//! A turn is either open or ended. An open one is always kept; ended ones are kept by key, within the bounds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::record::{Occasion, Outcome, StatusWrite, Write, WriteResult, shorten, shorten_box};
use super::snapshot::Counters;
use super::timeline::Bounds;

pub(super) struct State {
    bounds: Bounds,
    /// Turns that have begun and not ended, by their numbers.
    open: BTreeMap<u64, Box<Turn>>,
    /// Keys with turns that ended. `keys` and `order` have the same keys.
    keys: HashMap<Arc<str>, Lane>,
    order: BTreeMap<Rank, Arc<str>>,
    /// How many keys are failing.
    failing: usize,
    /// What the kept turns take, about.
    bytes: usize,
    begun: u64,
    ended: u64,
    counters: Counters,
}

/// One turn of a key.
pub(super) struct Turn {
    pub(super) number: u64,
    pub(super) key: Arc<str>,
    pub(super) occasion: Occasion,
    pub(super) begun: Instant,
    /// When the reconciler and the write of the status were done.
    pub(super) reconciled: Option<Instant>,
    pub(super) ended: Option<Instant>,
    /// With how long after the beginning each was.
    pub(super) writes: Vec<(Write, Duration)>,
    pub(super) writes_omitted: u32,
    /// How many of all writes the server took.
    pub(super) written: u32,
    pub(super) status: StatusWrite,
    /// Whether the caches did not show the writes in time.
    pub(super) unseen: bool,
    /// `None` until it has ended.
    pub(super) outcome: Option<Outcome>,
}

/// The turns of one key that ended.
#[derive(Default)]
pub(super) struct Lane {
    /// Oldest first.
    pub(super) turns: VecDeque<Box<Turn>>,
    /// How many older ones are forgotten.
    pub(super) forgotten: u64,
    /// Failed turns since one ended well.
    pub(super) failures: u32,
    rank: Rank,
    bytes: usize,
}

/// Whether a key is failing, and the number of its last turn's end.
type Rank = (bool, u64);

/// Before the failing keys, after the others.
const FIRST_FAILING: Rank = (true, 0);

impl State {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: BTreeMap::new(),
            keys: HashMap::new(),
            order: BTreeMap::new(),
            failing: 0,
            bytes: 0,
            begun: 0,
            ended: 0,
            counters: Counters::default(),
        }
    }

    /// Returns the number of the turn.
    pub(super) fn begin(&mut self, key: &str, mut occasion: Occasion, now: Instant) -> u64 {
        for reason in &mut occasion.reasons {
            shorten_box(reason, self.bounds.text);
        }
        self.begun += 1;
        let known = self.keys.get_key_value(key).map(|(key, _)| key.clone());
        let turn = Turn {
            number: self.begun,
            key: known.unwrap_or_else(|| key.into()),
            occasion,
            begun: now,
            reconciled: None,
            ended: None,
            writes: Vec::new(),
            writes_omitted: 0,
            written: 0,
            status: StatusWrite::None,
            unseen: false,
            outcome: None,
        };
        self.open.insert(self.begun, Box::new(turn));
        self.begun
    }

    pub(super) fn wrote(&mut self, number: u64, mut write: Write, now: Instant) {
        let Some(turn) = self.open.get_mut(&number) else {
            return;
        };
        match write.result {
            WriteResult::Written => {
                self.counters.writes += 1;
                turn.written = turn.written.saturating_add(1);
            }
            WriteResult::Unchanged => self.counters.unchanged += 1,
            WriteResult::Refused(_) => self.counters.refused += 1,
        }
        if turn.writes.len() < self.bounds.writes {
            write.shorten(self.bounds.text);
            turn.writes.push((write, now.duration_since(turn.begun)));
        } else {
            turn.writes_omitted = turn.writes_omitted.saturating_add(1);
        }
    }

    /// Changes an open turn.
    pub(super) fn change(&mut self, number: u64, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.open.get_mut(&number) {
            change(turn);
        }
    }

    pub(super) fn end(&mut self, number: u64, mut outcome: Outcome, now: Instant) {
        let Some(mut turn) = self.open.remove(&number) else {
            return;
        };
        self.counters.count(&outcome, turn.unseen);
        if let Some(message) = outcome.message() {
            shorten(message, self.bounds.text);
        }
        let (failed, cut_off) = (outcome.is_failure(), outcome == Outcome::CutOff);
        turn.outcome = Some(outcome);
        turn.ended = Some(now);
        turn.writes.shrink_to_fit();

        self.ended += 1;
        let key = turn.key.clone();
        let lane = self.keys.entry(key.clone()).or_default();
        if self.order.remove(&lane.rank).is_some() && lane.rank >= FIRST_FAILING {
            self.failing -= 1;
        }
        lane.failures = match (failed, cut_off) {
            (true, _) => lane.failures.saturating_add(1),
            (false, true) => lane.failures,
            (false, false) => 0,
        };
        lane.rank = (lane.failures > 0, self.ended);
        let (latest, bytes) = (lane.rank, turn.bytes());
        lane.bytes += bytes;
        self.bytes += bytes;
        lane.turns.push_back(turn);
        while lane.turns.len() > self.bounds.turns.max(1) {
            self.bytes -= lane.forget_oldest();
        }
        self.failing += usize::from(latest.0);
        self.order.insert(latest, key);
        self.keep_bounds(latest);
    }

    /// Forgets keys, and if that is not enough, turns, until the bounds hold.
    fn keep_bounds(&mut self, latest: Rank) {
        while self.keys.len() > self.bounds.keys || (self.bytes > self.bounds.bytes && self.keys.len() > 1) {
            let Some(rank) = self.next_to_go(latest) else {
                return;
            };
            let lane = self.order.remove(&rank).and_then(|key| self.keys.remove(&key));
            self.bytes -= lane.map_or(0, |lane| lane.bytes);
            self.failing -= usize::from(rank.0);
            self.counters.keys_forgotten += 1;
        }
        let lane = self.order.get(&latest).and_then(|key| self.keys.get_mut(key));
        if let Some(lane) = lane {
            while self.bytes > self.bounds.bytes && lane.turns.len() > 1 {
                self.bytes -= lane.forget_oldest();
            }
        }
    }

    /// Which key is forgotten next: the failing ones have at most half of the room when others need it, and the key whose turn
    /// has ended just now stays if it can.
    fn next_to_go(&self, latest: Rank) -> Option<Rank> {
        let healthy = self.order.range(..FIRST_FAILING).next();
        let failing = self.order.range(FIRST_FAILING..).next();
        let candidates = if self.failing * 2 > self.keys.len() {
            [failing, healthy]
        } else {
            [healthy, failing]
        };
        let candidates = candidates.into_iter().flatten().map(|(rank, _)| *rank);
        candidates.chain([latest]).find(|rank| {
            let alone = self.keys.len() == 1;
            *rank != latest || alone
        })
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// The open turns, in the order in which they began.
    pub(super) fn open(&self) -> impl Iterator<Item = &Turn> {
        self.open.values().map(AsRef::as_ref)
    }

    /// How many turns are open.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// How many keys are failing.
    pub(super) fn failing_len(&self) -> usize {
        self.failing
    }

    /// The keys whose last turns failed, the latest first.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&Arc<str>, &Lane)> {
        let order = self.order.range(FIRST_FAILING..).rev();
        order.filter_map(|(_, key)| self.keys.get_key_value(key))
    }

    /// The keys with ended turns, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Arc<str>, &Lane)> {
        self.keys.iter()
    }

    pub(super) fn lane(&self, key: &str) -> Option<&Lane> {
        self.keys.get(key)
    }

    /// What the kept turns take, about.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Lane {
    fn forget_oldest(&mut self) -> usize {
        let bytes = self.turns.pop_front().map_or(0, |turn| turn.bytes());
        self.bytes -= bytes;
        self.forgotten += 1;
        bytes
    }

    /// The number of the end of its last turn: higher is later.
    pub(super) fn last_end(&self) -> u64 {
        self.rank.1
    }
}

impl Turn {
    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let reasons: usize = self.occasion.reasons.iter().map(|reason| reason.len()).sum();
        let writes: usize = self.writes.iter().map(|(write, _)| write.heap()).sum();
        let message = match &self.outcome {
            Some(
                Outcome::Error { message, .. }
                | Outcome::Terminal { message }
                | Outcome::Panic { message, .. },
            ) => message.len(),
            _ => 0,
        };
        size_of::<Self>()
            + self.occasion.reasons.len() * size_of::<Box<str>>()
            + reasons
            + self.writes.len() * size_of::<(Write, Duration)>()
            + writes
            + message
    }
}

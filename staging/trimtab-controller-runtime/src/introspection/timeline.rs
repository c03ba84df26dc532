//! The timeline of a controller: which turns its keys had, and which they are in.
//!
//! A controller calls it at the beginning of each turn and gets a [`TurnRecord`], which takes note of what the turn does.
//! One lock guards everything and is held for the time of a few map operations; nothing that grows with the history is
//! allocated, copied or walked through while a turn is recorded.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::record::{Occasion, Outcome, StatusWrite, Write};
use super::snapshot::{Counters, KeyStatus, KeyTimeline, Listed, TurnSnapshot};
use super::state::State;

/// How much a [`Timeline`] keeps. Turns that are under way are kept whatever the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Keys of which turns that ended are kept; 0 for none. The default is 1,000.
    pub keys: usize,
    /// Turns of each key, the last ones; at least 1. The default is 32.
    pub turns: usize,
    /// Writes of each turn, the first ones; more are only counted. The default is 64.
    pub writes: usize,
    /// Bytes of each text, as a reason or an error's message; longer ones are cut. The default is 1,024.
    pub text: usize,
    /// Bytes for all turns that ended, about; the last turn is kept also if it is larger. The default is 32 MiB.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            keys: 1000,
            turns: 32,
            writes: 64,
            text: 1024,
            bytes: 32 << 20,
        }
    }
}

/// The turns of one controller, by key. Clones are the same timeline.
///
/// What always holds:
///
/// - *Accounted*: a turn that has begun is open, or is counted under exactly one outcome. A record that is dropped without
///   a word, as when a task is aborted, ends as [`Outcome::CutOff`].
/// - *Bounded*: no more is kept of turns that ended than the [`Bounds`] say.
/// - *Latest kept*: what is kept of a key are its last turns. The key whose turn ended last is kept, and where keys have to go,
///   those go first whose last turn ended longest ago: healthy ones, unless more than half of those that are kept are failing.
#[derive(Clone)]
pub struct Timeline {
    state: Arc<Mutex<State>>,
}

/// A turn that is being recorded. [`TurnRecord::end`] ends it; dropped without that, it counts as cut off.
#[must_use = "a record that is dropped counts as a turn that was cut off"]
pub struct TurnRecord {
    timeline: Timeline,
    number: u64,
    ended: bool,
}

// === impl Timeline ===

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// An empty timeline with the default bounds.
    pub fn new() -> Self {
        Self::with_bounds(Bounds::default())
    }

    /// An empty timeline with these bounds.
    pub fn with_bounds(bounds: Bounds) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(bounds))),
        }
    }

    /// Records that a turn of this key begins now.
    pub fn begin(&self, key: &(impl fmt::Display + ?Sized), occasion: Occasion) -> TurnRecord {
        let (key, now) = (key.to_string(), Instant::now());
        TurnRecord {
            number: self.state.lock().begin(&key, occasion, now),
            timeline: self.clone(),
            ended: false,
        }
    }

    /// How the turns ended since the controller began, and what they wrote.
    pub fn counters(&self) -> Counters {
        self.state.lock().counters()
    }

    /// How many turns are under way.
    pub fn open(&self) -> usize {
        self.state.lock().open_len()
    }

    /// The keys with a turn under way, in the order in which these began.
    pub fn in_hand(&self) -> Vec<KeyStatus> {
        let (state, now) = (self.state.lock(), Instant::now());
        let of = |turn| KeyStatus::in_hand(turn, state.lane(turn_key(turn)), now);
        state.open().map(of).collect()
    }

    /// The keys whose last turn failed, the latest first, at most so many.
    pub fn failing(&self, limit: usize) -> Listed<KeyStatus> {
        let (state, now) = (self.state.lock(), Instant::now());
        let failing = state.failing().take(limit);
        Listed {
            total: state.failing_len(),
            items: failing
                .map(|(key, lane)| KeyStatus::idle(key, lane, now))
                .collect(),
        }
    }

    /// The keys with turns that ended whose text contains `search`, whatever the case of its letters; the latest first, at
    /// most so many.
    pub fn keys(&self, search: &str, limit: usize) -> Listed<KeyStatus> {
        self.keys_beside(search, |_| false, limit)
    }

    /// The same, without some.
    pub(super) fn keys_beside(
        &self,
        search: &str,
        without: impl Fn(&str) -> bool,
        limit: usize,
    ) -> Listed<KeyStatus> {
        let search = search.to_lowercase();
        let wanted = |key: &str| search.is_empty() || key.to_lowercase().contains(&search);
        let (state, now) = (self.state.lock(), Instant::now());
        let mut found: Vec<_> = state
            .keys()
            .filter(|(key, _)| wanted(key) && !without(key))
            .collect();
        found.sort_unstable_by_key(|(_, lane)| std::cmp::Reverse(lane.last_end()));
        let shown = found.iter().take(limit);
        Listed {
            total: found.len(),
            items: shown.map(|(key, lane)| KeyStatus::idle(key, lane, now)).collect(),
        }
    }

    /// What is known of one key: its turns, the latest first, open ones before all others.
    pub fn of_key(&self, key: &str) -> KeyTimeline {
        let (state, now) = (self.state.lock(), Instant::now());
        let lane = state.lane(key);
        let open = state.open().filter(|turn| turn_key(turn) == key);
        let mut turns: Vec<_> = open.map(|turn| TurnSnapshot::of(turn, now)).collect();
        turns.reverse();
        if let Some(lane) = lane {
            let ended = lane.turns.iter().rev();
            turns.extend(ended.map(|turn| TurnSnapshot::of(turn, now)));
        }
        KeyTimeline {
            turns,
            forgotten: lane.map_or(0, |lane| lane.forgotten),
        }
    }

    /// Adds how many turns of these keys failed since one ended well, as far as that is kept.
    pub(super) fn note_failures(&self, keys: &mut [KeyStatus]) {
        let state = self.state.lock();
        if state.failing_len() > 0 {
            for key in keys {
                let failures = state.lane(&key.key).map_or(0, |lane| lane.failures);
                key.failures = key.failures.max(failures);
            }
        }
    }

    /// A key whose turns ended, if it is kept.
    pub(super) fn idle(&self, key: &str) -> Option<KeyStatus> {
        let (state, now) = (self.state.lock(), Instant::now());
        state.lane(key).map(|lane| KeyStatus::idle(key, lane, now))
    }

    #[cfg(test)]
    pub(super) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.state.lock())
    }
}

fn turn_key(turn: &super::state::Turn) -> &str {
    &turn.key
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

// === impl TurnRecord ===

impl TurnRecord {
    /// The turn has written something, or found that it need not.
    pub fn wrote(&mut self, write: Write) {
        let now = Instant::now();
        self.timeline.state.lock().wrote(self.number, write, now);
    }

    /// What became of the status. Said again, the last word counts.
    pub fn status(&mut self, status: StatusWrite) {
        self.change(|turn| turn.status = status);
    }

    /// The reconciler and the write of the status are done; what follows is the wait for the turn's own writes.
    pub fn reconciled(&mut self) {
        let now = Instant::now();
        self.change(|turn| turn.reconciled = Some(now));
    }

    /// The caches did not show the turn's writes in time.
    pub fn unseen(&mut self) {
        self.change(|turn| turn.unseen = true);
    }

    /// The turn has ended like this.
    pub fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn change(&self, change: impl FnOnce(&mut super::state::Turn)) {
        self.timeline.state.lock().change(self.number, change);
    }

    fn finish(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            let now = Instant::now();
            self.timeline.state.lock().end(self.number, outcome, now);
        }
    }
}

impl Drop for TurnRecord {
    fn drop(&mut self) {
        self.finish(Outcome::CutOff);
    }
}

impl fmt::Debug for TurnRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnRecord")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

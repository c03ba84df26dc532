//! What is shown of turns and keys at one moment, as the page's JSON has it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use trimtab_client_workqueue::Reasons;

use super::record::{Outcome, StatusWrite, Write};
use super::state::{Lane, Turn};
use super::wire;

/// The first of many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed<T> {
    /// How many there are.
    pub total: usize,
    /// The first of them.
    pub items: Vec<T>,
}

/// How the turns of a controller ended since it began, and what they wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counters {
    /// Turns that ended with [`Outcome::Success`].
    pub success: u64,
    /// With [`Outcome::RequeueAfter`].
    pub requeue_after: u64,
    /// With [`Outcome::Conflict`].
    pub conflict: u64,
    /// With [`Outcome::Error`].
    pub error: u64,
    /// With [`Outcome::Terminal`].
    pub terminal: u64,
    /// With [`Outcome::Panic`].
    pub panic: u64,
    /// With [`Outcome::TimedOut`].
    pub timed_out: u64,
    /// With [`Outcome::CutOff`].
    pub cut_off: u64,
    /// Turns after which the caches did not show their writes in time.
    pub unseen: u64,
    /// Writes that the server took.
    pub writes: u64,
    /// Writes that were not needed.
    pub unchanged: u64,
    /// Writes that failed.
    pub refused: u64,
    /// Keys whose turns were forgotten to make room for others.
    pub keys_forgotten: u64,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Place {
    /// Its reconciler runs.
    Reconciling,
    /// Its reconciler is done; the turn waits until the caches show what it wrote.
    Settling,
    /// A worker has it, and no turn of it is recorded.
    InHand,
    /// It waits for a worker.
    Ready,
    /// It failed, and waits for its backoff.
    BackingOff,
    /// It waits for its time.
    Delayed,
    /// It waits for nothing.
    Idle,
    /// It has no turn, and whether it waits is not known: its queue has too many keys to be looked through.
    Unknown,
}

/// A key and where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeyStatus {
    /// The key, as text.
    pub key: String,
    /// Where it is.
    pub place: Place,
    /// How long it has been there; for a key that is delayed or backs off, how long until it is ready.
    #[serde(rename = "seconds", serialize_with = "wire::seconds")]
    pub time: Duration,
    /// Its priority.
    pub priority: i32,
    /// Which attempt its turn is, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Failed turns since one ended well.
    pub failures: u32,
    /// Why it waits, or why it has its turn.
    pub reasons: Vec<String>,
    /// How many more reasons there were.
    pub reasons_omitted: u32,
    /// Whether it comes again at once after the turn that it is in.
    pub again: bool,
    /// How the last turn ended that did; for a key that is failing, the last that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastTurn>,
}

/// A turn that ended, in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LastTurn {
    /// When it ended.
    #[serde(serialize_with = "wire::timestamp")]
    pub at: Timestamp,
    /// How long it took from the beginning to the end.
    #[serde(rename = "seconds", serialize_with = "wire::seconds")]
    pub time: Duration,
    /// Which attempt it was.
    pub attempt: u32,
    /// How many writes the server took.
    pub writes: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// What is known of one key's turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeyTimeline {
    /// The turns, the latest first.
    pub turns: Vec<TurnSnapshot>,
    /// How many older turns of the key are forgotten.
    pub forgotten: u64,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TurnSnapshot {
    /// Its number among the controller's turns, from 1.
    pub number: u64,
    /// When it began.
    #[serde(serialize_with = "wire::timestamp")]
    pub at: Timestamp,
    /// Why the key came up.
    pub reasons: Vec<String>,
    /// How many more reasons there were.
    pub reasons_omitted: u32,
    /// The priority with which the key waited.
    pub priority: i32,
    /// Which attempt it is.
    pub attempt: u32,
    /// How long before its beginning the first trigger came, if that is known.
    #[serde(
        rename = "triggeredSeconds",
        serialize_with = "wire::maybe_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub triggered: Option<Duration>,
    /// How long the key was ready before, if that is known.
    #[serde(
        rename = "waitedSeconds",
        serialize_with = "wire::maybe_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub waited: Option<Duration>,
    /// How long the reconciler and the write of the status took, or have taken.
    #[serde(rename = "reconciledSeconds", serialize_with = "wire::seconds")]
    pub reconciled: Duration,
    /// How long the turn waited then until the caches showed its writes, or has waited. `None` while it reconciles.
    #[serde(
        rename = "settledSeconds",
        serialize_with = "wire::maybe_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub settled: Option<Duration>,
    /// Whether the caches did not show the writes in time.
    pub unseen: bool,
    /// The first writes, in order.
    pub writes: Vec<WriteSnapshot>,
    /// How many more writes there were.
    pub writes_omitted: u32,
    /// What became of the status.
    pub status: StatusWrite,
    /// How it ended; `None` for a turn that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// A write and when it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriteSnapshot {
    /// How long after the beginning of the turn it was done.
    #[serde(rename = "afterSeconds", serialize_with = "wire::seconds")]
    pub after: Duration,
    /// What was written.
    #[serde(flatten)]
    pub write: Write,
}

// === impl Counters ===

impl Counters {
    /// Turns that ended, however they did.
    pub fn turns(&self) -> u64 {
        let well = self.success + self.requeue_after;
        well + self.conflict + self.error + self.terminal + self.panic + self.timed_out + self.cut_off
    }

    pub(super) fn count(&mut self, outcome: &Outcome, unseen: bool) {
        *match outcome {
            Outcome::Success => &mut self.success,
            Outcome::RequeueAfter { .. } => &mut self.requeue_after,
            Outcome::Conflict { .. } => &mut self.conflict,
            Outcome::Error { .. } => &mut self.error,
            Outcome::Terminal { .. } => &mut self.terminal,
            Outcome::Panic { .. } => &mut self.panic,
            Outcome::TimedOut { .. } => &mut self.timed_out,
            Outcome::CutOff => &mut self.cut_off,
        } += 1;
        self.unseen += u64::from(unseen);
    }
}

// === impl KeyStatus ===

impl KeyStatus {
    /// A key of which nothing is known but where it is.
    pub(super) fn at(key: String, place: Place) -> Self {
        Self {
            key,
            place,
            time: Duration::ZERO,
            priority: 0,
            attempt: None,
            failures: 0,
            reasons: Vec::new(),
            reasons_omitted: 0,
            again: false,
            last: None,
        }
    }

    /// A key with a turn under way.
    pub(super) fn in_hand(turn: &Turn, lane: Option<&Lane>, now: Instant) -> Self {
        let (place, since) = match turn.reconciled {
            Some(reconciled) => (Place::Settling, reconciled),
            None => (Place::Reconciling, turn.begun),
        };
        Self {
            time: now.duration_since(since),
            priority: turn.occasion.priority,
            attempt: Some(turn.occasion.attempt),
            failures: lane.map_or(0, |lane| lane.failures),
            reasons: texts(&turn.occasion.reasons),
            reasons_omitted: turn.occasion.omitted,
            last: lane.and_then(LastTurn::of),
            ..Self::at(turn.key.to_string(), place)
        }
    }

    /// A key that waits for nothing, as far as its turns tell.
    pub(super) fn idle(key: &str, lane: &Lane, now: Instant) -> Self {
        let ended = lane.turns.back().and_then(|turn| turn.ended);
        Self {
            time: ended.map_or(Duration::ZERO, |ended| now.duration_since(ended)),
            failures: lane.failures,
            last: LastTurn::of(lane),
            ..Self::at(key.to_owned(), Place::Idle)
        }
    }

    pub(super) fn because(&mut self, reasons: &Reasons) {
        self.reasons = reasons.iter().map(str::to_owned).collect();
        self.reasons_omitted = reasons.omitted();
    }
}

// === impl LastTurn ===

impl LastTurn {
    fn of(lane: &Lane) -> Option<Self> {
        let mut latest_first = lane.turns.iter().rev().map(AsRef::as_ref);
        let failed = |turn: &&Turn| turn.outcome.as_ref().is_some_and(Outcome::is_failure);
        let turn: Option<&Turn> = match lane.failures {
            0 => latest_first.next(),
            _ => latest_first.find(failed),
        };
        let turn = turn.or(lane.turns.back().map(AsRef::as_ref))?;
        let time = turn.ended?.duration_since(turn.begun);
        Some(Self {
            at: later(turn.occasion.at, time),
            time,
            attempt: turn.occasion.attempt,
            writes: turn.written,
            outcome: turn.outcome.clone()?,
        })
    }
}

// === impl TurnSnapshot ===

impl TurnSnapshot {
    pub(super) fn of(turn: &Turn, now: Instant) -> Self {
        let end = turn.ended.unwrap_or(now);
        let reconciled = turn.reconciled.unwrap_or(end);
        let settles = turn.reconciled.is_some() || turn.ended.is_some();
        let before = |when: Instant| turn.begun.duration_since(when);
        let write = |(write, after): &(Write, Duration)| WriteSnapshot {
            after: *after,
            write: write.clone(),
        };
        Self {
            number: turn.number,
            at: turn.occasion.at,
            reasons: texts(&turn.occasion.reasons),
            reasons_omitted: turn.occasion.omitted,
            priority: turn.occasion.priority,
            attempt: turn.occasion.attempt,
            triggered: turn.occasion.triggered.map(before),
            waited: turn.occasion.queued.map(before),
            reconciled: reconciled.duration_since(turn.begun),
            settled: settles.then(|| end.duration_since(reconciled)),
            unseen: turn.unseen,
            writes: turn.writes.iter().map(write).collect(),
            writes_omitted: turn.writes_omitted,
            status: turn.status,
            outcome: turn.outcome.clone(),
        }
    }
}

fn texts(texts: &[Box<str>]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

//! A controller as it is shown: its queue, its timeline and what it says of itself, put together when somebody looks.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use serde::Serialize;
use trimtab_client_workqueue::{KeySnapshot, Metrics, Phase, WorkQueue};

use super::snapshot::{Counters, KeyStatus, KeyTimeline, Listed, Place};
use super::timeline::Timeline;
use super::wire;

/// How many keys a list shows.
pub(super) const SHOWN: usize = 100;
/// To list a queue's keys, all of them are copied while the queue stands still. Of a queue with more keys than this, only
/// the numbers are shown.
pub(super) const LISTABLE: usize = 20_000;

/// A controller to be shown.
pub struct Observed {
    name: String,
    kind: Option<String>,
    workers: usize,
    timeline: Timeline,
    queue: Option<Box<dyn Queue>>,
    state: Box<dyn Fn() -> ControllerState + Send + Sync>,
}

/// Whether a controller does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum ControllerState {
    /// It has not begun.
    Waiting {
        /// What it waits for, as the caches that are not filled or to lead.
        waits_for: String,
    },
    /// It works.
    Running,
    /// It begins no more turns.
    Stopping,
    /// It has ended.
    Stopped,
}

/// One controller in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ControllerSummary {
    /// Its name.
    pub name: String,
    /// The kind that it reconciles, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it works.
    #[serde(flatten)]
    pub state: ControllerState,
    /// How many keys it works on at once.
    pub workers: usize,
    /// Keys that wait for a worker, by priority, the most urgent first.
    pub ready: Vec<Depth>,
    /// Keys that wait for their time, those that back off included.
    pub delayed: usize,
    /// Keys with a turn under way. Those without a record are counted in a [`ControllerSnapshot`] only, which looks at the
    /// queue's keys.
    pub in_hand: usize,
    /// Of these, those that hold no worker any more and wait until the caches show what they wrote.
    pub settling: usize,
    /// How long the oldest turn under way has taken.
    #[serde(
        rename = "longestInHandSeconds",
        serialize_with = "wire::maybe_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub longest_in_hand: Option<Duration>,
    /// Keys whose last turn failed.
    pub failing: usize,
    /// The one that failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<KeyStatus>,
    /// How its turns ended.
    pub counters: Counters,
}

/// How many keys of one priority are ready.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Depth {
    /// The priority.
    pub priority: i32,
    /// How many.
    pub keys: usize,
    /// How long the one that is next has been ready.
    #[serde(rename = "longestSeconds", serialize_with = "wire::seconds")]
    pub longest: Duration,
}

/// One controller with its keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ControllerSnapshot {
    /// In short.
    pub controller: ControllerSummary,
    /// Keys with a turn under way, the longest first.
    pub in_hand: Listed<KeyStatus>,
    /// Keys whose last turn failed, the latest first.
    pub failing: Listed<KeyStatus>,
    /// Keys that wait for a worker, the most urgent and longest waiting first.
    pub ready: Listed<KeyStatus>,
    /// Keys that wait for their time, the next first.
    pub delayed: Listed<KeyStatus>,
    /// Whether there are too many waiting keys to list any of them.
    pub too_many: bool,
}

/// One key of a controller: where it is, and its turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeyView {
    /// The controller's name.
    pub controller: String,
    /// Where the key is, if that is known.
    pub now: KeyStatus,
    /// Whether anything is known of it: it waits, or turns of it are kept.
    pub known: bool,
    /// Its turns.
    #[serde(flatten)]
    pub timeline: KeyTimeline,
}

/// A queue whose keys can be shown.
trait Queue: Send + Sync {
    fn metrics(&self) -> Metrics;
    fn keys(&self) -> Vec<KeyStatus>;
}

// === impl Observed ===

impl Observed {
    /// A controller with this name that records its turns in this timeline.
    pub fn new(name: impl Into<String>, timeline: Timeline) -> Self {
        Self {
            name: name.into(),
            kind: None,
            workers: 1,
            timeline,
            queue: None,
            state: Box::new(|| ControllerState::Running),
        }
    }

    /// The kind that it reconciles.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> Self {
        Self {
            kind: Some(kind.into()),
            ..self
        }
    }

    /// How many keys it works on at once. The default is 1.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Its queue, whose keys are shown as they display. Without one, keys without a turn count as idle.
    #[must_use]
    pub fn queue<K>(self, queue: WorkQueue<K>) -> Self
    where
        K: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static,
    {
        Self {
            queue: Some(Box::new(queue)),
            ..self
        }
    }

    /// How to learn whether it works; asked each time somebody looks, so it must be quick. By default it always runs.
    #[must_use]
    pub fn state(self, state: impl Fn() -> ControllerState + Send + Sync + 'static) -> Self {
        Self {
            state: Box::new(state),
            ..self
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn summary(&self) -> ControllerSummary {
        self.summary_with(&self.metrics(), &self.timeline.in_hand())
    }

    fn summary_with(&self, metrics: &Metrics, in_hand: &[KeyStatus]) -> ControllerSummary {
        let depth = |(priority, keys): (&i32, &usize)| Depth {
            priority: *priority,
            keys: *keys,
            longest: metrics.longest_waiting.get(priority).copied().unwrap_or_default(),
        };
        let failing = self.timeline.failing(1);
        ControllerSummary {
            name: self.name.clone(),
            kind: self.kind.clone(),
            state: (self.state)(),
            workers: self.workers,
            ready: metrics
                .depth
                .iter()
                .rev()
                .filter(|(_, keys)| **keys > 0)
                .map(depth)
                .collect(),
            delayed: metrics.delayed,
            in_hand: in_hand.len(),
            settling: in_hand.iter().filter(|key| key.place == Place::Settling).count(),
            longest_in_hand: in_hand.iter().map(|key| key.time).max(),
            failing: failing.total,
            last_failure: failing.items.into_iter().next(),
            counters: self.timeline.counters(),
        }
    }

    pub(super) fn snapshot(&self) -> ControllerSnapshot {
        let metrics = self.metrics();
        let queued = self.queued(&metrics);
        let too_many = queued.is_none();
        let queued = queued.unwrap_or_default();
        let mut failing = self.timeline.failing(SHOWN);
        let by_key: HashMap<&str, &KeyStatus> = queued.iter().map(|key| (key.key.as_str(), key)).collect();
        for key in &mut failing.items {
            match by_key.get(key.key.as_str()) {
                Some(waiting) => key.wait_as(waiting),
                None if too_many => key.place = Place::Unknown,
                None => {}
            }
        }
        let in_hand = self.in_hand(&queued);
        let ready = |key: &&KeyStatus| key.place == Place::Ready;
        let delayed = |key: &&KeyStatus| matches!(key.place, Place::Delayed | Place::BackingOff);
        let mut ready: Vec<_> = queued.iter().filter(ready).collect();
        ready.sort_by_key(|key| (std::cmp::Reverse(key.priority), std::cmp::Reverse(key.time)));
        let mut delayed: Vec<_> = queued.iter().filter(delayed).collect();
        delayed.sort_by_key(|key| key.time);
        let (ready_total, delayed_total) = if too_many {
            (metrics.depth.values().sum(), metrics.delayed)
        } else {
            (ready.len(), delayed.len())
        };
        ControllerSnapshot {
            controller: self.summary_with(&metrics, &in_hand),
            ready: first(ready_total, ready.into_iter().cloned()),
            delayed: first(delayed_total, delayed.into_iter().cloned()),
            failing,
            in_hand: first(in_hand.len(), in_hand.into_iter()),
            too_many,
        }
    }

    /// The keys that wait, have a turn or had one, those that something happens to first, then the latest first.
    pub(super) fn keys(&self, search: &str) -> Listed<KeyStatus> {
        let queued = self.queued(&self.metrics());
        let too_many = queued.is_none();
        let mut queued = queued.unwrap_or_default();
        let wanted = search.to_lowercase();
        let matches = |key: &KeyStatus| wanted.is_empty() || key.key.to_lowercase().contains(&wanted);
        queued.retain(matches);
        let mut busy = self.in_hand(&queued);
        busy.retain(matches);
        busy.extend(queued.into_iter().filter(|key| key.place != Place::InHand));
        busy.sort_by(|a, b| (a.place, a.time, &a.key).cmp(&(b.place, b.time, &b.key)));
        let names: HashSet<&str> = busy.iter().map(|key| key.key.as_str()).collect();
        let room = SHOWN.saturating_sub(busy.len());
        let mut idle = self.timeline.keys_beside(search, |key| names.contains(key), room);
        if too_many {
            idle.items.iter_mut().for_each(|key| key.place = Place::Unknown);
        }
        let total = busy.len() + idle.total;
        busy.truncate(SHOWN);
        for key in &mut busy {
            key.last = self.timeline.idle(&key.key).and_then(|idle| idle.last);
        }
        first(total, busy.into_iter().chain(idle.items))
    }

    pub(super) fn key(&self, key: &str) -> KeyView {
        let timeline = self.timeline.of_key(key);
        let queued = self.queued(&self.metrics());
        let place = if queued.is_some() {
            Place::Idle
        } else {
            Place::Unknown
        };
        let mut queued = queued.unwrap_or_default();
        queued.retain(|queued| queued.key == key);
        let in_hand = self.in_hand(&queued);
        let mut places = in_hand.into_iter().filter(|in_hand| in_hand.key == key);
        let mut waiting = queued.into_iter();
        let busy = places.next().or_else(|| waiting.next());
        let known = busy.is_some() || !timeline.turns.is_empty();
        let idle = self.timeline.idle(key);
        let last = idle.as_ref().and_then(|idle| idle.last.clone());
        let now = match busy {
            Some(busy) => KeyStatus { last, ..busy },
            None => KeyStatus {
                place,
                ..idle.unwrap_or_else(|| KeyStatus::at(key.to_owned(), place))
            },
        };
        KeyView {
            controller: self.name.clone(),
            now,
            known,
            timeline,
        }
    }

    fn metrics(&self) -> Metrics {
        let metrics = self.queue.as_ref().map(|queue| queue.metrics());
        metrics.unwrap_or_default()
    }

    /// The queue's keys, unless there are too many.
    fn queued(&self, metrics: &Metrics) -> Option<Vec<KeyStatus>> {
        let Some(queue) = &self.queue else {
            return Some(Vec::new());
        };
        let waiting = metrics.depth.values().sum::<usize>() + metrics.delayed;
        if waiting > LISTABLE {
            return None;
        }
        let mut keys = queue.keys();
        self.timeline.note_failures(&mut keys);
        for key in &mut keys {
            if key.place == Place::Delayed && key.failures > 0 {
                key.place = Place::BackingOff;
            }
        }
        Some(keys)
    }

    /// The keys with a turn, with what the queue knows of them.
    fn in_hand(&self, queued: &[KeyStatus]) -> Vec<KeyStatus> {
        let held = queued.iter().filter(|key| key.place == Place::InHand);
        let mut held: HashMap<&str, &KeyStatus> = held.map(|key| (key.key.as_str(), key)).collect();
        let mut in_hand = self.timeline.in_hand();
        for key in &mut in_hand {
            key.again = held.remove(key.key.as_str()).is_some_and(|held| held.again);
        }
        in_hand.extend(held.into_values().cloned());
        in_hand.sort_by(|a, b| (b.time, &a.key).cmp(&(a.time, &b.key)));
        in_hand
    }
}

fn first<T>(total: usize, items: impl Iterator<Item = T>) -> Listed<T> {
    Listed {
        total,
        items: items.take(SHOWN).collect(),
    }
}

impl KeyStatus {
    /// Takes over from the queue where the key is.
    fn wait_as(&mut self, waiting: &KeyStatus) {
        let mut place = waiting.clone();
        place.last = self.last.take();
        *self = place;
    }
}

impl<K: Clone + Eq + Hash + fmt::Display + Send + Sync> Queue for WorkQueue<K> {
    fn metrics(&self) -> Metrics {
        Self::metrics(self)
    }

    fn keys(&self) -> Vec<KeyStatus> {
        let of = |key: KeySnapshot<K>| {
            let (place, again) = match key.phase {
                Phase::Ready => (Place::Ready, false),
                Phase::Delayed if key.backoff => (Place::BackingOff, false),
                Phase::Delayed => (Place::Delayed, false),
                Phase::InHandAgain => (Place::InHand, true),
                _ => (Place::InHand, false),
            };
            let mut status = KeyStatus {
                time: key.time,
                priority: key.priority,
                failures: key.failures,
                again,
                ..KeyStatus::at(key.key.to_string(), place)
            };
            status.because(&key.reasons);
            status
        };
        self.snapshot().into_iter().map(of).collect()
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

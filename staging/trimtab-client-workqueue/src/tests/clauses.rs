//! One checker for each clause of the crate's docs, over the history of a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::WorkQueue;

/// What happened to a queue, in order. Times count from the queue's start.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Add {
        key: u8,
        now: Duration,
        /// When the key is due, if it does not fail meanwhile.
        due: Duration,
        priority: i32,
    },
    Take {
        key: u8,
        now: Duration,
        /// With which it was handed out.
        priority: i32,
    },
    /// The worker finished; `back` is the time at which the key is to come again.
    Finish {
        key: u8,
        now: Duration,
        back: Option<Duration>,
        failed: bool,
        priority: i32,
    },
    /// Everything is over: the queue was emptied or shut down, and reported these.
    End { reported: Vec<u8> },
}

/// One key, as the history so far has it.
#[derive(Clone, Debug, Default)]
struct Key {
    held: bool,
    waits: Option<Waits>,
}

/// What a key waits for since it was last handed out.
#[derive(Clone, Debug)]
struct Waits {
    /// The earliest time at which it may go.
    due: Duration,
    /// Whether that is a backoff's time.
    backoff: bool,
    priority: i32,
    /// When it came to its priority, if it was ready then.
    came: Duration,
}

impl Waits {
    fn is_ready(&self, now: Duration) -> bool {
        self.due <= now
    }
}

type Keys = BTreeMap<u8, Key>;

/// Replays a history and shows each event to `look`, with the keys as they were before it.
fn replay(history: &[Event], mut look: impl FnMut(&Event, &Keys)) {
    let mut keys = Keys::new();
    for event in history {
        look(event, &keys);
        match event {
            Event::Add {
                key,
                now,
                due,
                priority,
            } => {
                let new = Waits {
                    due: *due,
                    backoff: false,
                    priority: *priority,
                    came: *due,
                };
                let waits = keys.entry(*key).or_default().waits.get_or_insert(new);
                if waits.due > *now && !waits.backoff && *due < waits.due {
                    (waits.due, waits.came) = (*due, *due);
                }
                if *priority > waits.priority {
                    waits.priority = *priority;
                    waits.came = waits.came.max(*now);
                }
            }
            Event::Take { key, .. } => {
                let taken = Key {
                    held: true,
                    waits: None,
                };
                keys.insert(*key, taken);
            }
            Event::Finish {
                key,
                now,
                back,
                failed,
                priority,
            } => {
                let key = keys.entry(*key).or_default();
                key.held = false;
                if let Some(back) = *back {
                    let waits = key.waits.get_or_insert(Waits {
                        due: back,
                        backoff: *failed,
                        priority: *priority,
                        came: back,
                    });
                    (waits.due, waits.backoff) = match failed {
                        true => (back, true),
                        false => (back.min(waits.due), false),
                    };
                    waits.priority = waits.priority.max(*priority);
                }
                if let Some(waits) = &mut key.waits {
                    waits.came = waits.due.max(*now);
                }
            }
            Event::End { .. } => {}
        }
    }
}

/// Deduplicated: each turn answers at least one add since the turn before.
pub(super) fn deduplicated(history: &[Event]) {
    replay(history, |event, keys| {
        if let Event::Take { key, .. } = event {
            let owed = keys.get(key).is_some_and(|k| k.waits.is_some());
            assert!(owed, "Deduplicated: {key} was handed out twice for one add");
        }
    });
}

/// Exclusive: no key is handed out while it is in hand.
pub(super) fn exclusive(history: &[Event]) {
    replay(history, |event, keys| {
        if let Event::Take { key, .. } = event {
            let held = keys.get(key).is_some_and(|k| k.held);
            assert!(!held, "Exclusive: {key} is in two hands");
        }
    });
}

/// Re-added: a key that was added while in hand has had its turn, or is reported, when all is over.
pub(super) fn re_added(history: &[Event]) {
    let mut owed = BTreeMap::new();
    replay(history, |event, keys| match event {
        Event::Add { key, .. } if keys.get(key).is_some_and(|k| k.held) => drop(owed.insert(*key, true)),
        Event::Take { key, .. } => drop(owed.insert(*key, false)),
        Event::End { reported } => {
            for (key, owed) in &owed {
                assert!(!owed || reported.contains(key), "Re-added: {key} had no turn");
            }
        }
        _ => {}
    });
}

/// Lossless: at the end, exactly what waits or is in hand is reported.
pub(super) fn lossless(history: &[Event]) {
    replay(history, |event, keys| {
        if let Event::End { reported } = event {
            let mut reported = reported.clone();
            reported.sort_unstable();
            let left: Vec<u8> = keys
                .iter()
                .filter(|(_, k)| k.held || k.waits.is_some())
                .map(|(k, _)| *k)
                .collect();
            assert_eq!(reported, left, "Lossless: what is reported is not what is left");
        }
    });
}

/// Fair: a priority is first in, first out, and an overdue key gets its turn, however many urgent ones come. All keys of
/// a history may be ready before it, each of which costs at most so many turns.
pub(super) fn fair(history: &[Event], ageing: Duration) {
    let all: BTreeSet<u8> = history
        .iter()
        .filter_map(|event| match event {
            Event::Add { key, .. } => Some(*key),
            _ => None,
        })
        .collect();
    let bound = WorkQueue::<u8>::AGED_TURN * all.len() as u32;
    let mut passed: BTreeMap<u8, u32> = BTreeMap::new();
    replay(history, |event, keys| {
        let Event::Take { key, now, .. } = event else {
            return;
        };
        passed.remove(key);
        let Some(taken) = waits(keys, *key) else { return };
        for (other, waits) in ready(keys, *now).filter(|(other, _)| other != key) {
            let same = waits.priority == taken.priority;
            assert!(!same || taken.came <= waits.came, "Fair: {key} passed {other}");
            if waits.came + ageing <= *now {
                let turns = passed.entry(other).or_default();
                *turns += 1;
                assert!(
                    *turns <= bound,
                    "Fair: {other} has been overdue for {turns} turns"
                );
            }
        }
    });
}

/// Fair between flows: no flow has two turns in a priority while another one waits, and within a flow it is first in,
/// first out.
pub(super) fn fair_flows(history: &[Event], flow: fn(u8) -> u8) {
    let mut turns = 0u32;
    let mut last_turn: BTreeMap<(i32, u8), (u32, Duration)> = BTreeMap::new();
    replay(history, |event, keys| {
        let Event::Take { key, now, priority } = event else {
            return;
        };
        let Some(taken) = waits(keys, *key) else { return };
        turns += 1;
        let before = last_turn.insert((*priority, flow(*key)), (turns, *now));
        for (other, waits) in ready(keys, *now).filter(|(other, _)| other != key) {
            if waits.priority != *priority {
                continue;
            }
            if flow(other) == flow(*key) {
                assert!(taken.came <= waits.came, "Fair: {key} passed {other} of its flow");
            } else if let Some((turn, at)) = before {
                let theirs = last_turn.get(&(waits.priority, flow(other)));
                let served = theirs.is_some_and(|(theirs, _)| *theirs > turn);
                assert!(
                    served || at <= waits.came,
                    "Fair: the flow of {key} had two turns before {other}"
                );
            }
        }
    });
}

/// Delay honoured: no key is handed out before its time.
pub(super) fn delay_honoured(history: &[Event]) {
    replay(history, |event, keys| {
        if let Event::Take { key, now, .. } = event {
            let early = waits(keys, *key).is_some_and(|waits| waits.due > *now);
            assert!(!early, "Delay honoured: {key} came early");
        }
    });
}

/// All that hold in every queue.
pub(super) fn all(history: &[Event]) {
    deduplicated(history);
    exclusive(history);
    re_added(history);
    lossless(history);
    delay_honoured(history);
}

fn waits(keys: &Keys, key: u8) -> Option<&Waits> {
    keys.get(&key)?.waits.as_ref()
}

fn ready(keys: &Keys, now: Duration) -> impl Iterator<Item = (u8, &Waits)> {
    let waiting = keys.iter().filter(|(_, key)| !key.held);
    let waiting = waiting.filter_map(|(name, key)| Some((*name, key.waits.as_ref()?)));
    waiting.filter(move |(_, waits)| waits.is_ready(now))
}

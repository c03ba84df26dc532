//! One checker for each clause of the crate's docs, over the history of a queue.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What happened to a queue, in order. `due` is the time before which the add must not be handed out.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Add {
        key: u8,
        due: Instant,
        priority: i32,
    },
    Take {
        key: u8,
        at: Instant,
    },
    /// The worker finished; `back` is the time at which it asked to have the key again.
    Finish {
        key: u8,
        back: Option<(Instant, i32)>,
    },
    /// Everything is over: the queue was emptied or shut down, and reported these.
    End {
        reported: Vec<u8>,
    },
}

/// One key, as the history so far has it.
#[derive(Clone, Debug, Default)]
struct Key {
    held: bool,
    /// Earliest time and highest priority of the adds since it was last handed out.
    waits: Option<(Instant, i32)>,
    added_in_hand: bool,
}

/// Replays a history and shows each event to `look`, with the keys as they were before it.
fn replay(history: &[Event], mut look: impl FnMut(&Event, &HashMap<u8, Key>)) {
    let mut keys: HashMap<u8, Key> = HashMap::new();
    for event in history {
        look(event, &keys);
        let mut owe = |key: u8, due: Instant, priority: i32| {
            let key = keys.entry(key).or_default();
            let (at, highest) = key.waits.unwrap_or((due, priority));
            key.waits = Some((at.min(due), highest.max(priority)));
            key.added_in_hand |= key.held;
        };
        match event {
            Event::Add {
                key, due, priority, ..
            } => owe(*key, *due, *priority),
            Event::Take { key, .. } => {
                keys.insert(
                    *key,
                    Key {
                        held: true,
                        ..Key::default()
                    },
                );
            }
            Event::Finish { key, back } => {
                if let Some((due, priority)) = back {
                    owe(*key, *due, *priority);
                }
                let key = keys.entry(*key).or_default();
                (key.held, key.added_in_hand) = (false, false);
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
    let mut owed: HashMap<u8, bool> = HashMap::new();
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
            let mut left: Vec<u8> = keys
                .iter()
                .filter(|(_, k)| k.held || k.waits.is_some())
                .map(|(k, _)| *k)
                .collect();
            left.sort_unstable();
            assert_eq!(reported, left, "Lossless: what is reported is not what is left");
        }
    });
}

/// Fair: no ready key is passed by one that became ready later than its priority is worth.
pub(super) fn fair(history: &[Event], ageing: Duration) {
    replay(history, |event, keys| {
        let Event::Take { key, at } = event else { return };
        let Some((due, priority)) = keys.get(key).and_then(|k| k.waits) else {
            return;
        };
        for (other, k) in keys.iter().filter(|(other, k)| *other != key && !k.held) {
            let Some((other_due, other_priority)) = k.waits.filter(|(due, _)| due <= at) else {
                continue;
            };
            let worth = ageing * u32::try_from((priority - other_priority).max(0)).unwrap_or(0);
            let cost = ageing * u32::try_from((other_priority - priority).max(0)).unwrap_or(0);
            assert!(due + cost <= other_due + worth, "Fair: {key} passed {other}");
        }
    });
}

/// Delay honoured: no key is handed out before its time.
pub(super) fn delay_honoured(history: &[Event]) {
    replay(history, |event, keys| {
        if let Event::Take { key, at } = event {
            let early = keys
                .get(key)
                .and_then(|k| k.waits)
                .is_some_and(|(due, _)| due > *at);
            assert!(!early, "Delay honoured: {key} came early");
        }
    });
}

/// All of them.
pub(super) fn all(history: &[Event], ageing: Duration) {
    deduplicated(history);
    exclusive(history);
    re_added(history);
    lossless(history);
    fair(history, ageing);
    delay_honoured(history);
}

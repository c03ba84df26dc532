//! Random histories of turns: every clause holds at each step.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::clauses::{self, Ended, History};
use crate::introspection::{Bounds, Occasion, Outcome, Timeline, TurnRecord, Verb, Write};

/// What may happen. Turns are named by their place among those that are open.
#[derive(Clone, Debug)]
enum Op {
    Begin { key: u8, reason: usize },
    Write { turn: usize, text: usize },
    Reconciled { turn: usize },
    End { turn: usize, outcome: Outcome },
    Drop { turn: usize },
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let delay = Duration::from_secs(1);
    let message = || (0..40_usize).prop_map(|length| "ä".repeat(length));
    prop_oneof![
        3 => Just(Outcome::Success),
        1 => Just(Outcome::RequeueAfter { delay }),
        1 => Just(Outcome::Conflict { delay }),
        2 => message().prop_map(move |message| Outcome::Error { message, delay }),
        1 => message().prop_map(|message| Outcome::Terminal { message }),
        1 => message().prop_map(move |message| Outcome::Panic { message, delay }),
        1 => Just(Outcome::TimedOut { limit: delay, delay }),
        1 => Just(Outcome::CutOff),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let turn = || 0..4_usize;
    let op = prop_oneof![
        6 => (0..8_u8, 0..40_usize).prop_map(|(key, reason)| Op::Begin { key, reason }),
        4 => (turn(), 0..40_usize).prop_map(|(turn, text)| Op::Write { turn, text }),
        1 => turn().prop_map(|turn| Op::Reconciled { turn }),
        6 => (turn(), outcomes()).prop_map(|(turn, outcome)| Op::End { turn, outcome }),
        1 => turn().prop_map(|turn| Op::Drop { turn }),
    ];
    proptest::collection::vec(op, 0..60)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let bytes = prop_oneof![Just(usize::MAX), 0..3000_usize];
    (0..6_usize, 0..4_usize, 0..4_usize, 0..30_usize, bytes).prop_map(|(keys, turns, writes, text, bytes)| {
        Bounds {
            keys,
            turns,
            writes,
            text,
            bytes,
        }
    })
}

struct World {
    timeline: Timeline,
    records: Vec<(u64, String, TurnRecord)>,
    history: History,
    begun: u64,
}

impl World {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Begin { key, reason } => {
                self.begun += 1;
                let key = format!("default/{key}");
                let occasion = Occasion::new(Timestamp::UNIX_EPOCH).because("é".repeat(reason));
                let record = self.timeline.begin(&key, occasion);
                self.records.push((self.begun, key, record));
            }
            Op::Write { turn, text } => {
                if let Some((_, key, record)) = self.records.get_mut(turn) {
                    record.wrote(Write::new(Verb::Patch, "Widget", key).refused(&"x".repeat(text)));
                }
            }
            Op::Reconciled { turn } => {
                if let Some((.., record)) = self.records.get_mut(turn) {
                    record.reconciled();
                }
            }
            Op::End { turn, outcome } if turn < self.records.len() => {
                let (number, key, record) = self.records.remove(turn);
                record.end(outcome.clone());
                self.history.ended.push(Ended { number, key, outcome });
            }
            Op::Drop { turn } if turn < self.records.len() => {
                let (number, key, record) = self.records.remove(turn);
                drop(record);
                self.history.ended.push(Ended {
                    number,
                    key,
                    outcome: Outcome::CutOff,
                });
            }
            Op::End { .. } | Op::Drop { .. } => {}
        }
        let open = self.records.iter();
        self.history.open = open.map(|(number, key, _)| (*number, key.clone())).collect();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_clause_holds(ops in ops(), bounds in bounds()) {
        let mut world = World {
            timeline: Timeline::with_bounds(bounds),
            records: Vec::new(),
            history: History::default(),
            begun: 0,
        };
        for op in ops {
            world.apply(op);
            clauses::all(&world.history, bounds, &world.timeline);
        }
        let failing = world.timeline.failing(usize::MAX);
        prop_assert_eq!(failing.total, failing.items.len());
        prop_assert!(failing.items.iter().all(|key| key.failures > 0));
    }
}

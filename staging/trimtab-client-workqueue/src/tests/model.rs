//! The state machine under random histories: every clause holds in each of them.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::clauses::{self, Event};
use crate::add::Add;
use crate::limiter::Exponential;
use crate::metrics::Metrics;
use crate::state::{Mode, Next, Outcome, State, Turn};

const AGEING: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
enum Op {
    Add { key: u8, delay: u64, priority: i32 },
    Take,
    Done(usize),
    Retry(usize),
    After(usize, u64),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..6, prop_oneof![Just(0), 0u64..60], -2i32..3)
            .prop_map(|(key, delay, priority)| Op::Add { key, delay, priority }),
        3 => Just(Op::Take),
        1 => (0usize..6).prop_map(Op::Done),
        1 => (0usize..6).prop_map(Op::Retry),
        1 => (0usize..6, 0u64..60).prop_map(|(i, ms)| Op::After(i, ms)),
        2 => (0u64..40).prop_map(Op::Pass),
    ]
}

/// A state machine with its hand-driven clock, what is in hand, and what happened.
struct World {
    state: State<u8>,
    now: Instant,
    hands: Vec<Turn<u8>>,
    history: Vec<Event>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let state = State::new(Box::new(Exponential::default()), AGEING, now);
        Self {
            state,
            now,
            hands: Vec::new(),
            history: Vec::new(),
        }
    }

    fn add(&mut self, key: u8, delay: u64, priority: i32) {
        let due = self.now + Duration::from_millis(delay);
        let add = Add::after(Duration::from_millis(delay)).priority(priority);
        assert!(self.state.add(key, add, self.now), "the queue is open");
        self.history.push(Event::Add { key, due, priority });
    }

    fn take(&mut self) -> bool {
        let Next::Turn(turn) = self.state.take(self.now) else {
            return false;
        };
        self.history.push(Event::Take {
            key: turn.key,
            at: self.now,
        });
        self.hands.push(turn);
        true
    }

    fn finish(&mut self, index: usize, outcome: Outcome) {
        if index >= self.hands.len() {
            return;
        }
        let turn = self.hands.remove(index);
        let back = match &outcome {
            Outcome::Done => None,
            Outcome::After(delay) => Some(*delay),
            Outcome::Retry(_) => Some(Duration::from_millis(5) * 2u32.pow(turn.failures)),
        };
        let back = back.map(|delay| (self.now + delay, turn.priority));
        self.state.finish(&turn.key, outcome, self.now);
        self.history.push(Event::Finish { key: turn.key, back });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Add { key, delay, priority } => self.add(key, delay, priority),
            Op::Take => drop(self.take()),
            Op::Done(i) => self.finish(i, Outcome::Done),
            Op::Retry(i) => self.finish(i, Outcome::Retry(None)),
            Op::After(i, ms) => self.finish(i, Outcome::After(Duration::from_millis(ms))),
            Op::Pass(ms) => self.now += Duration::from_millis(ms),
        }
    }

    /// Works until nothing is left.
    fn work_off(&mut self) {
        loop {
            while self.take() {}
            while !self.hands.is_empty() {
                self.finish(0, Outcome::Done);
            }
            match self.state.take(self.now) {
                Next::Wait(None) => break,
                Next::Wait(Some(due)) => self.now = due,
                Next::Turn(turn) => {
                    self.history.push(Event::Take {
                        key: turn.key,
                        at: self.now,
                    });
                    self.hands.push(turn);
                }
                Next::End => unreachable!("nobody has shut it down"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_clause_holds_when_all_is_worked_off(ops in prop::collection::vec(op(), 0..80)) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.apply(op));
        world.work_off();
        world.history.push(Event::End { reported: Vec::new() });
        clauses::all(&world.history, AGEING);
        prop_assert!(world.state.snapshot(world.now).is_empty(), "nothing is kept of finished keys");
        let Metrics { delayed, depth, .. } = world.state.metrics(world.now);
        prop_assert!(delayed == 0 && depth.is_empty());
    }

    #[test]
    fn every_clause_holds_when_it_is_shut_down(ops in prop::collection::vec(op(), 0..80), drain: bool) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.apply(op));
        if drain {
            world.state.shut_down(Mode::Draining);
            while !world.hands.is_empty() || world.take() {
                world.finish(0, Outcome::Retry(None));
            }
            prop_assert!(world.state.is_drained());
        }
        world.state.shut_down(Mode::Closed);
        prop_assert!(!world.state.add(1, Add::now(), world.now), "late adds are refused");
        prop_assert!(matches!(world.state.take(world.now), Next::End));
        let reported = world.state.take_leftovers().into_iter().map(|left| left.key).collect();
        world.history.push(Event::End { reported });
        clauses::lossless(&world.history);
        clauses::exclusive(&world.history);
        clauses::delay_honoured(&world.history);
    }
}

#[test]
fn adds_merge_to_the_higher_priority_the_earlier_time_and_all_reasons() {
    let mut world = World::new();
    let now = world.now;
    let ms = Duration::from_millis;
    world
        .state
        .add(1, Add::after(ms(50)).priority(-1).because("resync"), now);
    world
        .state
        .add(1, Add::after(ms(90)).priority(3).because("edit"), now);
    world.state.add(1, Add::after(ms(70)).because("edit"), now);
    assert!(matches!(world.state.take(now + ms(49)), Next::Wait(Some(due)) if due == now + ms(50)));
    let Next::Turn(turn) = world.state.take(now + ms(60)) else {
        panic!("it is due")
    };
    assert_eq!((turn.priority, turn.waited), (3, ms(10)));
    assert_eq!(turn.reasons.iter().collect::<Vec<_>>(), ["resync", "edit"]);
}

#[test]
fn a_priority_can_be_lowered_only_on_request() {
    let mut world = World::new();
    for (add, priority) in [
        (Add::now().priority(-5), 2),
        (Add::now().priority(-5).lower(), -5),
    ] {
        world.state.add(1, Add::now().priority(2), world.now);
        world.state.add(1, add, world.now);
        let Next::Turn(turn) = world.state.take(world.now) else {
            panic!("it is ready")
        };
        assert_eq!(turn.priority, priority);
        world.state.finish(&1, Outcome::Done, world.now);
    }
}

#[test]
fn backoff_counts_failures_only() {
    let mut world = World::new();
    world.state.add(1, Add::now(), world.now);
    for expected in [5, 10, 20] {
        assert!(matches!(world.state.take(world.now), Next::Turn(_)));
        world.state.finish(&1, Outcome::Retry(None), world.now);
        for _ in 0..5 {
            // Neither patient triggers nor repeated failures elsewhere change what it waits for.
            world.state.add(1, Add::now().keep_backoff(), world.now);
            world.state.add(1, Add::rate_limited(), world.now);
        }
        let due = world.now + Duration::from_millis(expected);
        assert!(matches!(world.state.take(world.now), Next::Wait(Some(at)) if at == due));
        world.now = due;
    }
    world.state.add(1, Add::now(), world.now);
    assert!(matches!(
        world.state.take(world.now),
        Next::Turn(Turn { failures: 3, .. })
    ));
}

#[test]
fn a_stream_of_urgent_keys_starves_nothing() {
    let mut world = World::new();
    world.add(0, 0, -2);
    for round in 0u8..200 {
        world.add(1 + round % 5, 0, 2);
        assert!(world.take());
        world.finish(0, Outcome::Done);
        if !matches!(world.history[world.history.len() - 2], Event::Take { key: 0, .. }) {
            world.now += Duration::from_millis(1);
            continue;
        }
        assert_eq!(round, 40, "four points of priority are worth 40 ms");
        return;
    }
    panic!("key 0 was starved");
}

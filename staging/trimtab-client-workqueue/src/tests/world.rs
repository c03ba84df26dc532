//! The state machine and the model side by side, on a hand-driven clock, and the history of what happened.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::limiter::Exponential;
use crate::ready::FlowOf;
use crate::state::{Mode, Next, Outcome, State, Turn};
use crate::{Phase, Reasons};

use super::clauses::Event;
use super::model::{Given, Model, add_of};

pub(super) const AGEING: Duration = Duration::from_millis(40);

/// What may be done with a queue. Workers are counted from the one who has held its key longest.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Add(Adding),
    Take,
    Done(usize),
    Retry(usize),
    After(usize, Duration),
    Forget(usize),
    Pass(Duration),
}

/// One add, with all that can be said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Adding {
    pub(super) key: u8,
    pub(super) delay: Duration,
    pub(super) rate_limited: bool,
    pub(super) priority: i32,
    pub(super) lower: bool,
    pub(super) end_backoff: bool,
    pub(super) mark: bool,
    pub(super) reason: Option<&'static str>,
}

pub(super) fn base_backoff(failures: u32) -> Duration {
    Duration::from_millis(5) * 2u32.pow((failures - 1).min(17))
}

fn ms(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn add(rich: bool) -> impl Strategy<Value = Op> {
    let often_none = prop_oneof![3 => Just(None), 1 => Just(Some("edit")), 1 => Just(Some("resync"))];
    let often_now = prop_oneof![Just(Duration::ZERO), ms(0..60)];
    (
        0u8..8,
        often_now,
        prop::bool::weighted(0.15),
        -2i32..3,
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        often_none,
    )
        .prop_map(
            move |(key, delay, rate_limited, priority, lower, end_backoff, mark, reason)| {
                Op::Add(Adding {
                    key,
                    delay,
                    rate_limited: rich && rate_limited,
                    priority,
                    lower: rich && lower,
                    end_backoff: rich && end_backoff,
                    mark,
                    reason,
                })
            },
        )
}

fn op(rich: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => add(rich),
        4 => Just(Op::Take),
        2 => (0usize..4).prop_map(Op::Done),
        1 => (0usize..4).prop_map(Op::Retry),
        1 => (0usize..4, ms(0..60)).prop_map(|(worker, delay)| Op::After(worker, delay)),
        1 => (0usize..4).prop_map(Op::Forget),
        2 => ms(0..40).prop_map(Op::Pass),
    ]
}

/// Without `rich`, nobody lowers a priority, and backoffs only come from turns that failed and are not ended, so that what each key is due can be told from its adds.
pub(super) fn ops(rich: bool) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(rich), 0..120)
}

/// Four flows of two keys.
pub(super) fn flow(key: u8) -> u8 {
    key / 2
}

pub(super) struct World {
    pub(super) state: State<u8>,
    pub(super) model: Model,
    start: Instant,
    hands: Vec<Turn<u8>>,
    pub(super) history: Vec<Event>,
}

impl World {
    pub(super) fn new(fair: bool) -> Self {
        let start = Instant::now();
        let flow_of: Option<FlowOf<u8>> = match fair {
            true => Some(Box::new(|key| u64::from(flow(*key)))),
            false => None,
        };
        Self {
            state: State::new(Box::new(Exponential::default()), AGEING, flow_of, start),
            model: Model::new(AGEING, fair.then_some(flow)),
            start,
            hands: Vec::new(),
            history: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.start + self.model.now
    }

    /// Does the same to both, and compares them.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Add(add) => {
                let now = self.now();
                let taken = self.state.add(add.key, add_of(add), || now);
                assert!(taken.is_some(), "the queue is open");
                self.model.add(add);
                self.history.push(Event::Add {
                    key: add.key,
                    now: self.model.now,
                    due: self.model.now + add.delay,
                    priority: add.priority,
                });
            }
            Op::Take => drop(self.take()),
            Op::Done(worker) => self.finish(*worker, Outcome::Done),
            Op::Retry(worker) => self.finish(*worker, Outcome::Retry(Some("failed".into()))),
            Op::After(worker, delay) => self.finish(*worker, Outcome::After(*delay)),
            Op::Forget(worker) => {
                if let Some(turn) = self.hands.get(*worker) {
                    self.state.forget(turn.slot);
                    if let Some(key) = self.model.keys.get_mut(&turn.key) {
                        key.failures = 0;
                    }
                }
            }
            Op::Pass(time) => self.model.pass(*time),
        }
        self.compare();
    }

    pub(super) fn take(&mut self) -> bool {
        let got = match self.state.take(self.now()) {
            Next::Turn(turn) => Some(turn),
            Next::Wait(due) => {
                assert_eq!(due, self.model.next_due().map(|due| self.start + due));
                None
            }
            Next::End => None,
        };
        assert_eq!(got.as_ref().map(given), self.model.take());
        let Some(turn) = got else { return false };
        self.history.push(Event::Take {
            key: turn.key,
            now: self.model.now,
            priority: turn.priority,
        });
        self.hands.push(turn);
        true
    }

    pub(super) fn finish(&mut self, worker: usize, outcome: Outcome) {
        if worker >= self.hands.len() {
            return;
        }
        let turn = self.hands.remove(worker);
        let now = self.model.now;
        let (back, failed) = match &outcome {
            Outcome::Done => (None, false),
            Outcome::After(delay) => (Some(*delay), false),
            Outcome::Retry(_) => (None, true),
        };
        let reason = matches!(outcome, Outcome::Retry(Some(_))).then_some("failed");
        self.state.finish(turn.slot, outcome, self.now());
        self.model.finish(turn.key, back, failed, reason);
        let backoff = failed.then(|| self.backoff(turn.key));
        // While the queue drains, what was added has its turn as it was added.
        let open = self.state.mode() == Mode::Open;
        self.history.push(Event::Finish {
            key: turn.key,
            now,
            back: backoff.or(back).map(|delay| now + delay),
            failed: failed && open,
            priority: if open { turn.priority } else { i32::MIN },
        });
    }

    /// The delay after the failures that the key has now.
    fn backoff(&self, key: u8) -> Duration {
        base_backoff(self.model.keys[&key].failures.max(1))
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.hands.is_empty()
    }

    /// Works until nothing is left.
    pub(super) fn work_off(&mut self) {
        loop {
            while self.take() {}
            while self.is_busy() {
                self.finish(0, Outcome::Done);
            }
            if self.model.phase_counts(Phase::Ready) > 0 {
                continue;
            }
            match self.model.next_due() {
                None => break,
                Some(due) => self.model.pass(due - self.model.now),
            }
        }
    }

    /// Shuts down and returns what is reported.
    pub(super) fn shut_down(&mut self, mode: Mode) -> Vec<(u8, Phase)> {
        let now = self.now();
        self.state.shut_down(mode, now);
        self.model.drain();
        let left = self.state.take_leftovers();
        left.into_iter().map(|left| (left.key, left.phase)).collect()
    }

    fn compare(&mut self) {
        let snapshot = self.state.snapshot(self.now());
        assert_eq!(snapshot.len(), self.model.keys.len());
        for shown in snapshot {
            let key = &self.model.keys[&shown.key];
            assert_eq!(Some(shown.phase), self.model.phase(shown.key), "{shown:?}");
            assert_eq!(shown.failures, key.failures, "{shown:?}");
            let since = match (&key.held, &key.owed) {
                (Some((since, _)), _) => self.model.now - *since,
                (None, Some(owed)) => owed.at.abs_diff(self.model.now),
                (None, None) => unreachable!("nothing is kept of it"),
            };
            assert_eq!(shown.time, since, "{shown:?}");
        }
        let metrics = self.state.metrics(self.now());
        assert_eq!(metrics.delayed, self.model.phase_counts(Phase::Delayed));
        assert_eq!(
            metrics.depth.values().sum::<usize>(),
            self.model.phase_counts(Phase::Ready)
        );
    }
}

fn given(turn: &Turn<u8>) -> Given {
    let reasons = turn.reasons.as_deref().map(Reasons::iter).into_iter().flatten();
    let known = ["edit", "resync", "failed"];
    let known = |reason: &str| {
        known
            .into_iter()
            .find(|known| *known == reason)
            .expect("one of ours")
    };
    Given {
        key: turn.key,
        priority: turn.priority,
        failures: turn.failures,
        waited: turn.waited,
        reasons: reasons.map(known).collect(),
        marked: turn.marked,
    }
}

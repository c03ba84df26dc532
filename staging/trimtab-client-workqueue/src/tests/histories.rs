//! Random histories: the queue does what the model does, and every clause holds.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::Add;
use crate::state::{Mode, Next, Outcome};

use super::clauses::{self, Event};
use super::world::{AGEING, Adding, Op, World, flow, ops};

fn run(ops: &[Op], fair: bool) -> World {
    let mut world = World::new(fair);
    ops.iter().for_each(|op| world.apply(op));
    world
}

fn check(world: &World, fair: bool) {
    clauses::all(&world.history);
    if fair {
        clauses::fair_flows(&world.history, flow);
    } else {
        clauses::fair(&world.history, AGEING);
    }
}

/// A key that leaves its priority and comes back to it is the last there, also when it is judged how long a priority has waited.
#[test]
fn who_comes_back_to_a_priority_is_its_last() {
    let add = |key, priority, lower| {
        let adding = Adding {
            key,
            priority,
            lower,
            ..Adding::default()
        };
        Op::Add(adding)
    };
    let pass = |millis| Op::Pass(Duration::from_millis(millis));
    let mut ops: Vec<_> = [0, 1].map(|key| add(key, 0, false)).into();
    ops.extend([Op::Take, add(0, 0, false), add(4, 0, false), add(2, -1, false)]);
    ops.extend([pass(2), add(3, -1, false), pass(16)]);
    ops.extend([add(2, 0, false), add(5, 0, false), add(2, -1, true), pass(22)]);
    let mut world = run(&ops, true);
    world.work_off();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_model_does(ops in ops(true), fair: bool) {
        let mut world = run(&ops, fair);
        world.work_off();
        let now = world.now();
        prop_assert!(world.state.snapshot(now).is_empty(), "nothing is kept of finished keys");
    }

    #[test]
    fn every_clause_holds(ops in ops(false), fair: bool) {
        let mut world = run(&ops, fair);
        world.work_off();
        world.history.push(Event::End { reported: Vec::new() });
        check(&world, fair);
    }

    #[test]
    fn it_loses_nothing_when_it_is_shut_down(ops in ops(false), fair: bool, drain: bool) {
        let mut world = run(&ops, fair);
        let mut reported = Vec::new();
        if drain {
            reported = world.shut_down(Mode::Draining);
            drain_by_hand(&mut world)?;
        }
        reported.extend(world.shut_down(Mode::Closed));
        let now = world.now();
        prop_assert!(world.state.add(1, Add::now(), || now).is_none(), "late adds are refused");
        prop_assert!(matches!(world.state.take(now), Next::End));
        if !drain {
            for (key, phase) in &reported {
                prop_assert_eq!(Some(*phase), world.model.phase(*key));
            }
        }
        let reported = reported.into_iter().map(|(key, _)| key).collect();
        world.history.push(Event::End { reported });
        check(&world, fair);
    }

    /// The same through a queue that is worked on for long enough for keys to age.
    #[test]
    fn nobody_starves(adds in prop::collection::vec((0u8..8, -2i32..3), 300), pace in 1u64..12) {
        let mut world = World::new(false);
        for (key, priority) in adds {
            let op = Op::Add(Adding {
                key,
                priority,
                ..Adding::default()
            });
            world.apply(&op);
            world.apply(&Op::Take);
            world.apply(&Op::Done(0));
            world.apply(&op);
            world.apply(&Op::Pass(Duration::from_millis(pace)));
        }
        clauses::fair(&world.history, AGEING);
    }
}

/// Works off a draining queue; every turn fails.
fn drain_by_hand(world: &mut World) -> Result<(), TestCaseError> {
    while world.is_busy() || world.take() {
        world.finish(0, Outcome::Retry(None));
    }
    prop_assert!(world.state.is_drained());
    let now = world.now();
    prop_assert!(matches!(world.state.take(now), Next::End));
    Ok(())
}

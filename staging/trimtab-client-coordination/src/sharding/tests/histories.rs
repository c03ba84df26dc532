//! Random histories: no partition is in two hands, whatever goes wrong, and soon all are in somebody's.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::clauses::{covered, minimal};
use super::world::{GRACE, Manner, World};
use crate::tests::{Fate, Fault, TIMING, millis, on_paused_time};

#[derive(Clone, Debug)]
enum Step {
    Start(i64, Manner),
    Leave(usize),
    Kill(usize),
    Pause(usize),
    Resume(usize),
    /// What happens to a member's next requests, and to all after them.
    Fail(usize, Vec<Fault>),
    Usually(usize, Fault),
    /// Passes time, in milliseconds.
    Pass(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    let fate = prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Lost),
        2 => Just(Fate::Broken),
        2 => Just(Fate::Mute),
        1 => prop_oneof![Just(409), Just(500)].prop_map(Fate::Code),
    ];
    // Longer on the way than anybody waits, and than a lease lasts.
    let delay = || prop_oneof![3 => millis(50), 2 => millis(1_400), 1 => millis(9_000)];
    (delay(), delay(), fate).prop_map(|(there, back, fate)| Fault { there, back, fate })
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        2 => Just(Manner::GOOD),
        1 => Just(Manner::DEAF),
        2 => (millis(3_000), millis(6_000)).prop_map(|(lasts, lingers)| Manner { lasts, lingers }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-10_000..10_000_i64, manner()).prop_map(|(skew, manner)| Step::Start(skew, manner)),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Kill),
        3 => any::<usize>().prop_map(Step::Pause),
        3 => any::<usize>().prop_map(Step::Resume),
        5 => (any::<usize>(), prop::collection::vec(fault(), 1..8)).prop_map(|(who, faults)| Step::Fail(who, faults)),
        2 => (any::<usize>(), fault()).prop_map(|(who, fault)| Step::Usually(who, fault)),
        8 => prop_oneof![0..100_u64, 0..2_000_u64, 2_000..8_000_u64].prop_map(Step::Pass),
    ]
}

async fn sharing(seed: u64, steps: Vec<Step>) -> Result<(), String> {
    fastrand::seed(seed);
    let mut world = World::new();
    world.start(0, Manner::GOOD);
    world.start(-100, Manner::GOOD);
    for step in steps {
        let one = |who: usize| who % world.members.len();
        match step {
            Step::Start(skew, manner) if world.members.len() < 7 => {
                world.start(skew, manner);
            }
            Step::Start(..) => {}
            Step::Leave(who) => world.members[one(who)].stop.cancel(),
            Step::Kill(who) => world.members[one(who)].process.kill(),
            Step::Pause(who) => world.members[one(who)].process.pause(),
            Step::Resume(who) => world.members[one(who)].process.resume(),
            Step::Fail(who, faults) => world.server.fail(one(who), faults),
            Step::Usually(who, fault) => world.server.usually(one(who), fault),
            // In small steps, so that what is owned is looked at often.
            Step::Pass(time) => {
                for _ in 0..time / 250 {
                    sleep(Duration::from_millis(250)).await;
                    world.check_now()?;
                }
                sleep(Duration::from_millis(time % 250)).await;
            }
        }
        world.check_now()?;
    }
    world.server.heal();
    world.members.iter().for_each(|one| one.process.resume());
    world.start(0, Manner::GOOD);
    // What is on its way may renew the lease of one who is gone, or hold one up for as long as it waits; whoever was without
    // a lease joins; and work that does not end is dropped.
    let late = Duration::from_secs(9) + 3 * TIMING.request_timeout();
    sleep(late + TIMING.lease_duration + GRACE + 8 * TIMING.retry_period).await;
    world.check()?;
    covered(&world.owned())?;
    world.members.iter().for_each(|one| one.stop.cancel());
    sleep(GRACE + 6 * TIMING.retry_period).await;
    world.check()?;
    match world.members.iter().position(|one| one.process.is_alive()) {
        Some(who) => Err(format!("{who} did not leave")),
        None => Ok(()),
    }
}

/// What happens to a group while nothing else does.
#[derive(Clone, Copy, Debug)]
enum Change {
    Joins,
    Leaves,
    Dies,
}

/// A member comes or goes, and requests take up to `longest`.
async fn a_change(
    seed: u64,
    members: usize,
    longest: Duration,
    change: Change,
    manner: Manner,
) -> Result<(), String> {
    fastrand::seed(seed);
    let mut world = World::new();
    for who in 0..=members {
        let fault = Fault {
            there: longest.mul_f64(fastrand::f64()) / 2,
            back: longest.mul_f64(fastrand::f64()) / 2,
            fate: Fate::Answered,
        };
        world.server.usually(who, fault);
    }
    for _ in 0..members {
        world.start(fastrand::i64(-50..50), manner);
    }
    sleep(GRACE + 8 * TIMING.retry_period + 20 * longest).await;
    covered(&world.owned())?;
    sleep(Duration::from_millis(fastrand::u64(0..2_000))).await;
    let mut bound = 3 * TIMING.retry_period + manner.lingers.min(GRACE) + 10 * longest;
    match change {
        Change::Joins => drop(world.start(0, manner)),
        Change::Leaves => world.members[0].stop.cancel(),
        Change::Dies => {
            world.members[0].process.kill();
            bound += TIMING.lease_duration;
        }
    }
    sleep(bound).await;
    covered(&world.owned())?;
    world.check()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each is minutes of a group.
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_partition_is_in_two_hands(seed: u64, steps in prop::collection::vec(step(), 0..40)) {
        prop_assert_eq!(on_paused_time(sharing(seed, steps)), Ok(()));
    }

    #[test]
    fn all_partitions_are_soon_in_somebodys(
        seed: u64,
        members in 2..5_usize,
        longest in millis(200),
        change in prop_oneof![Just(Change::Joins), Just(Change::Leaves), Just(Change::Dies)],
        manner in manner(),
    ) {
        prop_assert_eq!(on_paused_time(a_change(seed, members, longest, change, manner)), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_what_must_changes_hands(
        members in prop::collection::btree_set("[a-z0-9]{1,12}", 1..9),
        member in "[a-z0-9]{1,12}",
    ) {
        let members: BTreeSet<String> = members;
        prop_assert_eq!(minimal(&members, &member), Ok(()));
    }
}

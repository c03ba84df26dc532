//! Random histories: nobody works beside another, whatever goes wrong, and soon somebody works.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::clauses::{always, live};
use super::world::{GRACE, LEASE, Manner, TICK, World};
use crate::tests::{Fate, Fault, TIMING, millis, on_paused_time};

#[derive(Clone, Debug)]
enum Step {
    Start(i64, Manner),
    Stop(usize),
    Kill(usize),
    Pause(usize),
    Resume(usize),
    /// What happens to a candidate's next requests, and to all after them.
    Fail(usize, Vec<Fault>),
    Usually(usize, Fault),
    /// Somebody else changes the Lease, but not its record.
    Label(u8),
    /// Passes time, in milliseconds.
    Pass(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    let fate = prop_oneof![
        4 => Just(Fate::Answered),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Lost),
        2 => Just(Fate::Broken),
        2 => Just(Fate::Mute),
        1 => prop_oneof![Just(409), Just(500), Just(503)].prop_map(Fate::Code),
    ];
    // Longer on the way than anybody waits, and than a lease lasts.
    let delay = || prop_oneof![millis(50), millis(2_500), millis(9_000)];
    (delay(), delay(), fate).prop_map(|(there, back, fate)| Fault { there, back, fate })
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        Just(Manner::GOOD),
        Just(Manner::DEAF),
        (millis(12_000), millis(30_000)).prop_map(|(lingers, lasts)| Manner { lingers, lasts }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (-10_000..10_000_i64, manner()).prop_map(|(skew, manner)| Step::Start(skew, manner)),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => any::<usize>().prop_map(Step::Kill),
        3 => any::<usize>().prop_map(Step::Pause),
        3 => any::<usize>().prop_map(Step::Resume),
        5 => (any::<usize>(), prop::collection::vec(fault(), 1..6)).prop_map(|(who, faults)| Step::Fail(who, faults)),
        2 => (any::<usize>(), fault()).prop_map(|(who, fault)| Step::Usually(who, fault)),
        1 => any::<u8>().prop_map(Step::Label),
        8 => prop_oneof![0..100_u64, 0..2_000_u64, 2_000..8_000_u64].prop_map(Step::Pass),
    ]
}

async fn elections(seed: u64, steps: Vec<Step>) -> Result<(), String> {
    fastrand::seed(seed);
    let mut world = World::new();
    world.start(0, Manner::GOOD);
    world.start(-100, Manner::GOOD);
    for step in steps {
        let one = |who: usize| who % world.candidates.len();
        match step {
            Step::Start(skew, manner) if world.candidates.len() < 6 => drop(world.start(skew, manner)),
            Step::Start(..) => {}
            Step::Stop(who) => world.candidates[one(who)].stop.cancel(),
            Step::Kill(who) => world.candidates[one(who)].process.kill(),
            Step::Pause(who) => world.candidates[one(who)].process.pause(),
            Step::Resume(who) => world.candidates[one(who)].process.resume(),
            Step::Fail(who, faults) => world.server.fail(one(who), faults),
            Step::Usually(who, fault) => world.server.usually(one(who), fault),
            Step::Label(label) if world.server.lease(LEASE).is_some() => {
                let label = label.to_string();
                world.server.edit(LEASE, |lease| {
                    lease["metadata"]["labels"] = serde_json::json!({ "a": label })
                });
            }
            Step::Label(_) => {}
            Step::Pass(time) => sleep(Duration::from_millis(time)).await,
        }
        always(&world.history())?;
    }
    world.server.heal();
    world.candidates.iter().for_each(|one| one.process.resume());
    world.start(0, Manner::GOOD);
    // What is on its way may renew the lease of one who is gone, or hold one up for as long as it waits.
    let late = Duration::from_secs(18) + 5 * TIMING.request_timeout();
    let bound = late + GRACE + TIMING.lease_duration + TIMING.retry_period.mul_f64(2.2);
    sleep(bound).await;
    // Work that ends by itself leaves a gap until the next candidate looks.
    let gap = TIMING.retry_period.mul_f64(2.2) + TICK;
    live(&world.history(), Instant::now() - gap, gap)?;
    world.candidates.iter().for_each(|one| one.stop.cancel());
    sleep(GRACE + TIMING.renew_deadline).await;
    always(&world.history())?;
    if world.candidates.iter().any(|one| one.process.is_alive()) {
        return Err("a candidate did not stop".to_owned());
    }
    Ok(())
}

/// All requests take up to `longest`; the leader dies or stops after a while.
async fn succession(
    seed: u64,
    others: usize,
    longest: Duration,
    after: Duration,
    dies: bool,
) -> Result<(), String> {
    fastrand::seed(seed);
    let mut world = World::new();
    for who in 0..=others {
        let fault = Fault {
            there: longest.mul_f64(fastrand::f64()) / 2,
            back: longest.mul_f64(fastrand::f64()) / 2,
            fate: Fate::Answered,
        };
        world.server.usually(who, fault);
        world.start(fastrand::i64(-50..50), Manner::GOOD);
    }
    sleep(Duration::from_secs(5) + after).await;
    let leader = world.leader().ok_or("nobody leads after five seconds")?;
    let from = Instant::now();
    let retries = TIMING.retry_period.mul_f64(2.2);
    let bound = if dies {
        world.candidates[leader].process.kill();
        TIMING.lease_duration + retries + 5 * longest
    } else {
        world.candidates[leader].stop.cancel();
        // A renewal that is under way is not waited for; the release takes two requests.
        2 * longest + retries + 3 * longest
    };
    sleep(bound).await;
    let history = world.history();
    let after: Vec<_> = history.iter().filter(|(at, _)| *at > from).cloned().collect();
    live(&after, from, bound)?;
    always(&history)
}

/// The leader is told late of its renewals, then not at all, and its work does not end when it is told to.
async fn cut_off(seed: u64, back: Duration, after: Duration) -> Result<(), String> {
    fastrand::seed(seed);
    let mut world = World::new();
    let late = Fault {
        back,
        ..Fault::default()
    };
    world.server.usually(0, late);
    world.start(0, Manner::DEAF);
    // It has looked at the Lease and acquired it, and does not know yet.
    sleep(back + TICK).await;
    for _ in 0..3 {
        world.start(0, Manner::GOOD);
    }
    sleep(after).await;
    world.server.usually(
        0,
        Fault {
            fate: Fate::Lost,
            ..late
        },
    );
    sleep(3 * TIMING.lease_duration).await;
    live(&world.history(), Instant::now() - 2 * TICK, 2 * TICK)?;
    always(&world.history())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each is minutes of an election.
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_works_beside_another(seed: u64, steps in prop::collection::vec(step(), 0..50)) {
        prop_assert_eq!(on_paused_time(elections(seed, steps)), Ok(()));
    }

    #[test]
    fn the_holder_ends_before_others_begin(seed: u64, back in millis(1_400), after in millis(5_000)) {
        prop_assert_eq!(on_paused_time(cut_off(seed, back, after)), Ok(()));
    }

    #[test]
    fn somebody_works_soon(
        seed: u64,
        others in 1..4_usize,
        longest in 0..900_u64,
        after in millis(5_000),
        dies: bool,
    ) {
        let longest = Duration::from_millis(longest);
        prop_assert_eq!(on_paused_time(succession(seed, others, longest, after, dies)), Ok(()));
    }
}

//! What members do, one case at a time.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clauses::covered;
use super::world::{GRACE, Manner, WORKED_ON, World, config, hash_in};
use crate::sharding::group::{CLAIMS, KEPT, LEAVING};
use crate::sharding::{GROUP_LABEL, Held, Member, PARTITIONS, Partitions};
use crate::tests::{Fate, Fault, TIMING};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(2);

fn fate(fate: Fate) -> Fault {
    Fault {
        fate,
        ..Fault::default()
    }
}

/// What is awaited comes, or the test fails.
async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    let within = 10 * TIMING.lease_duration;
    timeout(within, awaited).await.expect("it comes soon")
}

fn all_of(world: &World) {
    assert_eq!(world.check(), Ok(()));
    assert_eq!(covered(&world.owned()), Ok(()));
}

/// A hash in the first partition that the member owns.
fn one_of(world: &World, who: usize) -> u64 {
    hash_in(world.owned()[who].iter().next().expect("it owns something"))
}

/// What a member's Lease says that it claims.
fn claims(world: &World, name: &str) -> Partitions {
    let lease = world.server.lease(name).expect("its Lease");
    let annotations = lease.metadata.annotations.expect("annotations");
    Partitions::from_hex(&annotations[CLAIMS]).expect("claims")
}

/// Waits until a member writes its Lease.
async fn next_write(world: &World, name: &str) -> Instant {
    let version = || {
        world
            .server
            .lease(name)
            .and_then(|lease| lease.metadata.resource_version)
    };
    let before = version();
    let written = async {
        while version() == before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(written).await;
    Instant::now()
}

/// Checks for so long that no partition is in two hands.
async fn stays_exclusive(world: &World, time: Duration) {
    stays_disjoint(world, time).await;
    assert_eq!(world.check(), Ok(()));
}

/// Checks for so long that no partition may be worked on by two, whatever was before.
async fn stays_disjoint(world: &World, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        assert_eq!(world.check_now(), Ok(()));
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_has_all_at_once() {
    let mut world = World::new();
    world.start(0, Manner::GOOD);
    sleep(MOMENT).await;
    assert_eq!(world.owned(), [Partitions::ALL]);
    let verbs: Vec<Method> = world
        .server
        .requests()
        .into_iter()
        .map(|(_, verb)| verb)
        .collect();
    let [get, post, put] = [Method::GET, Method::POST, Method::PUT];
    let expected = [get.clone(), post, get.clone(), put, get];
    assert_eq!(verbs, expected, "joins, looks, claims, looks");
    let lease = world.server.lease("group-m0").expect("its Lease");
    assert_eq!(lease.metadata.labels.expect("labels")[GROUP_LABEL], "group");
    let annotations = lease.metadata.annotations.expect("annotations");
    assert_eq!(annotations[CLAIMS], "f".repeat(64));
    assert!(!annotations.contains_key(LEAVING));
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_handed_on_when_what_is_in_hand_has_ended_and_delays_no_other() {
    let mut world = World::of(2, Manner::GOOD).await;
    let before = world.owned();
    let hold = |partition: u8| world.members[0].shards.hold(hash_in(partition));
    let held = (0..=u8::MAX).filter_map(|partition| Some((partition, hold(partition)?)));
    let held: Vec<(u8, Held)> = held.collect();
    assert_eq!(held.len(), before[0].len());
    world.start(0, Manner::GOOD);
    // Not a moment at which anybody renews.
    sleep(3 * TIMING.retry_period + SECOND / 3).await;
    let status = world.members[2].shards.status();
    assert_eq!(
        world.owned()[2],
        before[1] - world.owned()[1],
        "what nobody holds is there"
    );
    let wanted = status.claimed;
    assert_eq!(
        wanted,
        world.members[0].shards.status().yielding,
        "it waits for the rest"
    );
    assert!(wanted.len() > 1);
    let one = wanted.iter().next().expect("something is wanted");
    for (partition, held) in held {
        assert_eq!(held.stop().is_cancelled(), wanted.contains(partition));
        if partition == one {
            drop(held);
        } else {
            tokio::spawn(async move {
                sleep(GRACE / 2).await;
                drop(held);
            });
        }
    }
    sleep(MOMENT).await;
    assert!(
        !claims(&world, "group-m0").contains(one),
        "others are told at once"
    );
    sleep(SECOND / 2).await;
    assert!(world.members[2].shards.owns(hash_in(one)), "one by one");
    assert!(!world.members[2].shards.status().claimed.is_empty());
    sleep(GRACE).await;
    assert_eq!(world.members[2].shards.status().claimed, Partitions::NONE);
    all_of(&world);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_hands_on_at_once_and_deletes_its_lease() {
    let world = World::of(3, Manner::GOOD).await;
    let before = world.owned();
    world.members[1].stop.cancel();
    sleep(TIMING.retry_period + SECOND / 2).await;
    all_of(&world);
    let after = world.owned();
    assert_eq!(after[1], Partitions::NONE);
    let kept = [0, 2]
        .into_iter()
        .all(|who: usize| (before[who] - after[who]).is_empty());
    assert!(kept, "nothing else moves");
    sleep(2 * TIMING.retry_period).await;
    assert!(!world.members[1].process.is_alive() && !world.members[1].shards.status().is_member);
    sleep(2 * TIMING.lease_duration).await;
    assert_eq!(world.members[1].shards.health(SECOND), Ok(()));
    assert_eq!(world.server.names(), ["group-m0", "group-m2"]);
    assert_eq!(world.members[0].shards.status().members, ["m0", "m2"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_dropped_after_the_grace() {
    let mut world = World::of(1, Manner::DEAF).await;
    for leaves in [false, true] {
        if leaves {
            world.members[0].stop.cancel();
        } else {
            world.start(0, Manner::GOOD);
        }
        sleep(GRACE).await;
        let [one, other] = [0, 1].map(|who: usize| world.members[who].shards.status());
        assert!(world.check().is_ok() && !one.yielding.is_empty() && other.claimed == one.yielding);
        assert_eq!(
            one.owned | one.yielding | other.owned,
            Partitions::ALL,
            "all else is done"
        );
        sleep(2 * TIMING.retry_period).await;
        all_of(&world);
    }
    sleep(2 * TIMING.retry_period).await;
    assert!(!world.members[0].process.is_alive());
    assert_eq!(world.server.names(), ["group-m1"]);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_a_hold_for_ever_leaves_by_not_renewing() {
    let mut world = World::of(1, Manner::GOOD).await;
    let held = world.members[0].shards.hold(hash_in(5)).expect("it owns all");
    world.start(0, Manner::GOOD);
    sleep(SECOND).await;
    world.members[0].stop.cancel();
    sleep(GRACE + TIMING.retry_period + SECOND / 2).await;
    assert!(!world.members[0].process.is_alive() && held.is_valid());
    assert!(
        !world.members[1].shards.owns(hash_in(5)),
        "as long as the lease lasts"
    );
    sleep(TIMING.lease_duration + TIMING.retry_period).await;
    assert!(!held.is_valid() && world.members[1].shards.owns(hash_in(5)));
    assert_eq!(held.run(async {}).await, None);
    assert_eq!(world.server.names(), ["group-m0", "group-m1"]);
}

#[tokio::test(start_paused = true)]
async fn who_dies_is_waited_for_as_long_as_its_lease_lasts() {
    let mut world = World::of(3, Manner::GOOD).await;
    world.members[0].process.kill();
    sleep(TIMING.lease_duration - TIMING.retry_period).await;
    assert!(covered(&world.owned()).is_err());
    sleep(3 * TIMING.retry_period).await;
    all_of(&world);
    // What is an hour of nothing for the others, too.
    tokio::time::advance(KEPT - 3 * TIMING.lease_duration).await;
    sleep(TIMING.lease_duration).await;
    let names = ["group-m0", "group-m1", "group-m2"];
    assert_eq!(world.server.names(), names, "for people to look at");
    sleep(2 * TIMING.lease_duration).await;
    assert_eq!(world.server.names(), ["group-m1", "group-m2"]);
    world.start_as("m0", 0, Manner::GOOD);
    sleep(4 * TIMING.retry_period).await;
    all_of(&world);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_others_begin_and_joins_again() {
    let world = World::of(2, Manner::GOOD).await;
    let hash = one_of(&world, 0);
    let mut gains = world.members[0].shards.gains();
    soon(gains.next()).await.expect("what it owns already");
    let held = world.members[0].shards.hold(hash).expect("it owns it");
    world.server.usually(0, fate(Fate::Refused));
    let cut_off = Instant::now();
    let told = async {
        soon(held.stop().cancelled()).await;
        assert!(!world.members[0].shards.owns(hash), "no work begins");
        assert!(world.members[0].shards.hold(hash).is_none() && held.is_valid());
        cut_off.elapsed()
    };
    let dropped = async {
        assert_eq!(soon(held.run(std::future::pending::<()>())).await, None);
        cut_off.elapsed()
    };
    let (told, dropped) = tokio::join!(told, dropped);
    // The last renewal was up to a retry period ago.
    let earliest = TIMING.renew_deadline - TIMING.retry_period;
    assert!((earliest..=TIMING.renew_deadline).contains(&told), "{told:?}");
    assert_eq!(dropped - told, TIMING.validity() - TIMING.renew_deadline);
    sleep(MOMENT).await;
    let status = world.members[0].shards.status();
    assert_eq!((status.is_member, status.owned), (false, Partitions::NONE));
    let trouble = status.trouble.unwrap_or_default();
    assert!(trouble.contains("refused"), "{trouble:?}");
    sleep(2 * TIMING.retry_period).await;
    assert_eq!(world.owned()[1], Partitions::ALL);

    world.server.heal();
    sleep(4 * TIMING.retry_period).await;
    all_of(&world);
    let shards = &world.members[0].shards;
    assert!(shards.owns(hash) && shards.status().trouble.is_none());
    let gained = soon(gains.next()).await.expect("what it has again");
    assert!(gained.contains_hash(hash));
    drop(held); // of an earlier time: it counts no more
    assert!(shards.hold(hash).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_the_last_moment_keeps_all() {
    let world = World::of(2, Manner::GOOD).await;
    let (hash, owned) = (one_of(&world, 0), world.owned()[0]);
    let shards = &world.members[0].shards;
    let mut gains = shards.gains();
    soon(gains.next()).await.expect("what it owns already");
    let held = shards.hold(hash).expect("it owns it");
    // One renewal is refused and one takes as long as it may, so that the next one is late.
    world.server.fail(0, [fate(Fate::Refused), fate(Fate::Lost)]);
    soon(held.stop().cancelled()).await;
    assert!(!shards.owns(hash));
    let again = soon(gains.next()).await.expect("what was refused meanwhile");
    assert_eq!((again, world.owned()[0]), (owned, owned));
    assert!(held.is_valid() && held.stop().is_cancelled());
    let fresh = shards.hold(hash).expect("it owns it");
    assert!(!fresh.stop().is_cancelled(), "only what was told is told");
    sleep(3 * TIMING.lease_duration).await;
    assert!(shards.status().owned == owned && fresh.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_stops_its_member_before_others_begin() {
    let world = World::of(3, Manner::GOOD).await;
    for _ in 0..3 {
        world.server.delete("group-m0");
        stays_exclusive(&world, TIMING.lease_duration + 4 * TIMING.retry_period).await;
        all_of(&world);
        assert!(
            world.shares().iter().all(|share| *share > 0),
            "it has joined again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_lease_was_deleted_may_not_know_yet() {
    let cut_off = [
        // Its next renewal is long on its way, or its requests go nowhere.
        Fault {
            there: TIMING.request_timeout() - SECOND / 4,
            ..Fault::default()
        },
        fate(Fate::Lost),
    ];
    for fault in cut_off {
        let mut world = World::new();
        world.start(0, Manner::DEAF);
        sleep(SECOND / 3).await;
        world.start(0, Manner::GOOD);
        sleep(GRACE + 4 * TIMING.retry_period).await;
        // Others have not seen this renewal when the Lease goes.
        next_write(&world, "group-m0").await;
        world.server.usually(0, fault);
        sleep(MOMENT).await;
        world.server.delete("group-m0");
        stays_exclusive(&world, 2 * TIMING.lease_duration).await;
        world.server.heal();
        sleep(2 * TIMING.lease_duration + GRACE).await;
        all_of(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_deleted_unseen_goes_on_no_longer_than_until_it_renews() {
    let mut world = World::of(1, Manner::GOOD).await;
    sleep(SECOND / 3).await;
    world.server.delete("group-m0");
    // This one cannot know that there was somebody.
    world.start(0, Manner::GOOD);
    let deleted = Instant::now();
    let again = async {
        while !world.server.names().contains(&"group-m0".to_owned()) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(again).await;
    assert!(deleted.elapsed() <= TIMING.retry_period);
    stays_disjoint(&world, SECOND).await;
    sleep(4 * TIMING.retry_period).await;
    assert_eq!((world.check_now(), covered(&world.owned())), (Ok(()), Ok(())));
    assert!(world.shares().iter().all(|share| *share > 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_long_on_its_way_says_nothing_of_now() {
    let mut world = World::new();
    world.start(0, Manner::DEAF);
    sleep(5 * SECOND / 2).await;
    world.start(0, Manner::GOOD);
    // The first yields to the second, which waits for the end of the work and looks often. Then the first renews in the last
    // moment: one renewal is refused, one takes as long as it may, and the third is long on its way.
    let renewed = next_write(&world, "group-m0").await;
    let late = Fault {
        there: 2 * SECOND / 5,
        ..Fault::default()
    };
    world
        .server
        .fail(0, [fate(Fate::Refused), fate(Fate::Lost), late]);
    sleep(TIMING.renew_deadline + SECOND / 2).await;
    let late_answers = Fault {
        back: SECOND,
        ..Fault::default()
    };
    world.server.usually(1, late_answers);
    sleep(SECOND).await;
    let status = world.members[0].shards.status();
    assert!(status.is_member && !status.yielding.is_empty() && renewed.elapsed() > TIMING.lease_duration);
    stays_exclusive(&world, 3 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_with_one_name_one_is_a_member() {
    let mut world = World::of(1, Manner::GOOD).await;
    world.start_as("m0", 0, Manner::GOOD);
    sleep(5 * TIMING.lease_duration).await;
    assert_eq!(world.shares(), [PARTITIONS, 0]);
    world.members[0].process.kill();
    sleep(2 * TIMING.lease_duration).await;
    assert_eq!(world.owned()[1], Partitions::ALL);
}

#[tokio::test(start_paused = true)]
async fn claims_that_cannot_be_read_are_claims_to_all() {
    let mut world = World::of(1, Manner::GOOD).await;
    world.members[0].process.kill();
    world.server.edit("group-m0", |lease| {
        lease["metadata"]["annotations"][CLAIMS] = "0-127".into()
    });
    world.start(0, Manner::GOOD);
    sleep(TIMING.lease_duration - SECOND / 2).await;
    let status = world.members[1].shards.status();
    assert!(status.owned.is_empty() && !status.claimed.is_empty());
    sleep(2 * SECOND).await;
    assert_eq!(world.owned()[1], Partitions::ALL);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_refused_are_not_repeated_without_a_pause() {
    let mut world = World::new();
    // It joins and looks; then it may read and not write.
    world.server.fail(0, [Fault::default(); 3]);
    world.server.fail(0, [fate(Fate::Code(403)); 30]);
    world.start(0, Manner::GOOD);
    let seconds = 3;
    for _ in 0..seconds {
        sleep(SECOND).await;
        assert_eq!(world.shares(), [0], "nobody has been told that it wants anything");
    }
    let puts = world
        .server
        .requests()
        .iter()
        .filter(|(_, verb)| *verb == Method::PUT)
        .count();
    assert!((seconds..=seconds + 1).contains(&puts), "{puts}");
}

#[tokio::test(start_paused = true)]
async fn gains_are_told_to_whoever_asks_and_so_is_the_end() {
    let mut world = World::of(1, Manner::GOOD).await;
    let shards = world.members[0].shards.clone();
    let (mut early, mut late) = (shards.gains(), shards.gains());
    assert_eq!(soon(early.next()).await, Some(Partitions::ALL));
    world.start(0, Manner::GOOD);
    sleep(4 * TIMING.retry_period).await;
    let left = shards.owned();
    world.members[1].stop.cancel();
    assert_eq!(
        soon(early.next()).await,
        Some(Partitions::ALL - left),
        "what came back"
    );
    assert_eq!(soon(late.next()).await, Some(Partitions::ALL), "all at once");
    world.members[0].stop.cancel();
    for _ in 0..2 {
        assert_eq!((soon(early.next()).await, soon(late.next()).await), (None, None));
    }
    assert_eq!(soon(shards.gains().next()).await, None);
    let unborn = Member::new(world.server.client(9), config("unborn")).expect("valid");
    let mut gains = unborn.shards().gains();
    drop(unborn);
    assert_eq!(soon(gains.next()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_does_nothing_when_it_goes_on() {
    let world = World::of(2, Manner::DEAF).await;
    let of_paused = WORKED_ON
        .into_iter()
        .filter(|partition| world.owned()[0].contains(*partition));
    let of_paused: Vec<u8> = of_paused.collect();
    assert!(!of_paused.is_empty());
    let paused = &world.members[0];
    paused.process.pause();
    sleep(TIMING.lease_duration).await;
    assert_eq!(paused.shards.health(SECOND), Ok(()));
    sleep(3 * SECOND).await;
    let hangs = paused.shards.health(SECOND).expect_err("it hangs").to_string();
    assert!(hangs.contains("the lease lasts for 4s"), "{hangs}");
    assert!(!paused.shards.owns(hash_in(of_paused[0])));
    assert_eq!(world.owned()[1], Partitions::ALL);
    let resumed = Instant::now();
    paused.process.resume();
    sleep(SECOND / 2).await;
    for partition in of_paused {
        let last = world.last_on(partition);
        assert!(last.is_some_and(|(who, at)| who == 1 && at >= resumed));
    }
    assert_eq!(paused.shards.health(SECOND), Ok(()));
    assert_eq!(world.check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_lets_work_in_hand_end_while_the_lease_lasts() {
    let mut world = World::new();
    let member = Member::new(world.server.client(0), config("m0")).expect("valid");
    let shards = member.shards();
    let running = tokio::spawn(member.run(CancellationToken::new()));
    sleep(MOMENT).await;
    let held = shards.hold(hash_in(9)).expect("it owns all");
    running.abort();
    sleep(MOMENT).await;
    assert!(held.stop().is_cancelled() && held.is_valid() && shards.hold(hash_in(9)).is_none());
    assert_eq!(held.run(sleep(SECOND)).await, Some(()));
    assert_eq!(held.run(sleep(TIMING.lease_duration)).await, None);
    world.start(0, Manner::GOOD);
    sleep(TIMING.lease_duration + 2 * SECOND).await;
    assert_eq!(world.shares(), [PARTITIONS]);
    assert_eq!(shards.health(SECOND), Ok(()), "it has ended");
}

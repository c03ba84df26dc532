//! What an election does, one case at a time.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::clauses::{Event, always, live};
use super::world::{GRACE, LEASE, Manner, TICK, World};
use crate::leader::{ElectionConfig, Elector, Leadership};
use crate::tests::{Fate, Fault, LeaseServer, TIMING};

const SECOND: Duration = Duration::from_secs(1);

fn fate(fate: Fate) -> Fault {
    Fault {
        fate,
        ..Fault::default()
    }
}

fn late(there: Duration, back: Duration) -> Fault {
    Fault {
        there,
        back,
        ..Fault::default()
    }
}

/// A world whose first candidate leads.
async fn led_by(manner: Manner) -> World {
    let mut world = World::new();
    world.start(0, manner);
    sleep(TICK).await;
    assert_eq!(world.leader(), Some(0));
    world
}

/// When the candidate's work did this for the first time.
fn when(world: &World, what: impl Fn(&Event) -> bool) -> Option<Instant> {
    world
        .history()
        .iter()
        .find(|(_, event)| what(event))
        .map(|(at, _)| *at)
}

fn ends(of: usize) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::End { who, .. } if *who == of)
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_released_when_the_work_has_ended() {
    let slow = Manner {
        lingers: 6 * SECOND,
        ..Manner::GOOD
    };
    let mut world = led_by(slow).await;
    world.start(3_600, Manner::GOOD);
    sleep(SECOND).await;
    let stopped = Instant::now();
    world.candidates[0].stop.cancel();
    sleep(6 * SECOND + TICK).await;
    assert_eq!(
        world.told_of(0),
        ["begin", "end", "released", "gone"],
        "longer than the lease lasts"
    );
    assert_eq!(when(&world, ends(0)), Some(stopped + 6 * SECOND));
    let spec = world
        .server
        .lease(LEASE)
        .and_then(|lease| lease.spec)
        .expect("a record");
    assert_eq!(
        (spec.holder_identity, spec.lease_duration_seconds),
        (None, Some(1))
    );
    assert_eq!(spec.lease_transitions, Some(0), "it counts those who hold it");
    sleep(TIMING.retry_period.mul_f64(2.2)).await;
    assert_eq!(world.leader(), Some(1));
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_dropped_after_the_grace() {
    let mut world = led_by(Manner::DEAF).await;
    world.start(0, Manner::GOOD);
    let stopped = Instant::now();
    world.candidates[0].stop.cancel();
    sleep(GRACE + TICK).await;
    assert_eq!(when(&world, ends(0)), Some(stopped + GRACE));
    assert_eq!(world.told_of(0), ["begin", "end", "released", "gone"]);
    assert!(world.told_of(1).is_empty(), "the lease was renewed until then");
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_has_its_work_end_and_campaigns_again() {
    for (manner, lasts) in [
        (Manner::GOOD, TIMING.renew_deadline),
        (
            Manner {
                lingers: SECOND / 2,
                ..Manner::GOOD
            },
            TIMING.renew_deadline + SECOND / 2,
        ),
        (Manner::DEAF, TIMING.validity()),
    ] {
        let mut world = led_by(manner).await;
        world.start(0, Manner::GOOD);
        sleep(5 * SECOND).await;
        let renewed = world.server.requests().len();
        world.server.usually(0, fate(Fate::Refused));
        // The last renewal was half a tick before a whole second.
        let last = when(&world, |event| matches!(event, Event::Begin { .. })).expect("it leads") + 5 * SECOND;
        sleep(2 * TIMING.lease_duration + TIMING.retry_period.mul_f64(2.2)).await;
        assert!(world.server.requests().len() > renewed, "it goes on trying");
        assert_eq!(when(&world, ends(0)), Some(last + lasts), "{manner:?}");
        assert_eq!(world.leader(), Some(1));
        assert!(
            world.candidates[0]
                .status
                .snapshot()
                .trouble
                .is_some_and(|trouble| trouble.contains("refused"))
        );

        world.server.heal();
        world.candidates[1].process.kill();
        sleep(TIMING.lease_duration + TIMING.retry_period.mul_f64(4.4)).await;
        assert_eq!(world.leader(), Some(0), "the process was not lost");
        assert_eq!(world.candidates[0].status.snapshot().trouble, None);
        world.checked(always);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_does_not_bring_leadership_back() {
    let mut world = led_by(Manner::DEAF).await;
    world.start(0, Manner::GOOD);
    sleep(SECOND / 2).await;
    // The renewal is done just before the lease runs out. Nobody else has it, so it is acquired anew.
    world
        .server
        .fail(0, [late(Duration::ZERO, 2 * TIMING.lease_duration)]);
    world
        .server
        .fail(0, [late(Duration::ZERO, 2 * TIMING.lease_duration); 8]);
    sleep(2 * TIMING.lease_duration).await;
    assert!(when(&world, ends(0)).is_some());
    sleep(3 * TIMING.lease_duration).await;
    assert!(world.leader().is_some());
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_by_itself_ends_the_run_with_its_value() {
    let server = LeaseServer::new();
    let mut elector = Elector::new(server.client(0), ElectionConfig::new(LEASE)).expect("valid");
    let status = elector.status();
    let stop = CancellationToken::new();
    let value = elector
        .run(stop.clone(), |leadership| async move { (leadership, 7) })
        .await;
    let (leadership, value): (Leadership, i32) = value.expect("it led");
    assert_eq!((value, leadership.fencing_token()), (7, 0));
    assert!(leadership.stop().is_cancelled() && !leadership.is_valid() && leadership.valid_until().is_none());
    assert!(!status.snapshot().is_leader);
    assert_eq!(status.snapshot().holder, None, "it was released");

    let again = elector
        .run(
            stop.clone(),
            |leadership| async move { leadership.fencing_token() },
        )
        .await;
    assert_eq!(again, Some(1), "an elector can run again");
    stop.cancel();
    let requests = server.requests().len();
    assert_eq!(elector.run(stop, |_| async {}).await, None);
    assert_eq!(
        server.requests().len(),
        requests,
        "nothing is asked after the stop"
    );
}

#[tokio::test(start_paused = true)]
async fn renewals_keep_what_others_have_written_and_change_the_record() {
    let world = led_by(Manner::GOOD).await;
    world.server.edit(LEASE, |lease| {
        lease["metadata"]["labels"] = serde_json::json!({"team": "a"})
    });
    let before = world.server.lease(LEASE).expect("it is there");
    sleep(5 * SECOND).await;
    let after = world.server.lease(LEASE).expect("it is there");
    assert_eq!(after.metadata.labels, before.metadata.labels);
    let (before, after) = (before.spec.expect("a record"), after.spec.expect("a record"));
    assert!(after.renew_time > before.renew_time);
    let renewed = k8s_openapi::api::coordination::v1::LeaseSpec {
        renew_time: after.renew_time.clone(),
        ..before
    };
    assert_eq!(after, renewed, "all else is as it was acquired");
    assert_eq!(world.candidates[0].status.snapshot().slow_renewals, 1);
    let gets = world
        .server
        .requests()
        .iter()
        .filter(|(_, verb)| *verb == Method::GET)
        .count();
    assert_eq!(gets, 2, "to acquire it, and after the conflict");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_does_not_look_like_a_dead_holder() {
    let server = LeaseServer::new();
    let standing = crate::lease::WallClock::new(|| jiff::Timestamp::UNIX_EPOCH);
    let elector = Elector::new(server.client(0), ElectionConfig::new(LEASE)).expect("valid");
    let mut elector = elector.with_clock(standing);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move {
            elector
                .run(
                    stop,
                    |leadership| async move { leadership.stop().cancelled().await },
                )
                .await
        }
    });
    sleep(SECOND).await;
    let mut records = Vec::new();
    for _ in 0..3 {
        records.push(
            server
                .lease(LEASE)
                .and_then(|lease| lease.spec)
                .expect("a record"),
        );
        sleep(2 * SECOND).await;
    }
    assert!(records[0] != records[1] && records[1] != records[2]);
    stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_somebody_else_is_made_the_holder() {
    for holder in [serde_json::json!("somebody"), serde_json::Value::Null] {
        let world = led_by(Manner::DEAF).await;
        let edited = Instant::now();
        world
            .server
            .edit(LEASE, |lease| lease["spec"]["holderIdentity"] = holder.clone());
        sleep(TIMING.retry_period).await;
        let ended = when(&world, ends(0)).expect("it ends");
        assert!(ended <= edited + TIMING.retry_period, "at the next renewal");
        sleep(TIMING.lease_duration + TIMING.retry_period.mul_f64(4.4)).await;
        assert_eq!(world.leader(), Some(0), "it campaigns as anybody does");
        world.checked(always);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_stays_its_holders() {
    let mut world = led_by(Manner::GOOD).await;
    world.start(0, Manner::GOOD);
    world.start(0, Manner::GOOD);
    sleep(3 * SECOND).await;
    world.server.delete(LEASE);
    sleep(3 * TIMING.lease_duration).await;
    assert_eq!(world.told_of(0), ["begin"], "it has made the Lease anew");
    world.candidates[0].process.kill();
    world.server.delete(LEASE);
    let died = Instant::now();
    sleep(2 * TIMING.lease_duration).await;
    let next = when(&world, |event| matches!(event, Event::Begin { token: 1, .. })).expect("tokens go on");
    assert!(
        next >= died + TIMING.lease_duration - TIMING.retry_period.mul_f64(2.2),
        "not before it had run out"
    );
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn of_two_with_one_name_one_leads() {
    let mut world = World::new();
    world.start_as("same", 0, Manner::GOOD);
    world.start_as("same", 0, Manner::GOOD);
    sleep(10 * TIMING.lease_duration).await;
    let begun = [world.told_of(0), world.told_of(1)].concat();
    assert_eq!(begun, ["begin"]);
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn whoever_acquired_the_lease_without_being_told_leads_soon() {
    for lost in [Fate::Broken, Fate::Mute] {
        let mut world = World::new();
        world.server.fail(0, [Fault::default(), fate(lost)]);
        world.start(0, Manner::GOOD);
        sleep(TIMING.request_timeout() + TIMING.retry_period.mul_f64(2.2)).await;
        assert_eq!(world.leader(), Some(0), "{lost:?}: it knows its own record");
        assert_eq!(world.history()[0].1, Event::Begin { who: 0, token: 1 });
        world.checked(always);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_lease_is_acquired_releases_it() {
    for slow in [
        late(SECOND, Duration::ZERO),
        late(Duration::ZERO, SECOND),
        fate(Fate::Mute),
    ] {
        let mut world = World::new();
        world.server.fail(0, [Fault::default(), slow]);
        world.start(0, Manner::GOOD);
        sleep(SECOND / 2).await;
        world.candidates[0].stop.cancel();
        sleep(2 * SECOND).await;
        assert_eq!(world.told_of(0), ["released", "gone"], "{slow:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_server_is_over_when_the_lease_is() {
    let world = led_by(Manner::GOOD).await;
    world.server.usually(0, fate(Fate::Lost));
    sleep(SECOND / 2).await;
    world.candidates[0].stop.cancel();
    sleep(TIMING.renew_deadline + TICK).await;
    assert!(!world.candidates[0].process.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_does_nothing_when_it_goes_on() {
    let mut world = led_by(Manner::DEAF).await;
    world.start(0, Manner::GOOD);
    sleep(SECOND).await;
    world.candidates[0].process.pause();
    let mut status = world.candidates[0].status.clone();
    sleep(TIMING.lease_duration).await;
    assert_eq!(status.health(SECOND), Ok(()));
    sleep(2 * SECOND).await;
    let hangs = status.health(SECOND).expect_err("it hangs").to_string();
    assert!(hangs.contains("the lease lasts for 4s"), "{hangs}");
    assert_eq!(world.leader(), Some(1));

    let resumed = Instant::now();
    world.candidates[0].process.resume();
    sleep(SECOND).await;
    let acts = |(at, event): &(Instant, Event)| *at >= resumed && matches!(event, Event::Act { who: 0, .. });
    assert!(!world.history().iter().any(acts));
    assert!(status.changed().await && !status.snapshot().is_leader);
    assert_eq!(status.health(SECOND), Ok(()), "whoever does not lead is healthy");
    world.checked(always);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_who_leads() {
    let mut world = led_by(Manner::GOOD).await;
    world.start(0, Manner::GOOD);
    sleep(SECOND).await;
    let [one, other] = [0, 1].map(|who: usize| world.candidates[who].status.snapshot());
    assert!(one.is_leader && !other.is_leader);
    for status in [one, other] {
        assert_eq!(status.holder.as_deref(), Some("candidate-0"));
        assert_eq!(
            (status.transitions, status.slow_renewals, status.trouble),
            (0, 0, None)
        );
        assert!(status.since.is_some());
    }
    world.candidates[0].process.kill();
    sleep(2 * TIMING.lease_duration).await;
    let status = world.candidates[1].status.snapshot();
    assert!(status.is_leader && status.transitions == 1);
    let mut of_dead = world.candidates[0].status.clone();
    assert!(
        !of_dead.snapshot().is_leader,
        "a run that was dropped does not lead"
    );
    while of_dead.changed().await {}
}

#[tokio::test(start_paused = true)]
async fn others_look_again_when_the_lease_runs_out() {
    let mut world = led_by(Manner::GOOD).await;
    world.start(0, Manner::GOOD);
    sleep(SECOND).await;
    world.candidates[0].process.kill();
    let died = Instant::now();
    sleep(2 * TIMING.lease_duration).await;
    world.checked(|history| {
        live(
            history,
            died + TICK,
            TIMING.lease_duration + TIMING.retry_period.mul_f64(2.2),
        )
    });
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_told() {
    let server = LeaseServer::new();
    let config = ElectionConfig {
        namespace: Some("missing".to_owned()),
        ..ElectionConfig::new(LEASE)
    };
    let mut elector = Elector::new(server.client(0), config).expect("valid");
    let mut status = elector.status();
    let stop = CancellationToken::new();
    let campaign = elector.run(stop.clone(), |_| std::future::pending::<()>());
    let look = async {
        assert!(status.changed().await);
        let trouble = status.snapshot().trouble.unwrap_or_default();
        assert!(trouble.contains("namespaces/missing"), "{trouble:?}");
        stop.cancel();
    };
    assert_eq!(tokio::join!(campaign, look).0, None);
}

//! The state of a member's partitions, without a server.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::GRACE;
use crate::lease::Validity;
use crate::sharding::partitions::Partitions;
use crate::sharding::state::State;
use crate::tests::TIMING;

fn joined() -> State {
    let mut state = State::new(TIMING, GRACE);
    state.join(Validity::new(Instant::now(), TIMING.validity()));
    state
}

fn publish(state: &mut State) {
    let claims = state.publishing();
    state.publish(claims);
}

/// A member that owns these.
fn owning(partitions: Partitions) -> State {
    let mut state = joined();
    state.plan(partitions, Instant::now());
    publish(&mut state);
    assert_eq!(state.confirm(Partitions::NONE), partitions);
    state
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_that_others_were_not_told_of() {
    let [one, other] = [1, 2].map(|partition: u8| Partitions::from_iter([partition]));
    let mut state = State::new(TIMING, GRACE);
    state.plan(one, Instant::now());
    assert!(
        !state.is_waiting() && state.confirm(Partitions::NONE).is_empty(),
        "it is no member"
    );

    let mut state = joined();
    state.plan(one, Instant::now());
    assert_eq!(
        state.confirm(Partitions::NONE),
        Partitions::NONE,
        "it has not said so"
    );
    state.publishing();
    assert_eq!(
        state.confirm(Partitions::NONE),
        Partitions::NONE,
        "it may not have said so"
    );
    publish(&mut state);
    assert_eq!(state.confirm(one), Partitions::NONE, "somebody else has it");
    state.plan(one | other, Instant::now());
    assert_eq!(
        state.confirm(Partitions::NONE),
        one,
        "of the other nobody has been told"
    );
    assert!(state.is_unpublished() && state.is_waiting());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_let_go_is_claimed_again_first() {
    let (both, kept) = (Partitions::from_iter([1, 2]), Partitions::from_iter([1]));
    let mut state = owning(both);
    state.plan(kept, Instant::now());
    assert_eq!(
        (state.owned(), state.claims()),
        (kept, kept),
        "nothing is in hand of it"
    );
    state.plan(both, Instant::now());
    assert_eq!(
        state.confirm(Partitions::NONE),
        both - kept,
        "others have been told all the time"
    );

    state.plan(kept, Instant::now());
    state.publishing(); // of which nothing is heard
    state.plan(both, Instant::now());
    assert_eq!(state.confirm(Partitions::NONE), Partitions::NONE);
    publish(&mut state);
    assert_eq!(state.confirm(Partitions::NONE), both - kept);
}

#[tokio::test(start_paused = true)]
async fn a_partition_yields_until_all_its_holds_are_gone() {
    let (all, one) = (Partitions::from_iter([1, 2]), Partitions::from_iter([1]));
    let mut state = owning(all);
    let now = Instant::now();
    assert!(state.hold(3, now).is_none());
    let [first, second] = [(), ()].map(|()| state.hold(1, now).expect("it is owned"));
    assert!(!state.let_go(first.tenure, 1), "nobody waits for it");
    let first = state.hold(1, now).expect("it is owned");
    state.plan(Partitions::NONE, now);
    assert_eq!((state.owned(), state.yielding()), (Partitions::NONE, one));
    assert!(first.stop.is_cancelled() && second.stop.is_cancelled() && !first.cut.is_cancelled());
    state.plan(all, now);
    assert_eq!(state.claims(), all);
    assert!(
        state.hold(1, now).is_none(),
        "it goes, even if it is to come back"
    );
    assert!(!state.let_go(first.tenure, 1));
    sleep(GRACE / 2).await;
    assert!(!second.cut.is_cancelled());
    assert!(state.let_go(second.tenure, 1));
    assert_eq!(state.yielding(), Partitions::NONE);
    assert!(!state.let_go(second.tenure, 1), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn time_suspends_and_ends() {
    let mut state = owning(Partitions::ALL);
    let validity = state.validity().cloned().expect("it is a member");
    let start = Instant::now();
    let next = |state: &mut State| state.tick(Instant::now()).map(|next| next - start);
    assert_eq!(next(&mut state), Some(TIMING.renew_deadline));
    let held = state.hold(0, start).expect("it is owned");
    let second = Duration::from_secs(1);
    sleep(second).await;
    assert!(validity.renew(Instant::now()));
    assert_eq!(next(&mut state), Some(second + TIMING.renew_deadline));
    sleep(TIMING.renew_deadline).await;
    assert!(!state.owns(0, Instant::now()), "whether or not it has been told");
    assert_eq!(next(&mut state), Some(second + TIMING.validity()));
    assert!(held.stop.is_cancelled() && state.hold(0, Instant::now()).is_none());
    assert_eq!(state.gained_after(0).0, Partitions::NONE);
    sleep(TIMING.validity() - TIMING.renew_deadline).await;
    assert_eq!(next(&mut state), None);
    assert!(held.cut.is_cancelled() && state.claims().is_empty() && state.validity().is_none());
    assert!(!state.let_go(held.tenure, 0), "it is of another time");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_cut() {
    let mut state = owning(Partitions::ALL);
    let start = Instant::now();
    let held = state.hold(0, start).expect("it is owned");
    let other = state.hold(1, start).expect("it is owned");
    state.plan(Partitions::ALL - Partitions::from_iter([0]), start);
    while start.elapsed() < GRACE {
        assert!(!held.cut.is_cancelled());
        let renewed = state
            .validity()
            .is_some_and(|validity| validity.renew(Instant::now()));
        let next = state.tick(Instant::now()).expect("something is due");
        assert!(renewed && next <= start + GRACE);
        sleep((next - Instant::now()).min(TIMING.retry_period)).await;
    }
    state.tick(Instant::now());
    assert!(held.cut.is_cancelled() && !other.stop.is_cancelled());
}

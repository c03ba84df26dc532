//! What a record calls for, and when a lease is over.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::{Instant, sleep};

use super::judge::{Verdict, judge};
use super::{IfDeleted, Observed, Owner, Timing, Validity};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_record_is_taken_when_it_was_not_renewed_for_as_long_as_it_lasts() {
    let seen_at = Instant::now();
    let owner = Owner {
        name: "lease".into(),
        timing: Timing::default(),
        if_deleted: IfDeleted::Lose,
        identity: "me".into(),
    };
    let mine = MicroTime(jiff::Timestamp::from_second(7).expect("in range"));
    let record = |holder: &str, seconds: Option<i32>, transitions: Option<i32>| LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: seconds,
        lease_transitions: transitions,
        // A time long ago says nothing, nor does one in the future.
        renew_time: Some(MicroTime(jiff::Timestamp::MIN)),
        ..LeaseSpec::default()
    };
    let own = LeaseSpec {
        acquire_time: Some(mine.clone()),
        ..record("me", Some(15), Some(3))
    };
    let of_namesake = LeaseSpec {
        acquire_time: Some(MicroTime(jiff::Timestamp::UNIX_EPOCH)),
        ..own.clone()
    };
    let free = LeaseSpec {
        holder_identity: None,
        ..record("", Some(1), Some(3))
    };
    let wait = |seconds| Verdict::Wait(seen_at + Duration::from_secs(seconds));
    let cases = [
        ("none was ever seen", None, 0, Verdict::Take(0)),
        (
            "it is in force",
            Some(record("you", Some(15), Some(3))),
            14,
            wait(15),
        ),
        (
            "it has run out",
            Some(record("you", Some(15), Some(3))),
            15,
            Verdict::Take(4),
        ),
        (
            "it is in force for what it says",
            Some(record("you", Some(60), Some(3))),
            59,
            wait(60),
        ),
        (
            "it does not say for how long",
            Some(record("you", None, None)),
            0,
            wait(15),
        ),
        (
            "it says nonsense",
            Some(record("you", Some(-1), Some(-5))),
            0,
            wait(15),
        ),
        (
            "it has run out without a count",
            Some(record("you", None, None)),
            15,
            Verdict::Take(1),
        ),
        ("it was released", Some(free), 0, Verdict::Take(4)),
        (
            "it was released by an old client",
            Some(record("", Some(1), Some(3))),
            0,
            Verdict::Take(4),
        ),
        ("it is our own", Some(own), 0, Verdict::Take(4)),
        ("it is a namesake's", Some(of_namesake), 0, wait(15)),
        (
            "the count is at its end",
            Some(record("", Some(1), Some(i32::MAX))),
            0,
            Verdict::Take(i32::MAX),
        ),
    ];
    for (case, spec, passed, expected) in cases {
        let seen = spec.map(|spec| Observed {
            spec,
            changed: seen_at,
        });
        let verdict = judge(
            seen.as_ref(),
            &[&mine],
            &owner,
            seen_at + Duration::from_secs(passed),
        );
        assert_eq!(verdict, expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_stays_over() {
    let validity = Validity::new(Instant::now(), 4 * SECOND);
    sleep(3 * SECOND).await;
    let sent = Instant::now();
    assert!(validity.renew(sent - SECOND / 2), "its answer comes in time");
    sleep(3 * SECOND + SECOND / 4).await;
    assert!(validity.is_valid());
    sleep(SECOND / 2).await;
    assert!(!validity.is_valid());
    assert!(
        !validity.renew(Instant::now() - SECOND),
        "its answer comes too late"
    );
    assert!(!validity.renew(Instant::now()) && validity.until().is_none());
}

#[tokio::test(start_paused = true)]
async fn work_is_guarded_until_the_last_renewal_runs_out() {
    let validity = Validity::new(Instant::now(), 4 * SECOND);
    let renewals = async {
        for _ in 0..5 {
            sleep(3 * SECOND).await;
            assert!(validity.renew(Instant::now()));
        }
    };
    let start = Instant::now();
    let steps = std::cell::Cell::new(0);
    let work = async {
        loop {
            steps.set(steps.get() + 1);
            sleep(SECOND).await;
        }
    };
    let (done, ()) = tokio::join!(validity.guard(work), renewals);
    let done: Option<()> = done;
    assert_eq!((done, start.elapsed(), steps.get()), (None, 19 * SECOND, 19));
    assert_eq!(
        validity.guard(async { 1 }).await,
        None,
        "not a step is done afterwards"
    );
}

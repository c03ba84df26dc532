//! Exact delays of the limiters, and what they refuse.

use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::{Backoff, Bucket, Exponential, FastSlow, Jittered, MaxOf, MaxWait};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn delays_after_failures() {
    let fast_slow = || FastSlow::new(ms(5), ms(1000), 3).expect("valid");
    let max_of = MaxOf::new(vec![Box::new(fast_slow()), Box::<Exponential>::default()]).expect("valid");
    type Case = (&'static str, Box<dyn Backoff>, &'static [(u32, u64)]);
    let cases: [Case; 4] = [
        (
            "exponential",
            Box::<Exponential>::default(),
            &[
                (1, 5),
                (2, 10),
                (3, 20),
                (18, 655_360),
                (19, 1_000_000),
                (64, 1_000_000),
                (u32::MAX, 1_000_000),
            ],
        ),
        (
            "fast, then slow",
            Box::new(fast_slow()),
            &[(1, 5), (3, 5), (4, 1000)],
        ),
        (
            "the longest",
            Box::new(max_of),
            &[(1, 5), (3, 20), (4, 1000), (10, 2560)],
        ),
        (
            "cut off",
            Box::new(MaxWait::new(Exponential::default(), ms(15))),
            &[(2, 10), (3, 15)],
        ),
    ];
    let now = Instant::now();
    for (name, mut limiter, delays) in cases {
        for (failures, delay) in delays {
            assert_eq!(
                limiter.delay(*failures, now),
                ms(*delay),
                "{name}, {failures} failures"
            );
        }
    }
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let mut bucket = Bucket::new(10.0, 3).expect("valid");
    let now = Instant::now();
    let delays: Vec<_> = (0..5).map(|_| bucket.delay(1, now)).collect();
    assert_eq!(delays, [ms(0), ms(0), ms(0), ms(100), ms(200)]);
    assert_eq!(bucket.delay(1, now + ms(1000)), ms(0), "it has filled up again");
}

#[test]
fn jitter_only_adds_and_at_most_its_part() {
    let mut limiter = Jittered::new(Exponential::default(), 0.5).expect("valid");
    for _ in 0..100 {
        let delay = limiter.delay(3, Instant::now());
        assert!(delay >= ms(20) && delay <= ms(30), "{delay:?}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let cases = [
        (
            Exponential::new(ms(0), ms(1)).map(drop),
            "base must be more than zero, not 0ns",
        ),
        (
            Exponential::new(ms(2), ms(1)).map(drop),
            "cap must be at least the base, not 1ms",
        ),
        (
            FastSlow::new(ms(2), ms(1), 1).map(drop),
            "slow must be at least the fast delay, not 1ms",
        ),
        (
            Bucket::new(0.0, 1).map(drop),
            "rate must be a positive number, not 0.0",
        ),
        (
            Bucket::new(-1.0, 1).map(drop),
            "rate must be a positive number, not -1.0",
        ),
        (
            Bucket::new(f64::NAN, 1).map(drop),
            "rate must be a positive number, not NaN",
        ),
        (
            Bucket::new(1.0, 0).map(drop),
            "burst must be more than zero, not 0",
        ),
        (
            MaxOf::new(Vec::new()).map(drop),
            "limiters must be at least one, not 0",
        ),
        (
            Jittered::new(Exponential::default(), f64::NAN).map(drop),
            "fraction must be from 0 to 1, not NaN",
        ),
    ];
    for (built, message) in cases {
        assert_eq!(built.expect_err(message).to_string(), message);
    }
}

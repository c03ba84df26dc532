//! What client-go's and controller-runtime's queues do, one by one, and where this queue does better.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, advance};

use crate::{Add, Bucket, Exponential, MaxOf, Phase, Reasons, Refused, Shutdown, Work, WorkQueue};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn queue() -> WorkQueue<&'static str> {
    WorkQueue::builder().build().expect("the defaults work")
}

/// What is ready now, if anything.
fn now(queue: &WorkQueue<&'static str>) -> Option<Work<&'static str>> {
    queue.get().now_or_never().flatten()
}

/// Takes and finishes all that is ready.
fn all_ready(queue: &WorkQueue<&'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| {
        let work = now(queue)?;
        let key = *work.key();
        work.done();
        Some(key)
    })
    .collect()
}

fn add(queue: &WorkQueue<&'static str>, key: &'static str, add: Add) {
    queue.add_with(key, add).expect("open");
}

fn phase(queue: &WorkQueue<&'static str>, key: &str) -> Option<Phase> {
    let mut all = queue.snapshot().into_iter();
    all.find(|shown| shown.key == key).map(|shown| shown.phase)
}

// === client-go: queue.go ===

#[tokio::test(start_paused = true)]
async fn an_add_of_a_key_that_is_queued_is_dropped() {
    let queue = queue();
    for key in ["a", "b", "a", "a"] {
        add(&queue, key, Add::now());
    }
    assert_eq!((queue.len(), queue.metrics().adds), (2, 2));
    assert_eq!(all_ready(&queue), ["a", "b"]);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_added_in_hand_goes_to_the_end_when_it_is_done() {
    let queue = queue();
    add(&queue, "a", Add::now());
    add(&queue, "b", Add::now());
    let work = now(&queue).expect("ready");
    add(&queue, "a", Add::now());
    add(&queue, "a", Add::now());
    add(&queue, "c", Add::now());
    work.done();
    assert_eq!(all_ready(&queue), ["b", "c", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_in_hand_is_worked_on_while_the_queue_drains() {
    let queue = queue();
    add(&queue, "a", Add::now());
    let work = now(&queue).expect("ready");
    add(&queue, "a", Add::now());
    let drained = tokio::spawn(queue.shut_down(Shutdown::Drain));
    work.done();
    now(&queue).expect("its second turn").done();
    assert_eq!(drained.await.expect("no panic"), []);
    assert!(queue.get().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn draining_ends_early_when_somebody_loses_patience() {
    let queue = queue();
    add(&queue, "a", Add::now());
    let work = now(&queue).expect("ready");
    let drained = tokio::spawn(queue.shut_down(Shutdown::Drain));
    tokio::task::yield_now().await;
    assert!(!drained.is_finished(), "a key is in hand");
    let left = queue.shut_down(Shutdown::Now).await;
    let mut all: Vec<_> = drained.await.expect("no panic");
    all.extend(left);
    assert_eq!(
        all.iter().map(|left| left.phase).collect::<Vec<_>>(),
        [Phase::InHand]
    );
    work.retry(); // too late for anything, and harmless
    assert!(queue.get().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn waiting_consumers_are_let_go_by_any_shutdown() {
    for how in [Shutdown::Now, Shutdown::Drain, Shutdown::DrainWithin(ms(1))] {
        let queue = queue();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.get().await.is_none() })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.shut_down(how).await;
        for consumer in waiting {
            assert!(consumer.await.expect("no panic"), "{how:?}");
        }
    }
}

// === client-go: delaying_queue.go ===

#[tokio::test(start_paused = true)]
async fn of_two_delays_the_earlier_counts() {
    for (first, second) in [(50, 20), (20, 50)] {
        let queue = queue();
        queue.add_after("a", ms(first)).expect("open");
        queue.add_after("a", ms(second)).expect("open");
        advance(ms(19)).await;
        assert!(now(&queue).is_none());
        advance(ms(1)).await;
        now(&queue).expect("due").done();
        advance(ms(100)).await;
        assert!(now(&queue).is_none(), "one turn for both");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_nothing_is_an_add_and_one_beyond_all_time_is_kept() {
    let queue = queue();
    queue.add_after("now", Duration::ZERO).expect("open");
    queue.add_after("never", Duration::MAX).expect("open");
    assert_eq!(all_ready(&queue), ["now"]);
    advance(Duration::from_secs(86_400 * 365)).await;
    assert!(now(&queue).is_none());
    assert_eq!(queue.metrics().retries, 2, "as client-go counts delayed adds");
    let left = queue.shut_down(Shutdown::Drain).await;
    assert_eq!((left[0].key, left[0].phase), ("never", Phase::Delayed));
}

#[tokio::test(start_paused = true)]
async fn keys_that_ripen_come_in_the_order_of_their_times() {
    let queue = queue();
    for (key, delay) in [("c", 30), ("a", 10), ("b", 20), ("b2", 20)] {
        queue.add_after(key, ms(delay)).expect("open");
    }
    advance(ms(25)).await;
    add(&queue, "late", Add::now());
    advance(ms(25)).await;
    assert_eq!(all_ready(&queue), ["a", "b", "b2", "late", "c"]);
}

// === client-go: rate_limiting_queue.go, default_rate_limiters.go ===

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_each_time_until_one_turn_ends_well() {
    let queue = queue();
    let mut start = Instant::now();
    queue.add_rate_limited("a").expect("open"); // the first failure, seen elsewhere
    for expected in [5, 10, 20, 40] {
        let work = queue.get().await.expect("open");
        assert_eq!(Instant::now() - start, ms(expected));
        start = Instant::now();
        work.retry();
    }
    queue.get().await.expect("open").done();
    start = Instant::now();
    queue.add_rate_limited("a").expect("open");
    queue.get().await.expect("open").done();
    assert_eq!(Instant::now() - start, ms(5));
}

#[tokio::test(start_paused = true)]
async fn forgetting_in_hand_starts_the_backoff_anew() {
    let queue = queue();
    add(&queue, "a", Add::now());
    for _ in 0..5 {
        queue.get().await.expect("open").retry();
    }
    let mut work = queue.get().await.expect("open");
    assert_eq!(work.attempt(), 6);
    work.forget();
    assert_eq!(work.attempt(), 1);
    let start = Instant::now();
    work.retry();
    queue.get().await.expect("open").done();
    assert_eq!(Instant::now() - start, ms(5));
}

#[tokio::test(start_paused = true)]
async fn the_overall_bucket_delays_failures_beyond_its_burst() {
    let bucket = Bucket::new(10.0, 2).expect("valid");
    let both = MaxOf::new(vec![Box::<Exponential>::default(), Box::new(bucket)]).expect("valid");
    let queue = WorkQueue::builder().backoff(both).build().expect("valid");
    let start = Instant::now();
    for key in 0..4 {
        queue.add_rate_limited(key).expect("open");
    }
    for expected in [5, 5, 100, 200] {
        queue.get().await.expect("open").done();
        assert_eq!(Instant::now() - start, ms(expected));
    }
}

// === client-go's flaw: triggers that arrive while a key waits for its backoff ===

#[tokio::test(start_paused = true)]
async fn triggers_leave_a_backoff_as_it_is_unless_they_ask_for_its_end() {
    for (in_hand, trigger, waits, attempt) in [
        (false, Add::now(), 5, 2),
        (false, Add::after(ms(1)), 5, 2),
        (false, Add::rate_limited(), 5, 2),
        (false, Add::now().end_backoff(), 0, 2),
        (false, Add::after(ms(2)).end_backoff(), 2, 2),
        (true, Add::now(), 5, 2),
        (true, Add::rate_limited(), 5, 2),
        (true, Add::now().end_backoff(), 0, 2),
    ] {
        let queue = queue();
        add(&queue, "a", Add::now());
        let work = now(&queue).expect("ready");
        if in_hand {
            add(&queue, "a", trigger.clone());
            work.retry();
        } else {
            work.retry();
            for _ in 0..3 {
                add(&queue, "a", trigger.clone());
            }
        }
        let start = Instant::now();
        let work = queue.get().await.expect("open");
        let seen = (Instant::now() - start, work.attempt());
        assert_eq!(seen, (ms(waits), attempt), "{in_hand} {trigger:?}");
        work.done();
        assert!(now(&queue).is_none(), "one turn for all");
    }
}

// === controller-runtime: priorityqueue.go ===

#[tokio::test(start_paused = true)]
async fn higher_priorities_go_first_and_equals_in_their_order() {
    let queue = queue();
    for (key, priority) in [("low", -100), ("a", 0), ("high", 7), ("b", 0), ("low2", -100)] {
        add(&queue, key, Add::now().priority(priority));
    }
    assert_eq!(all_ready(&queue), ["high", "a", "b", "low", "low2"]);
}

#[tokio::test(start_paused = true)]
async fn a_raised_key_goes_to_the_end_of_its_new_priority() {
    let queue = queue();
    for (key, priority) in [("a", -100), ("b", -100), ("c", 0), ("b", 0), ("b", -100)] {
        add(&queue, key, Add::now().priority(priority));
    }
    let depth: Vec<_> = queue.metrics().depth.into_iter().collect();
    assert_eq!(depth, [(-100, 1), (0, 2)]);
    assert_eq!(all_ready(&queue), ["c", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_lowered_on_request_as_long_as_it_is_not_overdue() {
    for (waited, lowered) in [(0, true), (999, true), (1000, false)] {
        let queue = queue();
        for key in ["a", "b", "c"] {
            add(&queue, key, Add::now().priority(5));
        }
        advance(ms(waited)).await;
        add(&queue, "a", Add::now().lower());
        add(&queue, "b", Add::now());
        let work = now(&queue).expect("ready");
        assert_eq!(*work.key(), if lowered { "b" } else { "a" }, "{waited} ms");
        assert_eq!(work.priority(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_takes_the_higher_priority_and_keeps_its_time() {
    let queue = queue();
    add(&queue, "a", Add::after(ms(10)).priority(-100));
    add(&queue, "a", Add::after(ms(50)).priority(3));
    advance(ms(10)).await;
    let work = now(&queue).expect("due");
    assert_eq!((work.priority(), work.waited()), (3, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn of_a_backoff_and_a_latest_time_the_earlier_counts() {
    for (latest, expected) in [(3, 3), (30, 5)] {
        let queue = queue();
        let start = Instant::now();
        add(&queue, "a", Add::rate_limited().at_latest(ms(latest)));
        queue.get().await.expect("open").done();
        assert_eq!(Instant::now() - start, ms(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_in_hand_does_not_block_the_others_and_keeps_its_priority() {
    let queue = queue();
    add(&queue, "a", Add::now().priority(9));
    add(&queue, "b", Add::now());
    let a = now(&queue).expect("ready");
    add(&queue, "a", Add::now().priority(9));
    assert_eq!(all_ready(&queue), ["b"], "the most urgent key is in hand");
    a.requeue_after(ms(5));
    assert_eq!(now(&queue).expect("added again").priority(), 9);
}

// === controller-runtime's flaw: a stream of urgent keys starves the rest ===

#[tokio::test(start_paused = true)]
async fn overdue_keys_get_every_fourth_turn_and_no_more() {
    let queue = queue();
    for key in ["low0", "low1", "low2"] {
        add(&queue, key, Add::now().priority(-100));
    }
    let turns = |count: usize| -> Vec<bool> {
        let urgent = |_| {
            for key in ["u0", "u1"] {
                add(&queue, key, Add::now());
            }
            let work = now(&queue).expect("ready");
            let low = work.priority() < 0;
            work.done();
            low
        };
        (0..count).map(urgent).collect()
    };
    assert_eq!(turns(50), [false; 50], "they are not overdue");
    advance(Duration::from_secs(1)).await;
    let low = turns(14);
    let at: Vec<_> = (0..14).filter(|turn| low[*turn]).collect();
    assert_eq!(at, [0, 4, 8]);
}

#[tokio::test(start_paused = true)]
async fn of_the_overdue_the_longest_waiting_goes_first() {
    let queue = queue();
    for (key, priority) in [("older", -7), ("old", -1)] {
        add(&queue, key, Add::now().priority(priority));
        advance(ms(100)).await;
    }
    advance(Duration::from_secs(1)).await;
    for key in ["a", "b", "c", "d", "e", "f"] {
        add(&queue, key, Add::now());
    }
    assert_eq!(
        all_ready(&queue),
        ["a", "b", "c", "older", "d", "e", "f", "old"],
        "three turns for the urgent, one for the overdue"
    );
}

// === flows ===

#[tokio::test(start_paused = true)]
async fn a_tenant_with_many_keys_does_not_hold_up_the_others() {
    let queue = WorkQueue::builder()
        .fair_by(|key: &(&str, u32)| key.0)
        .build()
        .expect("valid");
    for number in 0..1000 {
        queue.add(("noisy", number)).expect("open");
    }
    for key in [("quiet", 0), ("calm", 0), ("quiet", 1)] {
        queue.add(key).expect("open");
    }
    let mut first = Vec::new();
    for _ in 0..7 {
        let work = queue.get().await.expect("open");
        first.push(*work.key());
        work.done();
    }
    assert_eq!(
        first,
        [
            ("noisy", 0),
            ("quiet", 0),
            ("calm", 0),
            ("noisy", 1),
            ("quiet", 1),
            ("noisy", 2),
            ("noisy", 3)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn priorities_go_before_flows() {
    let queue = WorkQueue::builder()
        .fair_by(|key: &&'static str| key.as_bytes()[0])
        .build()
        .expect("valid");
    for (key, priority) in [("a1", 0), ("a2", 0), ("b1", -1), ("a3", 0), ("b2", 1)] {
        add(&queue, key, Add::now().priority(priority));
    }
    assert_eq!(all_ready(&queue), ["b2", "a1", "a2", "a3", "b1"]);
}

// === what neither has ===

#[tokio::test(start_paused = true)]
async fn a_turn_knows_why_it_came_up_within_bounds() {
    let queue = queue();
    for round in 0..3 {
        for number in 0..20 {
            add(&queue, "a", Add::now().because(format!("reason {number}")));
        }
        let work = now(&queue).expect("ready");
        let shown = queue.snapshot().remove(0);
        assert_eq!(
            &shown.reasons,
            work.reasons(),
            "the snapshot says why it is in hand"
        );
        let kept: Vec<_> = work.reasons().iter().collect();
        assert_eq!(kept.len(), Reasons::MAX);
        assert_eq!((kept[0], work.reasons().omitted()), ("reason 0", 12), "{round}");
        add(&queue, "a", Add::now().because("again"));
        let again = queue.snapshot().remove(0).again;
        assert_eq!(again.iter().collect::<Vec<_>>(), ["again"]);
        work.done();
        now(&queue).expect("added again").done();
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_where_each_key_is_and_since_when() {
    let queue = queue();
    add(&queue, "in hand", Add::now().priority(1));
    let _work = now(&queue).expect("ready");
    advance(ms(10)).await;
    add(&queue, "ready", Add::now().because("edit"));
    add(&queue, "delayed", Add::after(ms(70)));
    queue.add_rate_limited("failed").expect("open");
    advance(ms(2)).await;
    let mut shown = queue.snapshot();
    shown.sort_by_key(|shown| shown.key);
    let rows: Vec<_> = shown
        .iter()
        .map(|s| (s.key, s.phase, s.time, s.priority, s.failures, s.backoff))
        .collect();
    assert_eq!(
        rows,
        [
            ("delayed", Phase::Delayed, ms(68), 0, 0, false),
            ("failed", Phase::Delayed, ms(3), 0, 1, true),
            ("in hand", Phase::InHand, ms(12), 1, 0, false),
            ("ready", Phase::Ready, ms(2), 0, 0, false),
        ]
    );
    assert_eq!(phase(&queue, "gone"), None);
}

#[tokio::test(start_paused = true)]
async fn late_adds_are_refused_and_a_drained_queue_reports_what_would_have_come_back() {
    let queue = queue();
    for key in ["fails", "later", "well"] {
        add(&queue, key, Add::now());
    }
    let drained = tokio::spawn(queue.shut_down(Shutdown::Drain));
    tokio::task::yield_now().await;
    assert_eq!(queue.add("late"), Err(Refused));
    assert_eq!(queue.add_after("late", ms(1)), Err(Refused));
    assert_eq!(queue.add_rate_limited("late"), Err(Refused));
    now(&queue).expect("ready").retry();
    now(&queue).expect("ready").requeue_after(ms(1));
    now(&queue).expect("ready").done();
    let left = drained.await.expect("no panic");
    let left: Vec<_> = left.iter().map(|left| (left.key, left.phase)).collect();
    assert_eq!(left, [("fails", Phase::Delayed), ("later", Phase::Delayed)]);
}

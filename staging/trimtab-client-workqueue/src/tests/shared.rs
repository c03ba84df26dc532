//! The queue as tasks see it: waiting, cancelling, panics and shutdown, on paused time.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, advance, timeout};

use crate::{Add, InvalidQueue, Phase, Refused, Shutdown, WorkQueue};

fn queue() -> WorkQueue<&'static str> {
    WorkQueue::builder().build().expect("the defaults work")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_comes_on_time_also_when_its_watcher_leaves() {
    let queue = queue();
    let start = Instant::now();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move {
            let work = queue.get().await.expect("open");
            let at = Instant::now();
            work.done();
            at
        }
    });
    tokio::task::yield_now().await;
    queue.add_after("a", ms(500)).expect("open");
    // This consumer may be the one that was woken; it goes away before the time comes.
    assert!(timeout(ms(10), queue.get()).await.is_err());
    assert_eq!(waiting.await.expect("no panic") - start, ms(500));
}

/// More than go in one step.
#[tokio::test(start_paused = true)]
async fn many_keys_at_once_come_in_their_order_and_wake_all_who_wait() {
    let queue = WorkQueue::<usize>::builder().build().expect("the defaults work");
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let work = queue.get().await.expect("open");
                let key = *work.key();
                work.done();
                key
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(queue.add_all(500..1000, &Add::now().priority(1)), Ok(()));
    assert_eq!(queue.add_all(0..500, &Add::now()), Ok(()));
    let mut got = Vec::new();
    for waiting in waiting {
        got.push(waiting.await.expect("no panic"));
    }
    got.sort_unstable();
    assert_eq!(got, [500, 501, 502]);
    for key in (503..1000).chain(0..500) {
        let work = queue.get().await.expect("open");
        assert_eq!(*work.key(), key);
        work.done();
    }
    drop(queue.shut_down(Shutdown::Now));
    assert_eq!(queue.add_all([0], &Add::now()), Err(Refused));
    assert_eq!(queue.add_all([], &Add::now()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_get_takes_no_key() {
    let queue = queue();
    for _ in 0..100 {
        let mut get = Box::pin(queue.get());
        assert!(get.as_mut().now_or_never().is_none());
        queue.add("a").expect("open");
        drop(get);
        queue.get().await.expect("open").done();
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_dropped_without_a_word_comes_back_with_backoff() {
    let queue = queue();
    queue.add("a").expect("open");
    let panicked = tokio::spawn({
        let queue = queue.clone();
        async move {
            let _work = queue.get().await;
            panic!("on purpose");
        }
    });
    assert!(panicked.await.is_err());
    let start = Instant::now();
    let work = queue.get().await.expect("open");
    assert_eq!((Instant::now() - start, work.attempt()), (ms(5), 2));
    assert_eq!(work.reasons().iter().collect::<Vec<_>>(), ["abandoned"]);
    work.requeue_after(ms(70));
    let work = queue.get().await.expect("open");
    assert_eq!((Instant::now() - start, work.attempt()), (ms(75), 1));
    work.done();
}

#[tokio::test(start_paused = true)]
async fn an_add_while_in_hand_gives_one_more_turn() {
    let queue = queue();
    queue.add("a").expect("open");
    let work = queue.get().await.expect("open");
    queue.add_with("a", Add::now().because("again")).expect("open");
    queue.add("a").expect("open");
    assert!(queue.get().now_or_never().is_none(), "nobody else gets it");
    assert_eq!(queue.snapshot()[0].phase, Phase::InHandAgain);
    work.done();
    queue.get().await.expect("open").done();
    assert!(queue.get().now_or_never().is_none());
    assert_eq!(queue.metrics().adds, 2);
}

#[tokio::test(start_paused = true)]
async fn shutdown_reports_what_was_not_finished() {
    for (how, turns, reported) in [
        (Shutdown::Now, 0, vec!["a", "b", "late"]),
        (Shutdown::Drain, 1, vec!["late"]),
        (Shutdown::DrainWithin(ms(50)), 1, vec!["late"]),
        (Shutdown::DrainWithin(ms(5)), 1, vec!["a", "late"]),
    ] {
        let queue = queue();
        queue.add("a").expect("open");
        queue.add("b").expect("open");
        queue.add_after("late", ms(900)).expect("open");
        let work = queue.get().await.expect("open");
        let worker = tokio::spawn({
            let queue = queue.clone();
            async move {
                tokio::time::sleep(ms(20)).await;
                work.done();
                let mut turns = 0;
                while let Some(work) = queue.get().await {
                    turns += 1;
                    work.done();
                }
                turns
            }
        });
        let other = tokio::spawn({
            let queue = queue.clone();
            async move {
                let mut turns = 0;
                while let Some(work) = queue.get().await {
                    turns += 1;
                    work.done();
                }
                turns
            }
        });
        let left = queue.shut_down(how);
        assert_eq!(queue.add("c"), Err(Refused));
        let mut left: Vec<_> = left.await.into_iter().map(|left| left.key).collect();
        left.sort_unstable();
        assert_eq!(left, reported, "{how:?}");
        let done = worker.await.expect("no panic") + other.await.expect("no panic");
        assert_eq!(done, turns, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn figures_tell_what_waits_and_what_runs() {
    let queue = queue();
    for (key, priority) in [("a", 0), ("b", 0), ("c", -100)] {
        queue.add_with(key, Add::now().priority(priority)).expect("open");
    }
    queue.add_after("d", ms(100)).expect("open");
    advance(ms(30)).await;
    let work = queue.get().await.expect("open");
    advance(ms(10)).await;
    let metrics = queue.metrics();
    assert_eq!(
        (metrics.depth[&0], metrics.depth[&-100], metrics.delayed),
        (1, 1, 1)
    );
    assert_eq!((metrics.unfinished, metrics.longest_running), (ms(10), ms(10)));
    assert_eq!(
        (metrics.longest_waiting[&-100], metrics.adds, metrics.retries),
        (ms(40), 3, 1)
    );
    assert_eq!(
        (metrics.queue_duration.count, metrics.queue_duration.sum),
        (1, ms(30))
    );
    work.done();
}

#[test]
fn a_queue_that_cannot_work_is_refused() {
    for ageing in [Duration::ZERO, Duration::MAX] {
        let refused = WorkQueue::<u8>::builder().ageing(ageing).build().map(drop);
        assert_eq!(refused, Err(InvalidQueue::Ageing(ageing)));
    }
}

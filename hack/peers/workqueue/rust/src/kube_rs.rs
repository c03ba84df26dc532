//! The workloads on kube-runtime's scheduler. What its controller's runner adds, which is private, is done here in the
//! same way: keys in hand are held, and everything is held while all slots are taken.

use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use kube_runtime::scheduler::{ScheduleRequest, Scheduler, scheduler};
use peak_alloc::PeakAlloc;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::report::{Figures, heap_per_key, lateness, millis};
use crate::{ADDS, CHANGE_AT_MS, KEYS, LISTED, MERGED_KEYS, PRODUCERS, WORKERS, delays, string_key};

type Requests<K> = UnboundedReceiver<ScheduleRequest<K>>;
type Queue<K> = Pin<Box<Scheduler<K, Requests<K>>>>;

pub(crate) fn run(workload: &str, heap: Option<&PeakAlloc>) -> Option<Figures> {
    Some(match (workload, heap) {
        ("distinct", _) => distinct((0..KEYS).collect()),
        ("distinct-string", _) => distinct((0..KEYS).map(string_key).collect()),
        ("merged", _) => merged(),
        ("delayed", _) => delayed(),
        ("startup", _) => startup(),
        ("memory", Some(heap)) => heap_per_key(heap, KEYS, 8.0, || filled(Duration::ZERO)),
        ("memory-delayed", Some(heap)) => heap_per_key(heap, KEYS, 8.0, || filled(Duration::from_secs(3600))),
        _ => return None,
    })
}

fn queue<K: Clone + Eq + Hash>() -> (UnboundedSender<ScheduleRequest<K>>, Queue<K>) {
    let (sender, requests) = unbounded();
    (sender, Box::pin(scheduler(requests)))
}

fn add<K>(sender: &UnboundedSender<ScheduleRequest<K>>, message: K, delay: Duration) {
    let run_at = Instant::now() + delay;
    let sent = sender.unbounded_send(ScheduleRequest { message, run_at });
    assert!(sent.is_ok(), "the scheduler is there");
}

fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// The next key that is not in hand.
async fn next<K: Clone + Eq + Hash>(queue: &mut Queue<K>, in_hand: &HashSet<K>) -> K {
    let key = poll_fn(|cx| {
        let mut free = queue.as_mut().hold_unless(|key| !in_hand.contains(key));
        Pin::new(&mut free).poll_next(cx)
    });
    key.await.expect("the sender is there")
}

/// One turn as the runner has it, of a reconcile that takes no time.
async fn turn<K: Clone + Eq + Hash>(queue: &mut Queue<K>, in_hand: &mut HashSet<K>) -> K {
    let key = next(queue, in_hand).await;
    in_hand.insert(key.clone());
    in_hand.remove(&key);
    key
}

/// A scheduler that has taken in all keys, due after `delay`. Its own thread's timers are of the runtime, so that goes
/// along.
fn filled(delay: Duration) -> (Runtime, Queue<u64>, UnboundedSender<ScheduleRequest<u64>>) {
    let runtime = one_thread();
    let (sender, mut queue) = queue();
    runtime.block_on(async {
        for key in 0..KEYS {
            add(&sender, key, delay);
            // Taken in one by one, so that the channel's blocks are not counted.
            poll_fn(|cx| Poll::Ready(queue.as_mut().hold().poll_next_unpin(cx).is_ready())).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        // By now all that is due at once is pending, which is what ready means here.
        poll_fn(|cx| Poll::Ready(queue.as_mut().hold().poll_next_unpin(cx).is_ready())).await;
    });
    (runtime, queue, sender)
}

fn distinct<K: Clone + Eq + Hash + Send + 'static>(keys: Vec<K>) -> Figures {
    let (sender, mut queue) = queue::<K>();
    let count = keys.len();
    let runtime = one_thread();
    let consumer = thread::spawn(move || {
        runtime.block_on(async {
            let mut in_hand = HashSet::new();
            for _ in 0..count {
                turn(&mut queue, &mut in_hand).await;
            }
        });
        Instant::now()
    });
    let start = Instant::now();
    let producer = thread::spawn(move || {
        keys.into_iter().for_each(|key| add(&sender, key, Duration::ZERO));
        sender
    });
    let end = consumer.join().expect("the consumer");
    drop(producer);
    Figures::default().with("ops_per_s", count as f64 / (end - start).as_secs_f64())
}

/// One task polls a scheduler, so there is one consumer here.
fn merged() -> Figures {
    let (sender, mut queue) = queue::<u64>();
    let closing = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let consumer = {
        let closing = closing.clone();
        thread::spawn(move || {
            one_thread().block_on(async {
                let (mut in_hand, mut seen) = (HashSet::new(), HashSet::new());
                let mut processed = 0u64;
                while seen.len() < MERGED_KEYS as usize {
                    let key = turn(&mut queue, &mut in_hand).await;
                    processed += 1;
                    if closing.load(Ordering::Acquire) {
                        seen.insert(key);
                    }
                }
                (processed, start.elapsed())
            })
        })
    };
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                for n in 0..ADDS / PRODUCERS {
                    add(&sender, n % MERGED_KEYS, Duration::ZERO);
                }
            });
        }
    });
    closing.store(true, Ordering::Release);
    (0..MERGED_KEYS).for_each(|key| add(&sender, key, Duration::ZERO));
    let (processed, wall) = consumer.join().expect("the consumer");
    Figures::default()
        .with("adds_per_s", (ADDS + MERGED_KEYS) as f64 / wall.as_secs_f64())
        .with("processed", processed as f64)
}

fn delayed() -> Figures {
    let (sender, mut queue) = queue::<u64>();
    lateness(
        &delays(),
        move |origin, count| {
            one_thread().block_on(async {
                let mut in_hand = HashSet::new();
                let mut taken = Vec::with_capacity(count);
                for _ in 0..count {
                    let key = turn(&mut queue, &mut in_hand).await;
                    taken.push((key, origin.elapsed()));
                }
                taken
            })
        },
        |key, delay| add(&sender, key, delay),
    )
}

fn startup() -> Figures {
    let runtime = Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (sender, mut queue) = queue::<u64>();
        let changed = LISTED - 1;
        let start = Instant::now();
        (0..LISTED).for_each(|key| add(&sender, key, Duration::ZERO));
        let change = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(CHANGE_AT_MS)).await;
            let added = Instant::now();
            add(&sender, changed, Duration::ZERO);
            (sender, added)
        });
        let mut begun = Vec::new();
        let mut in_hand = HashSet::new();
        let mut slots: FuturesUnordered<BoxFuture<'static, u64>> = FuturesUnordered::new();
        let mut left: HashSet<u64> = (0..LISTED).collect();
        while !left.is_empty() || !change.is_finished() {
            let event = poll_fn(|cx| {
                if let Poll::Ready(Some(done)) = slots.poll_next_unpin(cx) {
                    return Poll::Ready((done, true));
                }
                if slots.len() >= WORKERS {
                    let _ = queue.as_mut().hold().poll_next_unpin(cx);
                    return Poll::Pending;
                }
                let mut free = queue.as_mut().hold_unless(|key| !in_hand.contains(key));
                match Pin::new(&mut free).poll_next(cx) {
                    Poll::Ready(Some(key)) => Poll::Ready((key, false)),
                    _ => Poll::Pending,
                }
            });
            match event.await {
                (key, true) => {
                    in_hand.remove(&key);
                    left.remove(&key);
                }
                (key, false) => {
                    in_hand.insert(key);
                    if key == changed {
                        begun.push(Instant::now());
                    }
                    let reconcile = tokio::time::sleep(Duration::from_millis(1));
                    slots.push(reconcile.map(move |()| key).boxed());
                }
            }
        }
        let list = start.elapsed();
        let (_sender, added) = change.await.expect("the change");
        // Where the scheduler's order had it done before the change, its second turn may be after the list's end.
        let turn = match begun.iter().find(|at| **at >= added) {
            Some(turn) => *turn,
            None => {
                while next(&mut queue, &HashSet::new()).await != changed {}
                Instant::now()
            }
        };
        Figures::default()
            .with("wait_ms", millis(turn - added))
            .with("list_done_ms", millis(list))
    })
}

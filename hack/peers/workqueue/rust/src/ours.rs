//! The workloads on this project's queue.

use std::hash::Hash;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use tokio::runtime::{Builder, Runtime};
use trimtab_client_workqueue::{Add, Exponential, KeyedBackoff, WorkQueue};

use crate::report::{Figures, heap_per_key, lateness, millis};
use crate::{ADDS, CHANGE_AT_MS, KEYS, LISTED, MERGED_KEYS, PRODUCERS, WORKERS, delays, string_key};

/// The priority of the initial list, as controller-runtime's.
const LISTED_PRIORITY: i32 = -100;

pub(crate) fn run(workload: &str, heap: Option<&PeakAlloc>) -> Option<Figures> {
    Some(match (workload, heap) {
        ("distinct", _) => distinct((0..KEYS).collect()),
        ("distinct-string", _) => distinct((0..KEYS).map(string_key).collect()),
        ("merged", _) => merged(),
        ("delayed", _) => delayed(),
        ("startup", _) => startup(),
        ("backoff", _) => backoff(),
        ("memory-backoff", Some(heap)) => heap_per_key(heap, KEYS, 0.0, failed),
        ("memory", Some(heap)) => heap_per_key(heap, KEYS, 8.0, || {
            let queue = queue();
            (0..KEYS).for_each(|key| queue.add(key).expect("open"));
            queue
        }),
        ("memory-delayed", Some(heap)) => heap_per_key(heap, KEYS, 8.0, || {
            let queue = queue();
            for key in 0..KEYS {
                let delay = Duration::from_secs(3600) + Duration::from_micros(key);
                queue.add_after(key, delay).expect("open");
            }
            queue
        }),
        _ => return None,
    })
}

fn queue<K: Clone + Eq + Hash>() -> WorkQueue<K> {
    WorkQueue::builder().build().expect("the defaults work")
}

fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

fn distinct<K: Clone + Eq + Hash + Send + 'static>(keys: Vec<K>) -> Figures {
    let queue = queue::<K>();
    let count = keys.len();
    let consumer = {
        let queue = queue.clone();
        let runtime = one_thread();
        thread::spawn(move || {
            runtime.block_on(async {
                for _ in 0..count {
                    queue.get().await.expect("open").done();
                }
            });
            Instant::now()
        })
    };
    let start = Instant::now();
    thread::spawn(move || keys.into_iter().for_each(|key| queue.add(key).expect("open")));
    let end = consumer.join().expect("the consumer");
    Figures::default().with("ops_per_s", count as f64 / (end - start).as_secs_f64())
}

/// A backoff with one failure of each key.
fn failed() -> KeyedBackoff<u64, Exponential> {
    let mut backoff = KeyedBackoff::new(Exponential::default());
    let now = tokio::time::Instant::now();
    (0..KEYS).for_each(|key| {
        black_box(backoff.next(&key, now));
    });
    backoff
}

fn backoff() -> Figures {
    let start = Instant::now();
    let mut backoff = failed();
    let next = start.elapsed();
    let start = Instant::now();
    (0..KEYS).for_each(|key| {
        black_box(backoff.forget(&key));
    });
    let forget = start.elapsed();
    Figures::default()
        .with("next_per_s", KEYS as f64 / next.as_secs_f64())
        .with("forget_per_s", KEYS as f64 / forget.as_secs_f64())
}

fn merged() -> Figures {
    let queue = queue::<u64>();
    let closing = Arc::new(AtomicBool::new(false));
    let processed = Arc::new(AtomicU64::new(0));
    let seen: Arc<Vec<AtomicBool>> = Arc::new((0..MERGED_KEYS).map(|_| AtomicBool::new(false)).collect());
    let left = Arc::new(AtomicU64::new(MERGED_KEYS));
    for _ in 0..2 {
        let (queue, closing, processed) = (queue.clone(), closing.clone(), processed.clone());
        let (seen, left) = (seen.clone(), left.clone());
        thread::spawn(move || {
            one_thread().block_on(async {
                while let Some(work) = queue.get().await {
                    processed.fetch_add(1, Ordering::Relaxed);
                    if closing.load(Ordering::Acquire)
                        && !seen[*work.key() as usize].swap(true, Ordering::AcqRel)
                    {
                        left.fetch_sub(1, Ordering::AcqRel);
                    }
                    work.done();
                }
            });
        });
    }
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                for add in 0..ADDS / PRODUCERS {
                    queue.add(add % MERGED_KEYS).expect("open");
                }
            });
        }
    });
    // Once more for each key: when all of them have had a turn after this, nothing of the rest is left.
    closing.store(true, Ordering::Release);
    (0..MERGED_KEYS).for_each(|key| queue.add(key).expect("open"));
    while left.load(Ordering::Acquire) > 0 {
        thread::yield_now();
    }
    let wall = start.elapsed().as_secs_f64();
    Figures::default()
        .with("adds_per_s", (ADDS + MERGED_KEYS) as f64 / wall)
        .with("processed", processed.load(Ordering::Relaxed) as f64)
}

fn delayed() -> Figures {
    let queue = queue::<u64>();
    let consumer = queue.clone();
    lateness(
        &delays(),
        move |origin, count| {
            one_thread().block_on(async {
                let mut taken = Vec::with_capacity(count);
                for _ in 0..count {
                    let work = consumer.get().await.expect("open");
                    taken.push((*work.key(), origin.elapsed()));
                    work.done();
                }
                taken
            })
        },
        |key, delay| queue.add_after(key, delay).expect("open"),
    )
}

fn startup() -> Figures {
    let runtime = Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let queue = queue::<u64>();
        let changed = LISTED - 1;
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (finished, mut turns) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        for key in 0..LISTED {
            queue
                .add_with(key, Add::now().priority(LISTED_PRIORITY))
                .expect("open");
        }
        for _ in 0..WORKERS {
            let (queue, begun, finished) = (queue.clone(), begun.clone(), finished.clone());
            tokio::spawn(async move {
                while let Some(work) = queue.get().await {
                    if *work.key() == changed {
                        begun.lock().expect("no panic").push(Instant::now());
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let _ = finished.send(*work.key());
                    work.done();
                }
            });
        }
        let since = start.elapsed();
        tokio::time::sleep(Duration::from_millis(CHANGE_AT_MS).saturating_sub(since)).await;
        let added = Instant::now();
        queue.add(changed).expect("open");
        let mut left: std::collections::HashSet<u64> = (0..LISTED).collect();
        while !left.is_empty() {
            left.remove(&turns.recv().await.expect("the workers go on"));
        }
        let list = start.elapsed();
        let begun = begun.lock().expect("no panic");
        let turn = begun.iter().find(|at| **at >= added).expect("its turn came");
        Figures::default()
            .with("wait_ms", millis(*turn - added))
            .with("list_done_ms", millis(list))
    })
}

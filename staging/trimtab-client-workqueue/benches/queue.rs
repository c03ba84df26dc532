//! The queue's main workloads, each at its full rate. Run with `cargo bench -p trimtab-client-workqueue`;
//! `hack/bench-workqueue` runs them against the queues of other frameworks.

use std::thread;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use tokio::time::Instant;
use trimtab_client_workqueue::{Add, Exponential, KeyedBackoff, Shutdown, WorkQueue};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn queue() -> WorkQueue<u64> {
    WorkQueue::builder().build().expect("the defaults work")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// Takes and finishes keys until the queue is shut down. Returns how many.
fn consume(queue: &WorkQueue<u64>) -> u64 {
    runtime().block_on(async {
        let mut turns = 0;
        while let Some(work) = queue.get().await {
            work.done();
            turns += 1;
        }
        turns
    })
}

fn drain(queue: &WorkQueue<u64>) {
    runtime().block_on(queue.shut_down(Shutdown::Drain));
}

/// Distinct keys from one thread to another: add, get, done.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn distinct_keys(bencher: Bencher) {
    const KEYS: u64 = 1_000_000;
    bencher.counter(ItemsCount::new(KEYS)).bench_local(|| {
        let queue = queue();
        let turns = thread::scope(|scope| {
            let consumer = scope.spawn(|| consume(&queue));
            for key in 0..KEYS {
                queue.add(key).expect("open");
            }
            drain(&queue);
            consumer.join().expect("no panic")
        });
        assert_eq!(turns, KEYS);
    });
}

/// Four threads add few keys again and again, and two work them off: nearly all adds merge.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn merged_adds(bencher: Bencher) {
    const ADDS: u64 = 5_000_000;
    bencher.counter(ItemsCount::new(ADDS)).bench_local(|| {
        let queue = queue();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| consume(&queue));
            }
            let producers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for add in 0..ADDS / 4 {
                            queue.add(add % 1000).expect("open");
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().expect("no panic");
            }
            drain(&queue);
        });
    });
}

/// What one thread can do: an add that merges, and a whole turn of a key.
#[divan::bench]
fn one_merged_add(bencher: Bencher) {
    let queue = queue();
    queue.add(1).expect("open");
    bencher.bench_local(|| queue.add(black_box(1)));
}

#[divan::bench]
fn one_turn(bencher: Bencher) {
    let (queue, runtime) = (queue(), runtime());
    let _inside = runtime.enter();
    bencher.bench_local(|| {
        queue.add(black_box(1)).expect("open");
        runtime.block_on(queue.get()).expect("open").done();
    });
}

/// Keys that ripen and are handed out, with the heap of delays as deep as it gets.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn delayed_keys(bencher: Bencher) {
    const KEYS: u64 = 200_000;
    bencher.counter(ItemsCount::new(KEYS)).bench_local(|| {
        let queue = queue();
        for key in 0..KEYS {
            let delay = Duration::from_micros(key.wrapping_mul(0x9E37_79B9) % 1000);
            queue.add_with(key, Add::after(delay)).expect("open");
        }
        runtime().block_on(async {
            for _ in 0..KEYS {
                queue.get().await.expect("open").done();
            }
        });
    });
}

const TRACKED: u64 = 1_000_000;

#[divan::bench(sample_count = 5, sample_size = 1)]
fn keyed_backoff_next(bencher: Bencher) {
    let fresh = || KeyedBackoff::new(Exponential::default());
    let now = Instant::now();
    bencher
        .counter(ItemsCount::new(TRACKED))
        .with_inputs(fresh)
        .bench_local_values(|mut backoff| {
            for key in 0..TRACKED {
                black_box(backoff.next(&key, now));
            }
            backoff
        });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn keyed_backoff_forget(bencher: Bencher) {
    let now = Instant::now();
    let failed = || {
        let mut backoff = KeyedBackoff::new(Exponential::default());
        (0..TRACKED).for_each(|key| {
            black_box(backoff.next(&key, now));
        });
        backoff
    };
    bencher
        .counter(ItemsCount::new(TRACKED))
        .with_inputs(failed)
        .bench_local_values(|mut backoff| {
            for key in 0..TRACKED {
                black_box(backoff.forget(&key));
            }
        });
}

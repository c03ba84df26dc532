//! The queue's main workloads. Run with `cargo bench -p trimtab-client-workqueue`.

use divan::Bencher;
use divan::counter::ItemsCount;
use trimtab_client_workqueue::WorkQueue;

fn main() {
    divan::main();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// Distinct keys through add, get and done.
#[divan::bench(sample_count = 5)]
fn distinct_keys(bencher: Bencher) {
    const KEYS: u32 = 100_000;
    let runtime = runtime();
    bencher.counter(ItemsCount::new(KEYS)).bench_local(|| {
        runtime.block_on(async {
            let queue = WorkQueue::builder().build().expect("the defaults work");
            for key in 0..KEYS {
                queue.add(key).expect("open");
            }
            for _ in 0..KEYS {
                queue.get().await.expect("open").done();
            }
        });
    });
}

/// Many adds of few keys: nearly all of them merge.
#[divan::bench(sample_count = 5)]
fn merged_adds(bencher: Bencher) {
    const ADDS: u32 = 500_000;
    let runtime = runtime();
    bencher.counter(ItemsCount::new(ADDS)).bench_local(|| {
        runtime.block_on(async {
            let queue = WorkQueue::builder().build().expect("the defaults work");
            for add in 0..ADDS {
                queue.add(add % 1000).expect("open");
            }
            for _ in 0..1000 {
                queue.get().await.expect("open").done();
            }
        });
    });
}

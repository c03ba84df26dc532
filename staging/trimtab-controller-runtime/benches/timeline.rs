//! What it costs to record turns and to look at them. Run with `cargo bench -p trimtab-controller-runtime`.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use jiff::Timestamp;
use trimtab_controller_runtime::introspection::{Occasion, Outcome, StatusWrite, Timeline, Verb, Write};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const TURNS: usize = 1000;

/// A turn with one reason and two writes.
fn turn(timeline: &Timeline, key: &str) {
    let occasion = Occasion::new(Timestamp::UNIX_EPOCH).because("Website default/hello updated");
    let mut record = timeline.begin(key, occasion);
    record.wrote(Write::new(Verb::Apply, "Deployment", key).version("123456"));
    record.wrote(
        Write::new(Verb::Apply, "Service", key)
            .version("123457")
            .unchanged(),
    );
    record.status(StatusWrite::Written);
    record.reconciled();
    record.end(Outcome::Success);
}

fn keys(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("default/website-{number}"))
        .collect()
}

/// A timeline that is as full as it gets.
fn full() -> Timeline {
    let timeline = Timeline::new();
    for _ in 0..40 {
        for key in keys(1000) {
            turn(&timeline, &key);
        }
    }
    timeline
}

/// A thousand turns of keys that are known, when all is full; or of ever new ones, each of which makes another be forgotten.
#[divan::bench(args = [1000, 100_000])]
fn record(bencher: Bencher, distinct: usize) {
    let (timeline, keys) = (full(), keys(distinct));
    let mut next = keys.iter().cycle();
    bencher.counter(ItemsCount::new(TURNS)).bench_local(|| {
        for key in next.by_ref().take(TURNS) {
            turn(&timeline, black_box(key));
        }
    });
}

/// What one look at a full timeline costs, with the lock held.
#[divan::bench]
fn search(bencher: Bencher) {
    let timeline = full();
    bencher.bench_local(|| timeline.keys(black_box("website-9"), 100));
}

/// The turns of one key.
#[divan::bench]
fn look(bencher: Bencher) {
    let timeline = full();
    bencher.bench_local(|| timeline.of_key(black_box("default/website-9")));
}

/// What a full timeline takes: see the column of allocated bytes.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn fill(bencher: Bencher) {
    bencher.counter(ItemsCount::new(40_000_usize)).bench_local(full);
}

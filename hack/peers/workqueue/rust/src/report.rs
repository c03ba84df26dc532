//! What a run measured, and how it is printed.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use peak_alloc::PeakAlloc;

/// Named figures of one run.
#[derive(Default)]
pub(crate) struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.0.push((name, value));
        self
    }

    /// The median and the 99th percentile of latenesses in nanoseconds, in milliseconds.
    fn with_lateness(self, mut late: Vec<i64>) -> Self {
        late.sort_unstable();
        let at = |percent: usize| late[(late.len() - 1) * percent / 100] as f64 / 1e6;
        let (p50, p99) = (at(50), at(99));
        let early = late.iter().filter(|late| **late < 0).count();
        self.with("p50_ms", p50)
            .with("p99_ms", p99)
            .with("early", early as f64)
    }

    pub(crate) fn json(&self, peer: &str, workload: &str) -> String {
        let mut line = format!(r#"{{"peer":"{peer}","workload":"{workload}""#);
        for (name, value) in &self.0 {
            line += &format!(r#","{name}":{value:.3}"#);
        }
        line + "}"
    }
}

/// CPU seconds that the process has used so far, in user and system mode.
fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(f64::NAN, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    })
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Adds a key for each of `delays`, in nanoseconds, while `consume` on another thread notes when it was handed each of so
/// many keys; reports how late they were, and the CPU seconds.
pub(crate) fn lateness(
    delays: &[u64],
    consume: impl FnOnce(Instant, usize) -> Vec<(u64, Duration)> + Send + 'static,
    add: impl Fn(u64, Duration),
) -> Figures {
    let count = delays.len();
    let origin = Instant::now();
    let cpu = cpu_seconds();
    let consumer = thread::spawn(move || consume(origin, count));
    let mut due = Vec::with_capacity(count);
    for (key, delay) in delays.iter().enumerate() {
        let delay = Duration::from_nanos(*delay);
        due.push(origin.elapsed() + delay);
        add(key as u64, delay);
    }
    let taken = consumer.join().expect("the consumer");
    let cpu = cpu_seconds() - cpu;
    let nanos = |time: Duration| time.as_nanos() as i64;
    let late = |(key, at): &(u64, Duration)| nanos(*at) - nanos(due[*key as usize]);
    Figures::default()
        .with_lateness(taken.iter().map(late).collect())
        .with("cpu_s", cpu)
}

/// Runs `fill` and reports the live and the peak bytes for each of `keys`, less `own` bytes that are the key's.
pub(crate) fn heap_per_key<T>(heap: &PeakAlloc, keys: u64, own: f64, fill: impl FnOnce() -> T) -> Figures {
    let before = heap.current_usage();
    heap.reset_peak_usage();
    let filled = fill();
    let per_key = |bytes: usize| bytes.saturating_sub(before) as f64 / keys as f64 - own;
    let (live, peak) = (per_key(heap.current_usage()), per_key(heap.peak_usage()));
    drop(filled);
    Figures::default()
        .with("heap_bytes_per_key", live)
        .with("peak_bytes_per_key", peak)
}

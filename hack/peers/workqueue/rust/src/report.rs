//! What a run measured, and how it is printed.

use std::time::Duration;

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
    pub(crate) fn with_lateness(self, mut late: Vec<i64>) -> Self {
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
pub(crate) fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(f64::NAN, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    })
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
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

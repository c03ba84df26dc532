//! The queue's figures, with client-go's meanings: snapshots that a metrics endpoint formats.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts of durations in buckets that grow tenfold from 10 ns, as client-go's do.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many durations were at most [`Histogram::BOUNDS`]`[i]` and more than the bound before.
    pub counts: [u64; 12],
    /// How many there were, those beyond the last bound included.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Histogram {
    /// The buckets' upper bounds, in seconds.
    pub const BOUNDS: [f64; 12] = [
        1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0,
    ];
}

/// A histogram as it is kept: in nanoseconds, so that an observation costs a few of them.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    counts: [u64; 12],
    count: u64,
    /// Saturates, after centuries.
    sum: u64,
}

impl Durations {
    #[inline]
    pub(crate) fn observe(&mut self, nanos: u64) {
        // The bucket of n nanoseconds is the number of digits of n − 1, less one.
        let bucket = nanos.saturating_sub(1).checked_ilog10().unwrap_or(0);
        if let Some(count) = self.counts.get_mut(bucket as usize) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    pub(crate) fn histogram(&self) -> Histogram {
        Histogram {
            counts: self.counts,
            count: self.count,
            sum: Duration::from_nanos(self.sum),
        }
    }
}

/// The figures of one queue at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// `workqueue_depth`: ready keys by priority. Delayed keys do not count.
    pub depth: BTreeMap<i32, usize>,
    /// Delayed keys.
    pub delayed: usize,
    /// `workqueue_adds_total`: how often a key became ready; merged adds do not count.
    pub adds: u64,
    /// `workqueue_retries_total`: rate-limited and delayed adds, retries included.
    pub retries: u64,
    /// `workqueue_queue_duration_seconds`: from ready to handed out.
    pub queue_duration: Histogram,
    /// `workqueue_work_duration_seconds`: from handed out to finished.
    pub work_duration: Histogram,
    /// `workqueue_unfinished_work_seconds`: the sum over the keys in hand.
    pub unfinished: Duration,
    /// `workqueue_longest_running_processor_seconds`.
    pub longest_running: Duration,
    /// For each priority, how long the key that is next has been ready.
    pub longest_waiting: BTreeMap<i32, Duration>,
}

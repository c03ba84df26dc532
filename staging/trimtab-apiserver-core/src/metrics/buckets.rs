//! Histograms that are counted without a lock, by all threads at once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Counts of values up to each of some bounds. Values are whole: bytes, or nanoseconds.
#[derive(Debug)]
pub(crate) struct Buckets {
    bounds: &'static [u64],
    /// Up to each bound, and above.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Buckets {
    /// Nothing yet, up to each of these bounds, which rise.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, value: u64) {
        let bound = self.bounds.iter().position(|bound| value <= *bound);
        if let Some(count) = self.counts.get(bound.unwrap_or(self.bounds.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds a time to nanoseconds.
    pub(crate) fn took(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Encodes them in a unit that is so many of theirs.
    pub(crate) fn encode(&self, encoder: &mut MetricEncoder<'_>, unit: f64) -> fmt::Result {
        let counts: Vec<u64> = self.counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let bounds = self
            .bounds
            .iter()
            .map(|bound| *bound as f64 / unit)
            .chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}

/// So many nanoseconds are a second.
pub(crate) const NANOS: f64 = 1e9;

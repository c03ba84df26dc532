//! How long it takes to find out who asks, and whether they may.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::buckets::{Buckets, NANOS};

/// Upper bounds in nanoseconds: from a millisecond on, each twice as long as the one before; kube-apiserver's.
const BOUNDS: [u64; 15] = {
    let mut bounds = [1_000_000; 15];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = bounds[i - 1] * 2;
        i += 1;
    }
    bounds
};

/// Times by what has come of it.
#[derive(Clone, Debug)]
pub(super) struct Times(Arc<[(&'static str, Buckets); 2]>);

impl Times {
    /// Of this, or of that.
    pub(super) fn new(results: [&'static str; 2]) -> Self {
        Self(Arc::new(results.map(|result| (result, Buckets::new(&BOUNDS)))))
    }

    /// Those of one result, by its place.
    pub(super) fn of(&self, place: usize) -> &Buckets {
        &self.0[place].1
    }
}

/// Encodes them whenever the metrics are read.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) authenticating: Times,
    pub(super) authorizing: Times,
}

impl Collector for Access {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, times) in [
            (
                "authentication_duration_seconds",
                "Time to find out who asks, in seconds",
                &self.authenticating,
            ),
            (
                "authorization_duration_seconds",
                "Time to find out whether a request may be made, in seconds",
                &self.authorizing,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (result, buckets) in times.0.iter().filter(|(_, buckets)| buckets.count() > 0) {
                let labels = [("result", *result)];
                buckets.encode(&mut metric.encode_family(&labels)?, NANOS)?;
            }
        }
        Ok(())
    }
}

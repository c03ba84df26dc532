//! How long admission takes: each plugin, and all that is asked, by what is to be done and whether it was refused.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::time::Instant;

use crate::metrics::buckets::{Buckets, NANOS};
use crate::registry::hooks::Operation;

/// Upper bounds in nanoseconds; kube-apiserver's.
const BOUNDS: [u64; 6] = [
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
];

const OPERATIONS: [Operation; 4] = [
    Operation::Create,
    Operation::Update,
    Operation::Delete,
    Operation::Connect,
];

/// Which word a plugin has: the first, to change things, or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Admit,
    Validate,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// The times of one plugin, or of all together.
#[derive(Debug)]
pub(super) struct Timings {
    /// By operation, step, and whether it was refused.
    all: [[[Buckets; 2]; 2]; OPERATIONS.len()],
}

impl Default for Timings {
    fn default() -> Self {
        let two = || [Buckets::new(&BOUNDS), Buckets::new(&BOUNDS)];
        Self {
            all: std::array::from_fn(|_| [two(), two()]),
        }
    }
}

impl Timings {
    /// Counts what has been done since then; answers what time it is now.
    pub(super) fn add(&self, operation: Operation, step: Step, rejected: bool, since: Instant) -> Instant {
        let now = Instant::now();
        let of = &self.all[operation as usize][step as usize][usize::from(rejected)];
        of.took(now - since);
        now
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    name: &'static str,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

/// The times of a server's admission.
#[derive(Debug, Default)]
pub(crate) struct AdmissionTimings {
    pub(super) all: Timings,
    plugins: Mutex<Vec<(&'static str, Arc<Timings>)>>,
}

impl AdmissionTimings {
    /// The times of a plugin.
    pub(super) fn plugin(&self, name: &'static str) -> Arc<Timings> {
        let timings = Arc::<Timings>::default();
        self.plugins.lock().push((name, timings.clone()));
        timings
    }
}

/// Encodes them whenever the metrics are read.
#[derive(Debug)]
pub(crate) struct Encoded(pub(crate) Arc<AdmissionTimings>);

impl Collector for Encoded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "apiserver_admission_step_admission_duration_seconds",
            "Time that admission takes, in seconds",
            None,
            MetricType::Histogram,
        )?;
        for (operation, rejected, r#type, buckets) in counted(&self.0.all) {
            let labels = OfStep {
                operation,
                rejected,
                r#type,
            };
            buckets.encode(&mut metric.encode_family(&labels)?, NANOS)?;
        }
        let mut metric = encoder.encode_descriptor(
            "apiserver_admission_controller_admission_duration_seconds",
            "Time that an admission plugin takes, in seconds",
            None,
            MetricType::Histogram,
        )?;
        for (name, timings) in &*self.0.plugins.lock() {
            for (operation, rejected, r#type, buckets) in counted(timings) {
                let labels = OfPlugin {
                    name,
                    operation,
                    rejected,
                    r#type,
                };
                buckets.encode(&mut metric.encode_family(&labels)?, NANOS)?;
            }
        }
        Ok(())
    }
}

/// The times that there are, with their labels.
fn counted(timings: &Timings) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &Buckets)> {
    OPERATIONS.into_iter().flat_map(move |operation| {
        [Step::Admit, Step::Validate].into_iter().flat_map(move |step| {
            let of = &timings.all[operation as usize][step as usize];
            let counted = ["false", "true"]
                .into_iter()
                .zip(of)
                .filter(|(_, buckets)| buckets.count() > 0);
            counted.map(move |(rejected, buckets)| (operation.as_str(), rejected, step.as_str(), buckets))
        })
    })
}

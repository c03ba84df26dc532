//! Which servers behind this one are not there: kube-aggregator's metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::extensions::Served;

/// Encodes them whenever the metrics are read.
#[derive(Debug)]
pub(super) struct ExtensionMetrics(pub(super) Arc<Served>);

impl Collector for ExtensionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let picture = self.0.picture();
        let mut metric = encoder.encode_descriptor(
            "aggregator_unavailable_apiservice",
            "APIServices that are not available, by name",
            None,
            MetricType::Gauge,
        )?;
        for group in picture.groups() {
            for version in &group.versions {
                let is_missing = version.elsewhere.as_ref().is_some_and(|e| !e.is_available);
                let labels = [("name", format!("{}.{}", version.name, group.name))];
                ConstGauge::new(i64::from(is_missing)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "aggregator_unavailable_apiservice",
            "How often APIServices have become unavailable, by name and reason",
            None,
            MetricType::Counter,
        )?;
        for ((name, reason), count) in self.0.losses() {
            let labels = [("name", name.as_str()), ("reason", reason)];
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

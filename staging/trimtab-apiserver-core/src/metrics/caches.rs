//! Figures of the watch caches, under kube-apiserver's names.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::buckets::NANOS;
use crate::registry::{CacheFigures, ListFigures, Registry};

/// Asks the caches for their figures whenever the metrics are read.
#[derive(Debug)]
pub(super) struct CacheMetrics(pub(super) Arc<Registry>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    group: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfIndex {
    #[prometheus(flatten)]
    of: Of,
    index: &'static str,
}

impl Of {
    fn cache(figures: &CacheFigures) -> Self {
        Self {
            group: figures.of.group.clone(),
            resource: figures.of.resource.clone(),
        }
    }
}

type Figure = (
    &'static str,
    &'static str,
    MetricType,
    fn(&CacheFigures) -> Option<u64>,
);

/// The encoder adds the suffix `_total` to counters.
const FIGURES: [Figure; 14] = [
    (
        "apiserver_watch_cache_initializations",
        "Times that the cache began anew",
        MetricType::Counter,
        |f| Some(f.initializations),
    ),
    (
        "apiserver_init_events",
        "Objects that the cache began with",
        MetricType::Counter,
        |f| Some(f.initial),
    ),
    (
        "apiserver_watch_cache_events_received",
        "Changes that the store told of",
        MetricType::Counter,
        |f| Some(f.received),
    ),
    (
        "apiserver_watch_cache_events_dispatched",
        "Changes that were handed to watchers",
        MetricType::Counter,
        |f| Some(f.dispatched),
    ),
    (
        "apiserver_terminated_watchers",
        "Watchers that left too much lying",
        MetricType::Counter,
        |f| Some(f.terminated),
    ),
    (
        "apiserver_storage_events_received",
        "Changes that the store told of",
        MetricType::Counter,
        |f| Some(f.received),
    ),
    (
        "apiserver_watch_cache_resource_version",
        "How far the cache has come",
        MetricType::Gauge,
        |f| f.revision,
    ),
    (
        "watch_cache_capacity",
        "Changes that the cache may keep",
        MetricType::Gauge,
        |f| Some(f.capacity),
    ),
    (
        "apiserver_resource_objects",
        "Objects that are stored",
        MetricType::Gauge,
        |f| f.size.map(|(objects, _)| objects),
    ),
    (
        "apiserver_resource_size_estimate_bytes",
        "What the objects that are stored come to, in bytes",
        MetricType::Gauge,
        |f| f.size.map(|(_, bytes)| bytes),
    ),
    (
        "apiserver_storage_list",
        "Lists that the store answered",
        MetricType::Counter,
        |f| Some(f.store_listed.count),
    ),
    (
        "apiserver_storage_list_fetched_objects",
        "Objects that were read from the store for lists",
        MetricType::Counter,
        |f| Some(f.store_listed.fetched),
    ),
    (
        "apiserver_storage_list_evaluated_objects",
        "Objects that were tested for lists that the store answered",
        MetricType::Counter,
        |f| Some(f.store_listed.fetched),
    ),
    (
        "apiserver_storage_list_returned_objects",
        "Objects that were in lists that the store answered",
        MetricType::Counter,
        |f| Some(f.store_listed.returned),
    ),
];

type ListFigure = (&'static str, &'static str, fn(&ListFigures) -> u64);

/// What a list that the cache answered is counted by; none of its indexes is one.
const LISTS: [ListFigure; 3] = [
    ("apiserver_cache_list", "Lists that the cache answered", |l| {
        l.count
    }),
    (
        "apiserver_cache_list_fetched_objects",
        "Objects that were read from the cache for lists",
        |l| l.fetched,
    ),
    (
        "apiserver_cache_list_returned_objects",
        "Objects that were in lists that the cache answered",
        |l| l.returned,
    ),
];

impl Collector for CacheMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let caches = self.0.cache_figures();
        if caches.is_empty() {
            return Ok(());
        }
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        for (name, help, kind, of) in FIGURES {
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for figures in &caches {
                let labels = Of::cache(figures);
                let Some(value) = of(figures) else { continue };
                let metric = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(metric)?,
                    _ => gauge(value).encode(metric)?,
                }
            }
        }
        for (name, help, of) in LISTS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for figures in caches.iter().filter(|figures| figures.listed.count > 0) {
                let labels = OfIndex {
                    of: Of::cache(figures),
                    index: "",
                };
                ConstCounter::new(of(&figures.listed)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Time that readers waited for the cache to come far enough, in seconds";
        let name = "apiserver_watch_cache_read_wait_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for figures in caches.iter().filter(|figures| figures.waits.0.count() > 0) {
            let labels = Of::cache(figures);
            let mut metric = metric.encode_family(&labels)?;
            figures.waits.0.encode(&mut metric, NANOS)?;
        }
        // By the resource's whole name, as it was before there was a label for the group.
        let help = "Objects that are stored";
        let mut metric =
            encoder.encode_descriptor("apiserver_storage_objects", help, None, MetricType::Gauge)?;
        for figures in &caches {
            if let Some((objects, _)) = figures.size {
                let labels = [("resource", figures.of.to_string())];
                gauge(objects).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

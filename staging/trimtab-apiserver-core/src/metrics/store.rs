//! The store's metrics, under the names that kube-apiserver and etcd have for them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use trimtab_apiserver_storage::{DiskUse, Figures, SYNC_MILLIS, Store};

/// Asks a store for its figures whenever the metrics are read.
#[derive(Debug)]
pub(crate) struct StorageMetrics(pub(crate) Arc<dyn Store>);

impl Collector for StorageMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Figures {
            size,
            revision,
            oldest,
            disk,
        } = self.0.figures();
        if let Some(size) = size {
            // kube-apiserver names each of its etcds; there is one store.
            let metric = encoder.encode_descriptor(
                "apiserver_storage_size_bytes",
                "Size of the storage's file, in bytes",
                None,
                MetricType::Gauge,
            );
            let mut metric = metric?;
            let metric = metric.encode_family(&[("storage_cluster_id", "embedded")])?;
            gauge(size).encode(metric)?;
        }
        let gauges = [
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Size of the storage's file, in bytes",
                size,
            ),
            (
                "etcd_debugging_mvcc_current_revision",
                "The current revision of the store",
                revision,
            ),
            (
                "etcd_debugging_mvcc_compact_revision",
                "The oldest revision that can be read",
                oldest,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                gauge(value).encode(metric)?;
            }
        }
        match disk {
            Some(disk) => encode_disk(&mut encoder, &disk),
            None => Ok(()),
        }
    }
}

fn encode_disk(encoder: &mut DescriptorEncoder<'_>, disk: &DiskUse) -> fmt::Result {
    let name = "etcd_disk_wal_fsync_duration_seconds";
    let mut metric = encoder.encode_descriptor(
        name,
        "Time that syncs take, in seconds",
        None,
        MetricType::Histogram,
    )?;
    let seconds = |millis: &u64| std::time::Duration::from_millis(*millis).as_secs_f64();
    let bounds = SYNC_MILLIS.iter().map(seconds).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(disk.buckets).collect();
    metric.encode_histogram::<NoLabelSet>(disk.syncing.as_secs_f64(), disk.syncs, &buckets, None)?;
    let counters = [
        // The encoder adds the suffix `_total`.
        (
            "trimtab_storage_failures",
            "Writes, syncs and changes of length that failed below the store",
            disk.failures,
        ),
        (
            "trimtab_storage_written_bytes",
            "Bytes written below the store",
            disk.written,
        ),
    ];
    for (name, help, value) in counters {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)?;
    }
    Ok(())
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

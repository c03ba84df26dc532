//! Figures of the process, as the operating system has them; on Linux.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// In how many parts of a second Linux counts a process' time, for those who ask.
const TICKS: f64 = 100.0;

/// Asks the operating system whenever the metrics are read.
#[derive(Debug)]
pub(super) struct Process;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    /// Since the machine was started.
    start_seconds: f64,
}

/// What `/proc/self/stat` and `/proc/self/status` say.
fn parse(stat: &str, status: &str) -> Option<Figures> {
    // The name before the bracket may have anything in it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // As proc(5) numbers them, from the third on.
    let field = |n: usize| fields.get(n - 3)?.trim().parse::<f64>().ok();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024.0)
    };
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        start_seconds: field(22)? / TICKS,
        virtual_bytes: bytes("VmSize:")?,
        resident_bytes: bytes("VmRSS:")?,
    })
}

/// When the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// How many files the process may have open.
fn most_files(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let Some(figures) = parse(&read("/proc/self/stat"), &read("/proc/self/status")) else {
            return Ok(());
        };
        let help = "CPU time of the process, in seconds";
        let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(metric)?;
        let start = boot_time(&read("/proc/stat")).map(|boot| boot + figures.start_seconds);
        let files = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|files| files.count() as f64);
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that the process has in use, in bytes",
                Some(figures.resident_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                "Memory that the process has asked for, in bytes",
                Some(figures.virtual_bytes),
            ),
            (
                "process_start_time_seconds",
                "When the process was started, in seconds since 1970",
                start,
            ),
            ("process_open_fds", "Files that the process has open", files),
            (
                "process_max_fds",
                "Files that the process may have open",
                most_files(&read("/proc/self/limits")),
            ),
        ] {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let stat = "4 (a) b) R 1 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 3 0 12300 4096000 10 18446744073709551615 1";
        let status = "Name:\ta) b\nVmSize:\t    4000 kB\nVmRSS:\t      40 kB\n";
        assert_eq!(
            parse(stat, status),
            Some(Figures {
                cpu_seconds: 3.0,
                start_seconds: 123.0,
                virtual_bytes: 4_096_000.0,
                resident_bytes: 40_960.0,
            })
        );
        assert_eq!(parse("4 (a) R 1", status), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        let limits =
            "Limit  Soft Limit\nMax open files            1024                 4096                 files\n";
        assert_eq!(most_files(limits), Some(1024.0));
    }
}

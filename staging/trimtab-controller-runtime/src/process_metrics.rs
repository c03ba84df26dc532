//! What the process takes of its machine, under the names that Go's and other Prometheus clients have for it. From Linux'
//! `/proc`, when somebody looks; elsewhere there is nothing to tell.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// How many ticks a second has in `/proc`; Linux' constant for programs.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct Process;

/// One look.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    start_time_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    open_files: u64,
    most_files: u64,
}

impl Figures {
    fn now() -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).ok();
        let files = fs::read_dir("/proc/self/fd").ok()?.count();
        Self::of(
            &read("/proc/self/stat")?,
            &read("/proc/self/status")?,
            &read("/proc/self/limits")?,
            &read("/proc/stat")?,
            u64::try_from(files).unwrap_or(u64::MAX),
        )
    }

    /// From the texts of these files, as proc(5) describes them.
    fn of(stat: &str, status: &str, limits: &str, system: &str, open_files: u64) -> Option<Self> {
        // The second field is a name in parentheses, with anything in it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let (number, _kb) = line.trim().split_once(' ')?;
            number.parse::<u64>().ok()
        };
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let limit = limit?.split_ascii_whitespace().next()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS,
            start_time_seconds: boot.trim().parse::<f64>().ok()? + field(22)? as f64 / TICKS,
            threads: field(20)?,
            virtual_bytes: kib("VmSize:")? * 1024,
            resident_bytes: kib("VmRSS:")? * 1024,
            open_files,
            most_files: limit.parse().unwrap_or(u64::MAX),
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(figures) = Figures::now() else {
            return Ok(());
        };
        let help = "CPU time that the process has taken, in seconds";
        encoder
            .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&figures.cpu_seconds, None)?;
        let whole = |figure: u64| figure as f64;
        let gauges = [
            (
                "process_start_time_seconds",
                "When the process began, in seconds since 1970",
                figures.start_time_seconds,
            ),
            (
                "process_threads",
                "Threads of the process",
                whole(figures.threads),
            ),
            (
                "process_virtual_memory_bytes",
                "Addresses that the process has mapped",
                whole(figures.virtual_bytes),
            ),
            (
                "process_resident_memory_bytes",
                "Memory that the process has in use",
                whole(figures.resident_bytes),
            ),
            (
                "process_open_fds",
                "Files that the process has open",
                whole(figures.open_files),
            ),
            (
                "process_max_fds",
                "How many files the process may have open",
                whole(figures.most_files),
            ),
        ];
        for (name, help, figure) in gauges {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&figure)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_linux_writes_it() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 7 0 1000 1 1 1";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n";
        let system = "cpu 1 2 3\nbtime 1700000000\n";
        let expected = Figures {
            cpu_seconds: 2.0,
            start_time_seconds: 1_700_000_010.0,
            threads: 7,
            virtual_bytes: 2 << 20,
            resident_bytes: 512 << 10,
            open_files: 5,
            most_files: 1024,
        };
        assert_eq!(Figures::of(stat, status, limits, system, 5), Some(expected));
        let unlimited = limits.replace("1024", "unlimited");
        let figures = Figures::of(stat, status, &unlimited, system, 5).expect("good texts");
        assert_eq!(figures.most_files, u64::MAX);
        for damaged in [
            Figures::of("", status, limits, system, 5),
            Figures::of("42 (a) S 1", status, limits, system, 5),
            Figures::of(stat, "", limits, system, 5),
            Figures::of(stat, status, "", system, 5),
            Figures::of(stat, status, limits, "", 5),
        ] {
            assert_eq!(damaged, None);
        }
    }
}

//! What a process has cost.

use std::alloc::System;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use stats_alloc::StatsAlloc;

use crate::Result;

pub type Heap = &'static StatsAlloc<System>;

/// How long a process rests before its memory is read, and before what is measured begins; as in the Go program.
pub const PAUSE: Duration = Duration::from_secs(3);

/// What has been used so far.
pub struct Usage {
    /// In user and system mode.
    pub cpu: Duration,
    /// Memory that was asked for, how often and how many bytes. None: the allocator does not count.
    pub asked: Option<(u64, u64)>,
}

impl Usage {
    pub fn now(heap: Option<Heap>) -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let asked = heap.map(|heap| {
            let stats = heap.stats();
            // What grows in another place is asked for anew, as in Go.
            let times = stats.allocations + stats.reallocations;
            (times as u64, stats.bytes_allocated as u64)
        });
        Ok(Self {
            cpu: Duration::from_micros(micros.unsigned_abs()),
            asked,
        })
    }
}

/// MiB of a line of the process's status, as `VmRSS:`.
pub fn mib(line: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|found| found.strip_prefix(line));
    let kib = kib.and_then(|kib| kib.split_whitespace().next());
    let kib: f64 = kib.ok_or_else(|| format!("no {line} in the status"))?.parse()?;
    Ok((kib / 1024.0).round())
}

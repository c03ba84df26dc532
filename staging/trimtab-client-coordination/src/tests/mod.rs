//! What the tests of this crate share: a server of Leases, processes that pause and crash, and time that is paused.

mod process;
mod server;

pub(crate) use process::Process;
pub(crate) use server::{Fate, Fault, LeaseServer};

use std::time::Duration;

use proptest::prelude::*;

use crate::lease::{Timing, WallClock};

/// Short, so that a history of minutes is one of many leases.
pub(crate) const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(4),
    renew_deadline: Duration::from_secs(3),
    retry_period: Duration::from_secs(1),
};

/// Up to so many milliseconds.
pub(crate) fn millis(most: u64) -> impl Strategy<Value = Duration> {
    (0..most).prop_map(Duration::from_millis)
}

/// Runs one case of a property to its end.
pub(crate) fn on_paused_time(test: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test)
}

/// A clock that shows the paused time, off by `skew` seconds.
pub(crate) fn skewed(skew: i64) -> WallClock {
    let start = tokio::time::Instant::now();
    let epoch = jiff::Timestamp::from_second(1_800_000_000 + skew).expect("in range");
    WallClock::new(move || {
        let passed = jiff::SignedDuration::try_from(start.elapsed()).expect("in range");
        epoch.checked_add(passed).expect("in range")
    })
}

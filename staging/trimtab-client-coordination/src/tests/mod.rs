//! What the tests of this crate share: a server of Leases and processes that pause and crash.

mod process;
mod server;

pub(crate) use process::Process;
pub(crate) use server::{Fate, Fault, LeaseServer};

use crate::lease::WallClock;

/// A clock that shows the paused time, off by `skew` seconds.
pub(crate) fn skewed(skew: i64) -> WallClock {
    let start = tokio::time::Instant::now();
    let epoch = jiff::Timestamp::from_second(1_800_000_000 + skew).expect("in range");
    WallClock::new(move || {
        let passed = jiff::SignedDuration::try_from(start.elapsed()).expect("in range");
        epoch.checked_add(passed).expect("in range")
    })
}

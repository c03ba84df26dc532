//! Leases as this process holds and sees them: what leader election and sharding share.
//!
//! Whether a Lease is in force is judged by the clock of whoever asks, from when it saw the record change: never by the
//! times in the record, which are of somebody else's clock. The holder counts from when it sent its last renewal that
//! succeeded, which is before anybody can have seen that. So the holder knows its end first, whatever clocks show.

mod guard;
mod holding;
mod identity;
mod judge;
mod observed;
mod requests;
mod timing;

pub(crate) use guard::Validity;
pub(crate) use holding::{Attempt, Holding, IfDeleted, Owner, Renewal, Sight, Term, Witness, plain};
pub(crate) use identity::host_name;
pub(crate) use judge::transitions;
pub(crate) use observed::{Observed, holder};
pub(crate) use requests::{Leases, RequestError};
pub use timing::{InvalidTiming, Timing};

use std::fmt;
use std::sync::Arc;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::clock::Clock;

/// Gives the times that are written to Leases, for people to read.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// The computer's, or that which tests drive.
    pub(crate) fn system() -> Self {
        Self::new(|| Clock::System.now())
    }

    pub(crate) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time in whole microseconds, as Leases have it, and another one than `before`: a renewal that changed nothing
    /// would be none to those who watch.
    pub(crate) fn now_after(&self, before: Option<&MicroTime>) -> MicroTime {
        let now = (self.0)();
        let micros = TimestampRound::new()
            .smallest(Unit::Microsecond)
            .mode(RoundMode::Trunc);
        let now = now.round(micros).unwrap_or(now);
        match before {
            Some(MicroTime(before)) if *before == now => {
                MicroTime(Timestamp::from_microsecond(now.as_microsecond() + 1).unwrap_or(now))
            }
            _ => MicroTime(now),
        }
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

#[cfg(test)]
mod tests;

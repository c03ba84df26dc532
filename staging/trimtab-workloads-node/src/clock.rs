//! The time of day, driven by tokio's clock: tests that pause it move the timestamps in objects too.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use std::time::Duration;
use tokio::time::Instant;

/// A clock that was set once and then goes by tokio's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    set_to: Timestamp,
    at: Instant,
}

impl Clock {
    /// Sets the clock by the machine's.
    pub(crate) fn start() -> Self {
        Self {
            set_to: Timestamp::now(),
            at: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        later(self.set_to, self.at.elapsed())
    }

    /// How long it is until then; nothing if it has passed.
    pub(crate) fn until(&self, then: Timestamp) -> Duration {
        Duration::try_from(then.duration_since(self.now())).unwrap_or_default()
    }
}

/// This much later, or the end of time.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// As objects have it: whole seconds.
pub(crate) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// As leases have it: microseconds.
pub(crate) fn micros(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

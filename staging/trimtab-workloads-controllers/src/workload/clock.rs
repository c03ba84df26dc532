//! What time it is, as controllers compare it with the times in objects.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// What time it is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// One that goes with tokio's: where that is paused, tests drive both.
    Driven {
        /// The time at `at`.
        start: Timestamp,
        /// When it was that time.
        at: Instant,
    },
}

impl Clock {
    /// A clock that says `start` now and goes with tokio's.
    pub fn driven(start: Timestamp) -> Self {
        Self::Driven {
            start,
            at: Instant::now(),
        }
    }

    /// What time it is. Beyond the last time that can be told, that one.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Driven { start, at } => later(*start, at.elapsed()),
        }
    }
}

/// The time so much later, or the last one that can be told.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The time so many seconds later.
pub(crate) fn seconds_later(time: Timestamp, seconds: impl Into<i64>) -> Timestamp {
    let by = SignedDuration::from_secs(seconds.into());
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is from `now` until `then`; nothing if that is over.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}

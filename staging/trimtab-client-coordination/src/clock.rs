//! What time it is, for all that writes times into objects and compares with them: the machine's, or one that tests drive.

use std::cell::Cell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use tokio::time::Instant;

thread_local! {
    /// What [`Clock::System`] is on this thread, where a test drives it.
    static DRIVEN: Cell<Option<(Timestamp, Instant)>> = const { Cell::new(None) };
}

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The machine's; on a thread whose time is [driven](Clock::drive), that one.
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

/// Time is driven on the thread where this was made, until it is dropped there.
#[derive(Debug)]
#[must_use = "time is the machine's again when it is dropped"]
pub struct Driving {
    since: (Timestamp, Instant),
    before: Option<(Timestamp, Instant)>,
}

// === impl Clock ===

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
        let (start, at) = match self {
            Self::System => match DRIVEN.get() {
                Some(driven) => driven,
                None => return Timestamp::now(),
            },
            Self::Driven { start, at } => (*start, *at),
        };
        later(start, at.elapsed())
    }

    /// How long it is until then; nothing if that is over.
    pub fn until(&self, then: Timestamp) -> Duration {
        until(then, self.now())
    }

    /// Has [`Clock::System`] be this clock on the current thread, for tests on a runtime of one thread: then all that asks for
    /// the time there follows, however it was made. Of several on one thread the last one counts.
    pub fn drive(self) -> Driving {
        let since = match self {
            Self::System => (self.now(), Instant::now()),
            Self::Driven { start, at } => (start, at),
        };
        let before = DRIVEN.replace(Some(since));
        Driving { since, before }
    }
}

// === impl Driving ===

impl Drop for Driving {
    fn drop(&mut self) {
        if DRIVEN.get() == Some(self.since) {
            DRIVEN.set(self.before);
        }
    }
}

/// The time so much later, or the last one that can be told.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The time so many seconds later, or the last one that can be told.
pub fn seconds_later(time: Timestamp, seconds: impl Into<i64>) -> Timestamp {
    let by = SignedDuration::from_secs(seconds.into());
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is from `now` until `then`; nothing if that is over.
pub fn until(then: Timestamp, now: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}

/// As objects have it: whole seconds.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// As leases have it: microseconds.
pub fn micros(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn a_driven_thread_goes_by_tokios_time_until_nobody_drives_it() {
        let (early, late) = (Timestamp::UNIX_EPOCH, later(Timestamp::UNIX_EPOCH, 1000 * DAY));
        let is_real =
            || until(Clock::System.now(), Timestamp::now()) == Duration::ZERO && Clock::System.now() > late;
        assert!(is_real());
        let driving = Clock::driven(early).drive();
        tokio::time::advance(DAY).await;
        assert_eq!(Clock::System.now(), later(early, DAY));
        assert_eq!(Clock::default().until(later(early, 3 * DAY)), 2 * DAY);
        let other = Clock::driven(late).drive();
        assert_eq!(Clock::System.now(), late, "the last one counts");
        assert!(
            std::thread::spawn(move || Clock::System.now() > late)
                .join()
                .expect("a time")
        );
        drop(other);
        assert_eq!(Clock::System.now(), later(early, DAY));
        drop(driving);
        assert!(is_real());
    }

    #[test]
    fn time_ends_where_it_cannot_be_told() {
        assert_eq!(later(Timestamp::MAX, DAY), Timestamp::MAX);
        assert_eq!(seconds_later(Timestamp::MAX, 1), Timestamp::MAX);
        assert_eq!(until(Timestamp::MIN, Timestamp::MAX), Duration::ZERO);
    }
}

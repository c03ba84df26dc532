//! Cron schedules as `github.com/robfig/cron/v3` reads them, which Kubernetes uses: when they are due next, in a time zone.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use crate::workload::clock::later;

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// How far ahead a time is looked for: what is not due until then never is.
const YEARS: i16 = 5;

/// When something is due.
#[derive(Clone, Debug)]
pub(super) enum Schedule {
    /// At times of day.
    Fields(Box<Fields>),
    /// So long after the last time.
    Every(Duration),
}

/// What the parts of a time may be.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    zone: TimeZone,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// Some numbers below 64.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    bits: u64,
    /// Whether all of them are meant, in a word.
    all: bool,
}

/// A schedule or a time zone that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSchedule {
    #[error("unknown time zone {0}")]
    Zone(String),
    #[error("{0:?} is no schedule")]
    Text(String),
}

/// The time zone of this name.
pub(super) fn zone(name: &str) -> Result<TimeZone, NoSchedule> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        name => TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| NoSchedule::Zone(name.to_owned())),
    }
}

impl Schedule {
    /// Reads a schedule, which may name a time zone of its own.
    pub(super) fn parse(text: &str, in_zone: TimeZone) -> Result<Self, NoSchedule> {
        let wrong = || NoSchedule::Text(text.to_owned());
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let (in_zone, text) = match named {
            Some(named) => {
                let (name, rest) = named.split_once(' ').ok_or_else(wrong)?;
                (zone(name)?, rest.trim())
            }
            None => (in_zone, text),
        };
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            text => match text.strip_prefix("@every ") {
                Some(every) => {
                    let every = duration(every).ok_or_else(wrong)?;
                    return Ok(Self::Every(Duration::from_secs(every.as_secs().max(1))));
                }
                None => text,
            },
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(wrong());
        };
        let set = |part, bounds, names| Set::parse(part, bounds, names).ok_or_else(wrong);
        Ok(Self::Fields(Box::new(Fields {
            zone: in_zone,
            minutes: set(minutes, 0..=59, &[])?,
            hours: set(hours, 0..=23, &[])?,
            days: set(days, 1..=31, &[])?,
            months: set(months, 1..=12, MONTHS)?,
            weekdays: set(weekdays, 0..=6, DAYS)?,
        })))
    }

    /// The first time after this one at which it is due; none if it never is.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                Some(later(whole, *every))
            }
            Self::Fields(fields) => fields.next(after),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let next_minute = Timestamp::from_second((after.as_second().div_euclid(60) + 1) * 60).ok()?;
        let mut time = next_minute.to_zoned(self.zone.clone());
        let last_year = time.year().checked_add(YEARS)?;
        while time.year() <= last_year {
            time = if !self.months.has(time.month()) {
                let next = time.first_of_month().ok()?.checked_add(1.month()).ok()?;
                next.start_of_day().ok()?
            } else if !self.has_day(&time) {
                time.tomorrow().ok()?.start_of_day().ok()?
            } else if !self.hours.has(time.hour()) {
                let left = 60 - i64::from(time.minute());
                time.checked_add(SignedDuration::from_mins(left)).ok()?
            } else if !self.minutes.has(time.minute()) {
                time.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(time.timestamp());
            };
        }
        None
    }

    /// Of days of the month and of the week, both if one of them is any day, else one of them.
    fn has_day(&self, time: &Zoned) -> bool {
        let day = self.days.has(time.day());
        let weekday = self.weekdays.has(time.weekday().to_sunday_zero_offset());
        match self.days.all || self.weekdays.all {
            true => day && weekday,
            false => day || weekday,
        }
    }
}

impl Set {
    fn has(self, number: i8) -> bool {
        self.bits >> number & 1 == 1
    }

    fn parse(text: &str, bounds: RangeInclusive<u8>, names: &[&str]) -> Option<Self> {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (span, step) = match part.split_once('/') {
                Some((span, step)) => (span, Some(step.parse::<u8>().ok().filter(|step| *step > 0)?)),
                None => (part, None),
            };
            let number = |text: &str| -> Option<u8> {
                let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
                let named = named.and_then(|at| u8::try_from(at).ok());
                named.map_or_else(|| text.parse().ok(), |at| Some(bounds.start() + at))
            };
            let (first, last) = match span.split_once('-') {
                _ if matches!(span, "*" | "?") => {
                    set.all |= step.is_none_or(|step| step == 1);
                    (*bounds.start(), *bounds.end())
                }
                Some((first, last)) => (number(first)?, number(last)?),
                None if step.is_some() => (number(span)?, *bounds.end()),
                None => (number(span)?, number(span)?),
            };
            if first > last || !bounds.contains(&first) || !bounds.contains(&last) {
                return None;
            }
            for number in (first..=last).step_by(step.unwrap_or(1).into()) {
                set.bits |= 1 << number;
            }
        }
        Some(set)
    }
}

/// A duration as Go writes them, such as `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unit = rest.trim_start_matches(is_number);
        let amount: f64 = rest[..rest.len() - unit.len()].parse().ok()?;
        rest = unit.trim_start_matches(|c| !is_number(c));
        seconds += amount
            * match &unit[..unit.len() - rest.len()] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, in_zone: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule, zone(in_zone).expect("a zone")).expect("a schedule");
        let next = schedule.next(after.parse().expect("a time"));
        next.map_or("never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn schedules_are_due_when_they_say() {
        #[rustfmt::skip]
        let cases = [
            ("*/15 * * * *", "", "2012-07-09T14:45:00Z", "2012-07-09T15:00:00Z"),
            ("*/15 * * * *", "", "2012-07-09T14:59:59Z", "2012-07-09T15:00:00Z"),
            ("20-35/15 * * * *", "", "2012-07-09T15:45:00Z", "2012-07-09T16:20:00Z"),
            ("0 0 * feb mon", "", "2012-07-09T23:35:51Z", "2013-02-04T00:00:00Z"),
            ("0 0 29 Feb ?", "", "2012-07-09T23:35:00Z", "2016-02-29T00:00:00Z"),
            ("0 0 1,15 * sun", "", "2012-07-09T00:00:00Z", "2012-07-15T00:00:00Z"),
            ("0 0 13 * fri", "", "2012-07-09T00:00:00Z", "2012-07-13T00:00:00Z"),
            ("0 0 13 * fri", "", "2012-07-13T00:00:00Z", "2012-07-20T00:00:00Z"),
            ("0 0 */2 * sun", "", "2012-07-09T00:00:00Z", "2012-07-11T00:00:00Z"),
            ("0 0 31 apr ?", "", "2012-07-09T00:00:00Z", "never"),
            ("@hourly", "", "2012-07-09T14:45:00Z", "2012-07-09T15:00:00Z"),
            ("@every 1h30m", "", "2012-07-09T14:45:00.5Z", "2012-07-09T16:15:00Z"),
            ("0 9 * * *", "Europe/Berlin", "2024-01-10T12:00:00Z", "2024-01-11T08:00:00Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "", "2024-01-10T12:00:00Z", "2024-01-11T00:00:00Z"),
            // What the clocks leave out does not happen; what they have twice happens twice.
            ("30 2 * * *", "America/New_York", "2012-03-11T00:00:00-05:00", "2012-03-12T06:30:00Z"),
            ("30 1 * * *", "America/New_York", "2012-11-04T05:30:00Z", "2012-11-04T06:30:00Z"),
            ("0 * * * *", "America/New_York", "2012-03-11T01:59:00-05:00", "2012-03-11T07:00:00Z"),
        ];
        for (schedule, in_zone, after, expected) in cases {
            assert_eq!(
                next(schedule, in_zone, after),
                expected,
                "{schedule} {in_zone} after {after}"
            );
        }
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-3 * * * *",
            "*/0 * * * *",
            "@never",
            "@every x",
            "TZ=No/Where * * * * *",
        ] {
            assert!(Schedule::parse(wrong, TimeZone::UTC).is_err(), "{wrong}");
        }
        assert_eq!(
            zone("Nowhere").map(drop),
            Err(NoSchedule::Zone("Nowhere".to_owned()))
        );
    }
}

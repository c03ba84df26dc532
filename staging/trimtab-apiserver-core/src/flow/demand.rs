//! How many seats a priority level could use over a period: the highest, the average and the deviation of a number that
//! is told whenever it changes.

use std::time::Duration;

/// Part of the last figure that is kept each time; kube-apiserver's `seatDemandSmoothingCoefficient`: half of it is gone
/// after five minutes of periods of ten seconds.
const KEPT: f64 = 0.977;

/// The number over the current period. Times count from any fixed moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Integral {
    since: Duration,
    last: Duration,
    now: f64,
    max: f64,
    sum: f64,
    squares: f64,
}

/// What a period came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Period {
    lasted: f64,
    average: f64,
    deviation: f64,
    max: f64,
}

/// The demand for seats, period after period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Demand {
    pub(crate) average: f64,
    pub(crate) deviation: f64,
    /// The highest in the last period.
    pub(crate) high: u32,
    /// What limits follow: up at once, down slowly.
    pub(crate) smoothed: f64,
}

impl Integral {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            since: now,
            last: now,
            ..Self::default()
        }
    }

    /// The number is this from `now` on.
    pub(crate) fn set(&mut self, now: Duration, value: u32) {
        self.advance(now);
        self.now = f64::from(value);
        self.max = self.max.max(self.now);
    }

    /// Ends the period, and begins another with the number as it is.
    pub(crate) fn take(&mut self, now: Duration) -> Period {
        self.advance(now);
        let lasted = now.saturating_sub(self.since).as_secs_f64();
        let mut period = Period {
            lasted,
            max: self.max,
            ..Period::default()
        };
        if lasted > 0.0 {
            period.average = self.sum / lasted;
            let variance = self.squares / lasted - period.average * period.average;
            period.deviation = variance.max(0.0).sqrt();
        }
        *self = Self {
            now: self.now,
            max: self.now,
            ..Self::new(now)
        };
        period
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.sum += self.now * passed;
        self.squares += self.now * self.now * passed;
        self.last = self.last.max(now);
    }
}

impl Demand {
    /// Takes in what a period came to.
    pub(crate) fn update(&mut self, period: Period) {
        // Seats are counted in u32, so the highest fits.
        self.high = period.max.round() as u32;
        if period.lasted <= 0.0 {
            return;
        }
        self.average = period.average;
        self.deviation = period.deviation;
        let envelope = period.average + period.deviation;
        self.smoothed = envelope.max(KEPT * self.smoothed + (1.0 - KEPT) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_a_highest_an_average_and_a_deviation() {
        let at = Duration::from_secs;
        let mut number = Integral::new(at(10));
        number.set(at(10), 4);
        number.set(at(12), 8);
        number.set(at(14), 6);
        let mut demand = Demand::default();
        demand.update(number.take(at(14)));
        assert_eq!((demand.high, demand.average, demand.deviation), (8, 6.0, 2.0));
        assert!((demand.smoothed - 8.0).abs() < 1e-9, "up at once");
        number.set(at(14), 0);
        number.take(at(14));
        demand.update(number.take(at(24)));
        assert_eq!((demand.high, demand.average), (0, 0.0));
        assert!((demand.smoothed - 8.0 * KEPT).abs() < 1e-9, "down slowly");
        number.take(at(24));
        let before = demand;
        demand.update(number.take(at(24)));
        assert_eq!(demand, before, "a period without length says nothing");
    }
}

//! How long to wait after a failure: doubling up to a limit, with jitter, until something succeeds.

use std::time::Duration;

/// The state of one reflector's backoff. Nothing but a success resets it, so a server in trouble is left alone.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and says how long to wait: between once and twice the current step.
    pub(super) fn next(&mut self) -> Duration {
        let step = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(1.0 + fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_jitter_up_to_the_limit_and_begins_again_after_success() {
        let (first, max) = (Duration::from_millis(800), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, max);
        for round in 0..50 {
            let step = first.saturating_mul(2_u32.saturating_pow(round)).min(max);
            let delay = backoff.next();
            assert!(step <= delay && delay <= step * 2, "round {round}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first * 2);
    }
}

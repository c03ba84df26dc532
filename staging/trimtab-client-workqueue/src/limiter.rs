//! How long a key that failed waits: functions of the number of failures, which the queue counts for each key.
//!
//! A backoff that could not work is refused when it is built, with an error that names the value. Delays that overflow
//! saturate at the cap.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// The delay before the next attempt of a key that has failed.
pub trait Backoff: Send + Debug + 'static {
    /// The delay after `failures` failures in a row (at least 1). Called once for each failure, at `now`.
    fn delay(&mut self, failures: u32, now: Instant) -> Duration;
}

/// A rate limiter that cannot work: which value, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("{name} must be {must_be}, not {value}")]
pub struct InvalidLimiter {
    /// The name of the argument.
    pub name: &'static str,
    /// What it has to be.
    pub must_be: &'static str,
    /// What it was.
    pub value: String,
}

fn check(
    ok: bool,
    name: &'static str,
    must_be: &'static str,
    value: impl Debug,
) -> Result<(), InvalidLimiter> {
    if ok {
        return Ok(());
    }
    Err(InvalidLimiter {
        name,
        must_be,
        value: format!("{value:?}"),
    })
}

/// No delay at all: for tests, and for callers who delay by other means.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBackoff;

/// `base × 2^(failures − 1)`, at most `cap`. The default is 5 ms to 1000 s, as client-go's.
#[derive(Clone, Copy, Debug)]
pub struct Exponential {
    base: Duration,
    cap: Duration,
}

/// `fast` for the first failures, `slow` after them.
#[derive(Clone, Copy, Debug)]
pub struct FastSlow {
    fast: Duration,
    slow: Duration,
    attempts: u32,
}

/// A token bucket over all keys: the delay until a token is free. Each failure takes one.
#[derive(Clone, Debug)]
pub struct Bucket {
    interval: Duration,
    burst: u32,
    /// When the bucket would be full again if nothing more were taken.
    full_at: Option<Instant>,
}

/// The longest delay of several. All of them are asked, so a bucket among them loses a token each time.
#[derive(Debug)]
pub struct MaxOf(Vec<Box<dyn Backoff>>);

/// Another backoff, cut off at a longest delay.
#[derive(Debug)]
pub struct MaxWait<B> {
    inner: B,
    longest: Duration,
}

/// Another backoff's delay, made longer by a random part of itself, so that keys which failed together part.
#[derive(Debug)]
pub struct Jittered<B> {
    inner: B,
    fraction: f64,
}

// === impl NoBackoff ===

impl Backoff for NoBackoff {
    fn delay(&mut self, _: u32, _: Instant) -> Duration {
        Duration::ZERO
    }
}

// === impl Exponential ===

impl Exponential {
    /// Doubles from `base` up to `cap`.
    ///
    /// # Errors
    /// `base` is zero, or `cap` is less than `base`.
    pub fn new(base: Duration, cap: Duration) -> Result<Self, InvalidLimiter> {
        check(!base.is_zero(), "base", "more than zero", base)?;
        check(cap >= base, "cap", "at least the base", cap)?;
        Ok(Self { base, cap })
    }
}

impl Default for Exponential {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(5),
            cap: Duration::from_secs(1000),
        }
    }
}

impl Backoff for Exponential {
    fn delay(&mut self, failures: u32, _: Instant) -> Duration {
        2u32.checked_pow(failures.saturating_sub(1))
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.cap, |delay| delay.min(self.cap))
    }
}

// === impl FastSlow ===

impl FastSlow {
    /// `fast` for the first `attempts` failures of a key, then `slow`.
    ///
    /// # Errors
    /// `slow` is less than `fast`.
    pub fn new(fast: Duration, slow: Duration, attempts: u32) -> Result<Self, InvalidLimiter> {
        check(slow >= fast, "slow", "at least the fast delay", slow)?;
        Ok(Self { fast, slow, attempts })
    }
}

impl Backoff for FastSlow {
    fn delay(&mut self, failures: u32, _: Instant) -> Duration {
        if failures <= self.attempts {
            self.fast
        } else {
            self.slow
        }
    }
}

// === impl Bucket ===

impl Bucket {
    /// `rate` tokens each second, up to `burst` at once. client-go's default is 10 and 100.
    ///
    /// # Errors
    /// `rate` is not a positive finite number, or so small that one token takes longer than a duration can say; `burst`
    /// is zero.
    pub fn new(rate: f64, burst: u32) -> Result<Self, InvalidLimiter> {
        check(rate.is_finite() && rate > 0.0, "rate", "a positive number", rate)?;
        check(burst > 0, "burst", "more than zero", burst)?;
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default();
        check(
            !interval.is_zero(),
            "rate",
            "between one in a thousand years and a thousand million each second",
            rate,
        )?;
        Ok(Self {
            interval,
            burst,
            full_at: None,
        })
    }
}

impl Backoff for Bucket {
    fn delay(&mut self, _: u32, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let taken = full_at.checked_add(self.interval).unwrap_or(full_at);
        self.full_at = Some(taken);
        let capacity = self.interval.checked_mul(self.burst).unwrap_or(Duration::MAX);
        taken.duration_since(now).saturating_sub(capacity)
    }
}

// === impl MaxOf ===

impl MaxOf {
    /// The longest of `limiters`' delays.
    ///
    /// # Errors
    /// There are none.
    pub fn new(limiters: Vec<Box<dyn Backoff>>) -> Result<Self, InvalidLimiter> {
        check(!limiters.is_empty(), "limiters", "at least one", limiters.len())?;
        Ok(Self(limiters))
    }
}

impl Backoff for MaxOf {
    fn delay(&mut self, failures: u32, now: Instant) -> Duration {
        let delays = self.0.iter_mut().map(|limiter| limiter.delay(failures, now));
        delays.max().unwrap_or_default()
    }
}

// === impl MaxWait ===

impl<B: Backoff> MaxWait<B> {
    /// `inner`, but never longer than `longest`.
    pub fn new(inner: B, longest: Duration) -> Self {
        Self { inner, longest }
    }
}

impl<B: Backoff> Backoff for MaxWait<B> {
    fn delay(&mut self, failures: u32, now: Instant) -> Duration {
        self.inner.delay(failures, now).min(self.longest)
    }
}

// === impl Jittered ===

impl<B: Backoff> Jittered<B> {
    /// Adds a random part of the delay, from nothing up to `fraction` of it.
    ///
    /// # Errors
    /// `fraction` is not a number from 0 to 1.
    pub fn new(inner: B, fraction: f64) -> Result<Self, InvalidLimiter> {
        check(
            (0.0..=1.0).contains(&fraction),
            "fraction",
            "from 0 to 1",
            fraction,
        )?;
        Ok(Self { inner, fraction })
    }
}

impl<B: Backoff> Backoff for Jittered<B> {
    fn delay(&mut self, failures: u32, now: Instant) -> Duration {
        let delay = self.inner.delay(failures, now);
        let extra = delay.as_secs_f64() * self.fraction * fastrand::f64();
        delay.saturating_add(Duration::try_from_secs_f64(extra).unwrap_or_default())
    }
}

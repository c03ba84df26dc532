//! How long a lease lasts and how often it is renewed.

use std::time::Duration;

/// How much longer than its retry period a candidate may wait between two tries, as a part of it. client-go's figure.
pub(crate) const JITTER: f64 = 1.2;
/// What the holder leaves of its lease for clocks that run at different rates: a hundredth part.
const RATE_MARGIN: u32 = 100;
/// A request may take at least this long. controller-runtime's figure.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a lease lasts and how often it is renewed. The defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long after its last renewal a lease belongs to its holder. Whole seconds, from one on. Default: 15 seconds.
    pub lease_duration: Duration,
    /// For how long a holder tries to renew before it has its work end. Shorter than the lease duration; what is between
    /// them is the time in which the work can end by itself. Default: 10 seconds.
    pub renew_deadline: Duration,
    /// How often a holder renews; who does not hold the lease looks at it every one to 2.2 of these. Less than the renew
    /// deadline by a factor of 1.2. Default: 2 seconds.
    pub retry_period: Duration,
}

/// Why a timing cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTiming {
    /// A Lease counts in whole seconds, from one on.
    #[error("lease duration is {0:?}, and must be whole seconds from 1 to {max}", max = i32::MAX)]
    LeaseDuration(Duration),
    /// The work would be told to end after somebody else may have begun.
    #[error(
        "renew deadline is {renew_deadline:?}, and must be less than the lease duration of {lease_duration:?}"
    )]
    RenewDeadline {
        /// What was given.
        renew_deadline: Duration,
        /// What it must be less than.
        lease_duration: Duration,
    },
    /// There would be no second try within the renew deadline.
    #[error(
        "retry period is {retry_period:?}, and must be more than 0 and by a factor of {JITTER} less than the renew \
         deadline of {renew_deadline:?}"
    )]
    RetryPeriod {
        /// What was given.
        retry_period: Duration,
        /// What it must fit into.
        renew_deadline: Duration,
    },
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// Checks that the three fit together, as client-go does.
    ///
    /// # Errors
    /// [`InvalidTiming`] says which does not.
    pub fn validate(&self) -> Result<(), InvalidTiming> {
        let Self {
            lease_duration,
            renew_deadline,
            retry_period,
        } = *self;
        let seconds = lease_duration.as_secs();
        if lease_duration.subsec_nanos() > 0 || seconds == 0 || i32::try_from(seconds).is_err() {
            return Err(InvalidTiming::LeaseDuration(lease_duration));
        }
        if renew_deadline >= lease_duration {
            return Err(InvalidTiming::RenewDeadline {
                renew_deadline,
                lease_duration,
            });
        }
        if retry_period.is_zero() || renew_deadline.as_secs_f64() <= retry_period.as_secs_f64() * JITTER {
            return Err(InvalidTiming::RetryPeriod {
                retry_period,
                renew_deadline,
            });
        }
        Ok(())
    }

    /// The lease duration as a Lease has it.
    pub(crate) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)
    }

    /// How long a holder acts on one renewal: a little less than others wait.
    pub(crate) fn validity(&self) -> Duration {
        self.lease_duration - self.lease_duration / RATE_MARGIN
    }

    /// How long one request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        (self.renew_deadline / 2).max(LEAST_TIMEOUT)
    }

    /// How long to wait before the next look at somebody else's lease.
    pub(crate) fn jittered_retry(&self) -> Duration {
        self.retry_period.mul_f64(fastrand::f64().mul_add(JITTER, 1.0))
    }
}

//! The flags that say what a server allows its clients, named as kube-apiserver's.

use std::time::Duration;

use clap::Args;

use crate::limits::{InFlight, Limits};
use crate::registry::duration;

/// The flags of a server's limits.
#[derive(Clone, Debug, Args)]
pub struct LimitOptions {
    /// Whether requests are let in by priority and fairness, which shares out the sum of the two limits in flight; otherwise
    /// each is a limit of its own
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_priority_and_fairness: bool,

    /// How many requests that only read are answered at the same time; 0 for no limit
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: u32,

    /// How many requests that write are answered at the same time; 0 for no limit
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: u32,

    /// How long a request may take that is no watch, as Go writes durations
    #[arg(long, default_value = "1m0s", value_parser = positive, value_name = "DURATION")]
    pub request_timeout: Duration,

    /// How many seconds a watch lasts at least whose client does not say how long
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    pub min_request_timeout: u64,

    /// How many requests a client may have open on one HTTP/2 connection; 0 for 250
    #[arg(long, default_value_t = 0)]
    pub http2_max_streams_per_connection: u32,
}

impl LimitOptions {
    /// The limits that they describe.
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            in_flight: InFlight {
                reading: self.max_requests_inflight,
                mutating: self.max_mutating_requests_inflight,
                fair: self.enable_priority_and_fairness,
            },
            request_timeout: self.request_timeout,
            min_request_timeout: Duration::from_secs(self.min_request_timeout),
            http2_max_streams: match self.http2_max_streams_per_connection {
                0 => usual.http2_max_streams,
                some => some,
            },
            ..usual
        }
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    let some = duration(text).filter(|duration| !duration.is_zero());
    some.ok_or_else(|| "a duration above zero is wanted, as 90s, 5m or 1h30m".to_owned())
}

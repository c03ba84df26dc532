//! Somebody's lease as this process has seen it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

/// A record and when it was seen to change, by this process' clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) spec: LeaseSpec,
    /// When the answer came in which the record was another one than before.
    pub(crate) changed: Instant,
}

/// Who holds the lease. A released Lease has no holder, or in older forms an empty one.
pub(crate) fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

impl Observed {
    /// What is known after an answer that came at `now`: the record counts as renewed if it is not the same as before.
    pub(crate) fn after(before: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        match before {
            Some(same) if same.spec == spec => same,
            _ => Self { spec, changed: now },
        }
    }

    /// Until when the record is in force. One that does not say how long it lasts is given `otherwise`.
    pub(crate) fn in_force_until(&self, otherwise: Duration) -> Instant {
        let seconds = self.spec.lease_duration_seconds;
        let lasts = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.changed + lasts.map_or(otherwise, Duration::from_secs)
    }
}

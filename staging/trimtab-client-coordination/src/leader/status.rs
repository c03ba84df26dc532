//! Who leads, for metrics, health checks and people.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::lease::{Sight, Validity, Witness, holder, transitions};

/// Who leads, as a candidate saw it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether this candidate leads: its work has begun and has not ended. The metric `leader_election_master_status`.
    pub is_leader: bool,
    /// Who holds the lease; none if nobody does, or before the first look.
    pub holder: Option<String>,
    /// How often the lease has had another holder.
    pub transitions: u64,
    /// Since when the holder has it, by the holder's own clock.
    pub since: Option<Timestamp>,
    /// How often a renewal needed more than one request. The metric `leader_election_slowpath_total`.
    pub slow_renewals: u64,
    /// What failed last, if nothing has succeeded since.
    pub trouble: Option<String>,
}

/// Reads a candidate's status while it runs and after. Clones are the same.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    status: watch::Receiver<Inner>,
    lease_duration: Duration,
}

/// A candidate that leads has not renewed its lease for so long that it cannot be working as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "leader has not renewed its lease for {unrenewed_for:?}, the lease lasts for {lease_duration:?}: the process hangs"
)]
pub struct Unhealthy {
    /// How long ago the last renewal that succeeded was sent.
    pub unrenewed_for: Duration,
    /// How long the lease lasts.
    pub lease_duration: Duration,
}

/// Writes the status. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Teller(watch::Sender<Inner>);

#[derive(Clone, Debug, Default)]
struct Inner {
    status: Status,
    /// Of the leadership under way.
    validity: Option<Validity>,
}

// === impl Status ===

impl Status {
    fn saw(&mut self, sight: Sight<'_>) {
        match sight {
            Sight::Record(spec) => {
                self.holder = holder(spec).map(str::to_owned);
                self.transitions = u64::try_from(transitions(spec)).unwrap_or(0);
                self.since = spec.acquire_time.as_ref().map(|time| time.0);
                self.trouble = None;
            }
            Sight::Absent => {
                self.holder = None;
                self.trouble = None;
            }
            Sight::SlowRenewal => self.slow_renewals += 1,
            Sight::Trouble(error) => self.trouble = Some(error.to_string()),
        }
    }
}

// === impl StatusHandle ===

impl StatusHandle {
    /// The status now.
    pub fn snapshot(&self) -> Status {
        self.status.borrow().status.clone()
    }

    /// Waits until the status is another one than when this was last called on this handle. False: the elector is gone, and
    /// the status does not change any more. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }

    /// Whether the candidate does what it should. One that does not lead is always healthy, as one that loses the lease is;
    /// so this fails only when the process has not had a turn for the lease duration and `tolerance`, for example because the
    /// work blocks its thread.
    ///
    /// # Errors
    /// [`Unhealthy`] says for how long.
    pub fn health(&self, tolerance: Duration) -> Result<(), Unhealthy> {
        let validity = self.status.borrow().validity.clone();
        let renewed = validity.and_then(|validity| validity.renewed());
        let unrenewed_for = renewed.map(|renewed| renewed.elapsed()).unwrap_or_default();
        let lease_duration = self.lease_duration;
        if unrenewed_for > lease_duration + tolerance {
            return Err(Unhealthy {
                unrenewed_for,
                lease_duration,
            });
        }
        Ok(())
    }
}

// === impl Teller ===

impl Teller {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    pub(super) fn handle(&self, lease_duration: Duration) -> StatusHandle {
        StatusHandle {
            status: self.0.subscribe(),
            lease_duration,
        }
    }

    /// Keeps the status up to date with what is seen of the Lease.
    pub(super) fn witness(&self) -> Witness {
        let teller = self.clone();
        Witness::new(move |sight| teller.change(|inner| inner.status.saw(sight)))
    }

    /// Work begins; it has ended when what this returns is dropped.
    pub(super) fn leads(&self, validity: Validity) -> Leads<'_> {
        self.change(|inner| {
            inner.status.is_leader = true;
            inner.validity = Some(validity);
        });
        Leads(self)
    }

    /// Changes the status, and wakes those who wait if it is not what it was.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        self.0.send_if_modified(|inner| {
            let before = inner.status.clone();
            change(inner);
            inner.status != before
        });
    }
}

/// That work is under way.
#[derive(Debug)]
pub(super) struct Leads<'a>(&'a Teller);

impl Drop for Leads<'_> {
    fn drop(&mut self) {
        self.0.change(|inner| {
            inner.status.is_leader = false;
            if let Some(validity) = inner.validity.take() {
                validity.end();
            }
        });
    }
}

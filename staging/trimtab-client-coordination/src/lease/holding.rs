//! Holding one Lease: trying to acquire it, renewing it, releasing it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::{Instant, sleep, timeout};

use super::judge::{Verdict, is_ours, judge, transitions};
use super::{Leases, Observed, RequestError, Timing, Validity, WallClock};

/// Which Lease is to be held, by whom and how.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) identity: String,
    pub(crate) timing: Timing,
    pub(crate) if_deleted: IfDeleted,
}

/// What a holder does that finds its Lease deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfDeleted {
    /// Makes it anew and goes on. Those who knew it wait for that.
    MakeAnew,
    /// Takes the lease for lost.
    Lose,
}

/// One process' side of one Lease.
///
/// What is written passes through a `dress` on its way, which may add to it what is not the record's.
#[derive(Debug)]
pub(crate) struct Holding {
    leases: Leases,
    owner: Owner,
    pub(crate) clock: WallClock,
    witness: Witness,
    /// The record as it was seen last.
    seen: Option<Observed>,
    /// When the lease was acquired, and when the next try began, if it was not answered: with the identity, these say which
    /// records are this process' own. None of both once somebody else holds the lease.
    acquired: Option<MicroTime>,
    acquiring: Option<MicroTime>,
    /// Until when the Lease may be in this process' name, answers that were lost included.
    may_hold_until: Option<Instant>,
}

/// Is told what is seen.
#[derive(Clone)]
pub(crate) struct Witness(Arc<dyn Fn(Sight<'_>) + Send + Sync>);

/// What is seen of a Lease.
#[derive(Debug)]
pub(crate) enum Sight<'a> {
    /// It was read or written, and has this record.
    Record(&'a LeaseSpec),
    /// It is not there.
    Absent,
    /// A renewal needed more than one request.
    SlowRenewal,
    /// A request failed.
    Trouble(&'a RequestError),
}

/// A lease that was acquired.
#[derive(Debug)]
pub(crate) struct Term {
    /// As the server has it; renewals are written at its resource version.
    lease: Lease,
    pub(crate) validity: Validity,
    pub(crate) fencing_token: u64,
}

/// What came of trying to acquire the lease.
#[derive(Debug)]
pub(crate) enum Attempt {
    Acquired(Box<Term>),
    /// It belongs to somebody until then.
    Held(Instant),
    /// Somebody else was faster.
    Outdated,
}

/// What came of a renewal.
#[derive(Debug)]
pub(crate) enum Renewal {
    Renewed,
    /// The lease was not renewed, and is still held.
    Failed(RequestError),
    /// The lease is not this process' any more.
    Lost,
}

impl Witness {
    pub(crate) fn new(told: impl Fn(Sight<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl Holding {
    pub(crate) fn new(leases: Leases, owner: Owner, witness: Witness) -> Self {
        Self {
            leases,
            owner,
            clock: WallClock::system(),
            witness,
            seen: None,
            acquired: None,
            acquiring: None,
            may_hold_until: None,
        }
    }

    /// Looks at the Lease, and acquires it if it is free or its holder has not renewed it for as long as it lasts.
    ///
    /// Dropping the future leaves open whether the lease is held: [`Holding::release`] then finds out.
    pub(crate) async fn attempt(&mut self, dress: &Dress<'_>) -> Result<Attempt, RequestError> {
        let lease = self.leases.get(&self.owner.name).await?;
        let now = Instant::now();
        match &lease {
            Some(lease) => self.note(lease, now),
            None => (self.witness.0)(Sight::Absent),
        }
        let own = self.own();
        let transitions = match judge(self.seen.as_ref(), &own, &self.owner, now) {
            Verdict::Take(transitions) => transitions,
            Verdict::Wait(until) => {
                // The record is another one than before this process last tried, if it did: that try is void.
                (self.acquired, self.acquiring, self.may_hold_until) = (None, None, None);
                return Ok(Attempt::Held(until));
            }
        };
        let before = self
            .seen
            .as_ref()
            .and_then(|seen| seen.spec.acquire_time.as_ref());
        let unanswered = self.acquiring.clone();
        let acquiring = match &unanswered {
            Some(time) => time.clone(),
            None => self.clock.now_after(before),
        };
        self.acquiring = Some(acquiring.clone());
        let spec = self.record(lease.as_ref(), acquiring, transitions);
        let (sent, exists) = (self.sending(), lease.is_some());
        match self.write(lease, spec, dress).await {
            Ok(lease) => {
                self.note(&lease, Instant::now());
                self.acquired = self.acquiring.take();
                Ok(Attempt::Acquired(Box::new(Term {
                    lease,
                    validity: Validity::new(sent, self.owner.timing.validity()),
                    fencing_token: u64::try_from(transitions).unwrap_or(0),
                })))
            }
            // Where a new Lease finds nothing it is the namespace that is not there.
            Err(error) if error.is_outdated() && (exists || !error.is_not_found()) => {
                // Only a try without an answer may have been written.
                self.acquiring = unanswered;
                Ok(Attempt::Outdated)
            }
            Err(error) => Err(error),
        }
    }

    /// Renews the lease once. What failed may have been written all the same.
    ///
    /// Dropping the future leaves open whether it was.
    pub(crate) async fn renew(&mut self, term: &mut Term, dress: &Dress<'_>) -> Renewal {
        match self.renew_at(term, Some(term.lease.clone()), dress).await {
            Renewal::Failed(error) if error.is_outdated() => {}
            renewal => return renewal,
        }
        // An earlier answer was lost, somebody has labelled the Lease or deleted it, or it is not ours any more.
        (self.witness.0)(Sight::SlowRenewal);
        match self.leases.get(&self.owner.name).await {
            Ok(Some(lease)) if self.is_own(&lease) => self.renew_at(term, Some(lease), dress).await,
            Ok(Some(lease)) => {
                self.note(&lease, Instant::now());
                Renewal::Lost
            }
            Ok(None) if self.owner.if_deleted == IfDeleted::MakeAnew => {
                self.renew_at(term, None, dress).await
            }
            Ok(None) => Renewal::Lost,
            Err(error) => Renewal::Failed(error),
        }
    }

    /// Renews what was read last, or makes anew what was deleted.
    async fn renew_at(&mut self, term: &mut Term, lease: Option<Lease>, dress: &Dress<'_>) -> Renewal {
        let held = term.lease.spec.as_ref();
        let acquired = held.and_then(|spec| spec.acquire_time.clone());
        let transitions = held.map_or(0, transitions);
        let acquired = acquired.unwrap_or_else(|| self.clock.now_after(None));
        let spec = self.record(lease.as_ref(), acquired, transitions);
        let sent = self.sending();
        match self.write(lease, spec, dress).await {
            Ok(lease) if term.validity.renew(sent) => {
                self.note(&lease, Instant::now());
                term.lease = lease;
                Renewal::Renewed
            }
            Ok(_) => Renewal::Lost,
            Err(error) => Renewal::Failed(error),
        }
    }

    /// Gives the lease up if it is, or may be, this process' own. Ends when that is done, when the lease runs out, or after
    /// the renew deadline. What was written, if anything was.
    ///
    /// Dropping the future leaves the lease to run out.
    pub(crate) async fn release(&mut self, dress: &Dress<'_>) -> Option<Lease> {
        let until = self.may_hold_until.take()?;
        let left = until.saturating_duration_since(Instant::now());
        let left = left.min(self.owner.timing.renew_deadline);
        match timeout(left, self.try_release(dress)).await {
            Ok(released) => released,
            Err(_) => {
                tracing::warn!(lease = self.owner.name, "could not release the lease in time");
                None
            }
        }
    }

    async fn try_release(&mut self, dress: &Dress<'_>) -> Option<Lease> {
        loop {
            let released = match self.leases.get(&self.owner.name).await {
                Ok(Some(lease)) if self.is_own(&lease) => {
                    let now = self.clock.now_after(None);
                    let spec = LeaseSpec {
                        holder_identity: None,
                        lease_duration_seconds: Some(1),
                        acquire_time: Some(now.clone()),
                        renew_time: Some(now),
                        ..lease.spec.clone().unwrap_or_default()
                    };
                    self.write(Some(lease), spec, dress).await
                }
                Ok(Some(lease)) => {
                    self.note(&lease, Instant::now());
                    return None;
                }
                Ok(None) => {
                    (self.witness.0)(Sight::Absent);
                    return None;
                }
                Err(error) => Err(error),
            };
            match released {
                Ok(lease) => {
                    self.note(&lease, Instant::now());
                    (self.acquired, self.acquiring) = (None, None);
                    return Some(lease);
                }
                Err(error) if error.is_outdated() => {}
                Err(error) => {
                    self.tell(&error);
                    sleep(self.owner.timing.retry_period).await;
                }
            }
        }
    }

    /// How long to wait before the next look at the Lease.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Duration {
        let retry = self.owner.timing.jittered_retry();
        until.map_or(retry, |until| {
            retry.min(until.saturating_duration_since(Instant::now()))
        })
    }

    /// A request failed.
    pub(crate) fn tell(&self, error: &RequestError) {
        tracing::warn!(lease = self.owner.name, %error, "request for the lease failed");
        (self.witness.0)(Sight::Trouble(error));
    }

    /// Something is being sent that may make the Lease this process' own.
    fn sending(&mut self) -> Instant {
        let now = Instant::now();
        self.may_hold_until = Some(now + self.owner.timing.lease_duration);
        now
    }

    fn note(&mut self, lease: &Lease, now: Instant) {
        let spec = lease.spec.clone().unwrap_or_default();
        (self.witness.0)(Sight::Record(&spec));
        self.seen = Some(Observed::after(self.seen.take(), spec, now));
    }

    /// The times that mark records as this process' own.
    fn own(&self) -> Vec<&MicroTime> {
        self.acquired.iter().chain(&self.acquiring).collect()
    }

    pub(crate) fn is_own(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.is_some_and(|spec| is_ours(spec, &self.owner.identity, &self.own()))
    }

    /// A record of this process, renewed now. What else `lease` has is kept.
    fn record(&self, lease: Option<&Lease>, acquired: MicroTime, transitions: i32) -> LeaseSpec {
        let spec = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.owner.identity.clone()),
            lease_duration_seconds: Some(self.owner.timing.lease_seconds()),
            acquire_time: Some(acquired),
            renew_time: Some(self.clock.now_after(spec.renew_time.as_ref())),
            lease_transitions: Some(transitions),
            ..spec
        }
    }

    /// Writes the record to what was read, or to a new Lease.
    async fn write(
        &self,
        lease: Option<Lease>,
        spec: LeaseSpec,
        dress: &Dress<'_>,
    ) -> Result<Lease, RequestError> {
        let exists = lease.is_some();
        let mut lease = lease.unwrap_or_default();
        lease.metadata.name = Some(self.owner.name.clone());
        lease.spec = Some(spec);
        dress(&mut lease);
        match exists {
            true => self.leases.replace(&lease).await,
            false => self.leases.create(&lease).await,
        }
    }
}

/// Adds to a Lease what is not the record's.
pub(crate) type Dress<'a> = dyn Fn(&mut Lease) + Send + Sync + 'a;

/// Adds nothing.
pub(crate) fn plain(_: &mut Lease) {}

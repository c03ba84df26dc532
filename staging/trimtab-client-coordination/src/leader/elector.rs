//! Campaigns for the lease, has the work done while it is held, and ends it before others may begin.

use std::pin::pin;
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::status::Teller;
use super::{ElectionConfig, InvalidElection, Leadership, StatusHandle, Timing};
use crate::lease::{Attempt, Holding, IfDeleted, Leases, Owner, Renewal, Term, plain};

/// A candidate for leadership. See the [module](super).
#[derive(Debug)]
pub struct Elector {
    holding: Holding,
    config: ElectionConfig,
    teller: Teller,
}

/// How work ended.
enum Ended<T> {
    /// With this, before it was told to.
    ByItself(T),
    /// With this, when it was told to.
    Told(T),
    /// It was dropped where it was.
    Dropped,
}

impl Elector {
    /// A candidate that does nothing until it runs.
    ///
    /// # Errors
    /// [`InvalidElection`] if `config` cannot work.
    pub fn new(client: Client, config: ElectionConfig) -> Result<Self, InvalidElection> {
        config.validate()?;
        let timeout = config.timing.request_timeout();
        let leases = Leases::new(client, config.namespace.as_deref(), timeout);
        let owner = Owner {
            name: config.name.clone(),
            identity: config.identity.clone(),
            timing: config.timing,
            if_deleted: IfDeleted::MakeAnew,
        };
        let teller = Teller::new();
        Ok(Self {
            holding: Holding::new(leases, owner, teller.witness()),
            config,
            teller,
        })
    }

    /// Who leads. The handle can be had before the run, read during it, and outlives it.
    pub fn status(&self) -> StatusHandle {
        self.teller.handle(self.config.timing.lease_duration)
    }

    /// Writes the times of another clock.
    #[cfg(test)]
    pub(crate) fn with_clock(mut self, clock: crate::lease::WallClock) -> Self {
        self.holding.clock = clock;
        self
    }

    /// Campaigns for the lease and has `lead` do the work while it is held, until `stop` or until the work ends by itself.
    ///
    /// Each time that the lease is acquired, `lead` is called and its future is driven, here and in no other task. When the
    /// work is to end, [`Leadership::stop`] is cancelled; if it has not ended when others could take the lease, or after the
    /// configured grace, it is dropped. If it was to end for want of a renewal, the candidate campaigns again, and what the
    /// work returned is dropped.
    ///
    /// Returns when the work has ended and the Lease is released, or when `stop` is cancelled while somebody else leads. A
    /// failure does not end the campaign: see [`Status::trouble`](super::Status::trouble). The value is what the work
    /// returned when it ended by itself or after `stop`; none if it was dropped then, or was not under way.
    ///
    /// Dropping the future drops the work and leaves the lease to run out; a panic of the work does the same.
    pub async fn run<T, Fut>(
        &mut self,
        stop: CancellationToken,
        mut lead: impl FnMut(Leadership) -> Fut,
    ) -> Option<T>
    where
        Fut: Future<Output = T>,
    {
        loop {
            let mut term = self.campaign(&stop).await?;
            let leadership = Leadership {
                fencing_token: term.fencing_token,
                stop: CancellationToken::new(),
                validity: term.validity.clone(),
            };
            tracing::info!(lease = self.config.name, token = term.fencing_token, "leading");
            let ended = self.lead(&mut term, &stop, leadership, &mut lead).await;
            let (output, by_itself) = match ended {
                Ended::ByItself(output) => (Some(output), true),
                Ended::Told(output) => (Some(output), false),
                Ended::Dropped => (None, false),
            };
            tracing::info!(
                lease = self.config.name,
                dropped = output.is_none(),
                "not leading any more"
            );
            if by_itself || stop.is_cancelled() {
                self.holding.release(&plain).await;
                return output;
            }
        }
    }

    /// Tries until the lease is acquired. None: `stop` came first, and the lease is not held.
    async fn campaign(&mut self, stop: &CancellationToken) -> Option<Box<Term>> {
        while !stop.is_cancelled() {
            // Not cut off by the stop: a request that was sent may acquire the lease, and then it is to be released.
            let wait = match self.holding.attempt(&plain).await {
                Ok(Attempt::Acquired(term)) if !stop.is_cancelled() => return Some(term),
                Ok(Attempt::Acquired(_) | Attempt::Outdated) => self.holding.wait(None),
                Ok(Attempt::Held(until)) => self.holding.wait(Some(until)),
                Err(error) => {
                    self.holding.tell(&error);
                    self.holding.wait(None)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        self.holding.release(&plain).await;
        None
    }

    /// Does the work until it ends or must.
    async fn lead<T, Fut>(
        &mut self,
        term: &mut Term,
        stop: &CancellationToken,
        leadership: Leadership,
        lead: &mut impl FnMut(Leadership) -> Fut,
    ) -> Ended<T>
    where
        Fut: Future<Output = T>,
    {
        let config = &self.config;
        let (grace, renew_deadline) = (config.grace, config.timing.renew_deadline);
        let (validity, tell) = (leadership.validity.clone(), leadership.stop.clone());
        // Whatever of the leadership is kept elsewhere is over with the work.
        let _tell_if_dropped = tell.clone().drop_guard();
        let _leads = self.teller.leads(validity.clone());
        let mut keep = pin!(keep(&mut self.holding, term, config.timing));
        let mut overdue = pin!(validity.overdue(renew_deadline));
        let mut work = pin!(validity.guard(lead(leadership)));
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                // Somebody else may work already.
                () = &mut keep => return Ended::Dropped,
                () = stop.cancelled(), if told.is_none() => {
                    told = Some(Instant::now());
                    tell.cancel();
                }
                () = &mut overdue, if told.is_none() => {
                    tracing::warn!("lease was not renewed in time: the work is to end");
                    told = Some(Instant::now());
                    tell.cancel();
                }
                () = grace_over(told, grace), if told.is_some() => return Ended::Dropped,
                output = &mut work => return match output {
                    Some(output) if told.is_some() => Ended::Told(output),
                    Some(output) => Ended::ByItself(output),
                    None => Ended::Dropped,
                },
            }
        }
    }
}

/// Renews the lease for ever; returns when it is somebody else's, or has run out.
async fn keep(holding: &mut Holding, term: &mut Term, timing: Timing) {
    let mut next = Instant::now() + timing.retry_period;
    loop {
        sleep_until(next).await;
        next = Instant::now() + timing.retry_period;
        match holding.renew(term, &plain).await {
            Renewal::Renewed => {}
            Renewal::Failed(error) => holding.tell(&error),
            Renewal::Lost => return,
        }
    }
}

async fn grace_over(told: Option<Instant>, grace: Duration) {
    match told {
        Some(told) => sleep_until(told + grace).await,
        None => std::future::pending().await,
    }
}

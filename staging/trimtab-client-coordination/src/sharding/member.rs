//! A member: holds its Lease, sees who else is there, and says which partitions are whose.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::assign::share;
use super::group::{CLAIMS, GROUP_LABEL, Group, LEAVING};
use super::partitions::Partitions;
use super::shards::{Inner, Seen};
use super::state::State;
use super::{InvalidMember, MemberConfig, Shards};
use crate::lease::{Attempt, Holding, IfDeleted, Leases, Owner, Renewal, RequestError, Sight, Term, Witness};

/// How much more often than it renews a member looks whether others have let go what it waits for.
const EAGER: u32 = 4;
/// For how many of their retry periods a Lease that was given up stays, for others to see. Who sees it deleted only cannot
/// tell whether its member works still.
const LINGER: f64 = 1.5;

/// A member of a group. See the [module](super).
#[derive(Debug)]
pub struct Member {
    holding: Holding,
    leases: Leases,
    config: MemberConfig,
    group: Group,
    /// Whether nobody else was there at the last look.
    alone: bool,
    shared: Arc<Inner>,
}

/// Why a round was not completed.
enum Failed {
    /// A request failed.
    ForNow(RequestError),
    /// The Lease is not the member's any more.
    LeaseLost,
}

impl Member {
    /// A member that owns nothing until it runs.
    ///
    /// # Errors
    /// [`InvalidMember`] if `config` cannot work.
    pub fn new(client: Client, config: MemberConfig) -> Result<Self, InvalidMember> {
        config.validate()?;
        let timing = config.timing;
        let leases = Leases::new(client, config.namespace.as_deref(), timing.request_timeout());
        let shared = Arc::new(Inner {
            state: Mutex::new(State::new(timing, config.grace)),
            seen: Mutex::new(Seen::default()),
            lease_duration: timing.lease_duration,
            gains: watch::Sender::new(()),
            drained: Notify::new(),
            timers: Notify::new(),
        });
        let owner = Owner {
            name: config.lease_name(),
            identity: config.identity.clone(),
            timing,
            if_deleted: IfDeleted::Lose,
        };
        Ok(Self {
            holding: Holding::new(leases.clone(), owner, witness(&shared)),
            leases,
            group: Group::new(config.lease_name(), timing.lease_duration),
            config,
            alone: true,
            shared,
        })
    }

    /// The member's partitions: for those who work on them, in any task.
    pub fn shards(&self) -> Shards {
        Shards(Arc::clone(&self.shared))
    }

    /// Writes the times of another clock.
    #[cfg(test)]
    pub(crate) fn with_clock(mut self, clock: crate::lease::WallClock) -> Self {
        self.holding.clock = clock;
        self
    }

    /// Joins the group, shares its keys with whoever else is in it, and leaves it at `stop`: all work in hand is told to end,
    /// what has ended is handed on at once, and when all has ended the member's Lease is deleted.
    ///
    /// Returns when that is done, or some time after the grace if holds are not dropped. A failure does not end membership:
    /// see [`Status::trouble`](super::Status::trouble).
    ///
    /// Dropping the future leaves the member's lease to run out. Work in hand is told to end and may go on until then.
    pub async fn run(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            () = keep_time(&shared) => {}
            () = self.live(&stop) => {}
        }
    }

    async fn live(&mut self, stop: &CancellationToken) {
        let retry = self.config.timing.retry_period;
        let mut term: Option<Box<Term>> = None;
        let mut leave_by: Option<Instant> = None;
        let mut due = Instant::now();
        loop {
            if stop.is_cancelled() && leave_by.is_none() {
                let now = Instant::now();
                self.shared.change(|state| state.plan(Partitions::NONE, now));
                leave_by = Some(now + self.config.grace + retry);
                due = now; // others can plan without this member from now on
            }
            if term.as_ref().is_some_and(|term| !term.validity.is_valid()) {
                self.shared.change(State::lapse);
                term = None;
            }
            let Some(held) = &mut term else {
                if leave_by.is_some() {
                    return self.leave().await;
                }
                term = self.join(stop).await;
                due = Instant::now() + retry;
                continue;
            };
            if let Some(by) = leave_by {
                if self.shared.state.lock().claims().is_empty() {
                    return self.leave().await;
                }
                if by <= Instant::now() {
                    tracing::warn!("work of the shard member has not ended: its lease is left to run out");
                    return;
                }
            }
            let next = match self.round(held, &mut due, leave_by.is_some()).await {
                Ok(()) => self.next_step(due),
                Err(Failed::ForNow(error)) => {
                    self.holding.tell(&error);
                    due
                }
                Err(Failed::LeaseLost) => {
                    self.shared.change(State::lapse);
                    term = None;
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled(), if leave_by.is_none() => {}
                () = self.shared.drained.notified() => {}
                () = sleep_until(leave_by.map_or(next, |by| by.min(next))) => {}
            }
        }
    }

    /// Tries once to make the Lease this member's, with nothing in it, and waits if it is not.
    async fn join(&mut self, stop: &CancellationToken) -> Option<Box<Term>> {
        let dress = dress(&self.config.group, Partitions::NONE, false);
        let wait = match self.holding.attempt(&dress).await {
            Ok(Attempt::Acquired(term)) => {
                let validity = term.validity.clone();
                self.shared.change(|state| state.join(validity));
                return Some(term);
            }
            Ok(Attempt::Held(until)) => self.holding.wait(Some(until)),
            Ok(Attempt::Outdated) => self.holding.wait(None),
            Err(error) => {
                self.holding.tell(&error);
                self.holding.wait(None)
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep(wait) => {}
        }
        None
    }

    /// Writes what is to be written, then sees who else is there. In this order: of two who want the same partition, one reads
    /// after both have written.
    async fn round(&mut self, term: &mut Term, due: &mut Instant, leaving: bool) -> Result<(), Failed> {
        let now = Instant::now();
        let unpublished = self.shared.state.lock().is_unpublished();
        if unpublished || *due <= now {
            *due = now + self.config.timing.retry_period;
            match self.publish(term, leaving).await {
                Renewal::Renewed => {}
                Renewal::Failed(error) => return Err(Failed::ForNow(error)),
                Renewal::Lost => return Err(Failed::LeaseLost),
            }
        }
        match leaving {
            true => Ok(()),
            false => self.look().await.map_err(Failed::ForNow),
        }
    }

    /// Renews the Lease and says in it where this member may work.
    async fn publish(&mut self, term: &mut Term, leaving: bool) -> Renewal {
        let claims = self.shared.change(State::publishing);
        let dress = dress(&self.config.group, claims, leaving);
        let renewal = self.holding.renew(term, &dress).await;
        if matches!(renewal, Renewal::Renewed) {
            self.shared.change(|state| state.publish(claims));
        }
        renewal
    }

    /// Sees who else is there, plans by that, and begins with what nobody else may work on.
    async fn look(&mut self) -> Result<(), RequestError> {
        let asked = Instant::now();
        let list = self.leases.list(GROUP_LABEL, &self.config.group).await?;
        self.group.note(list, asked, Instant::now());
        self.alone = self.group.is_alone(asked);
        let mut members = self.group.live(asked);
        members.insert(self.config.identity.clone());
        let target = share(&members, &self.config.identity);
        let others = self.group.claims(asked);
        let gained = self.shared.change(|state| {
            state.plan(target, Instant::now());
            state.confirm(others)
        });
        if !gained.is_empty() {
            let members = members.len();
            tracing::info!(group = self.config.group, ?gained, members, "gained partitions");
        }
        self.shared.seen.lock().members = members.into_iter().collect();
        let remains = self.group.remains(asked);
        if let Some(remains) = remains {
            match self.leases.delete(remains).await {
                Err(error) if !error.is_outdated() => return Err(error),
                _ => {} // it is gone, or its member has come back
            }
        }
        Ok(())
    }

    /// When to go on after a round in which nothing failed.
    fn next_step(&self, due: Instant) -> Instant {
        let state = self.shared.state.lock();
        let now = Instant::now();
        if state.is_unpublished() {
            now
        } else if state.is_waiting() {
            due.min(now + self.config.timing.retry_period / EAGER)
        } else {
            due
        }
    }

    /// Gives up the Lease, which says that nothing is in hand any more, and deletes it when others have had time to see that.
    async fn leave(&mut self) {
        let dress = dress(&self.config.group, Partitions::NONE, true);
        let Some(released) = self.holding.release(&dress).await else {
            return;
        };
        self.shared.change(State::lapse);
        if !self.alone {
            sleep(self.config.timing.retry_period.mul_f64(LINGER)).await;
        }
        match self.leases.delete(&released).await {
            Err(error) if !error.is_outdated() => {
                tracing::warn!(%error, "could not delete the lease of a shard member that has left");
            }
            _ => {}
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.change(State::abandon);
    }
}

/// Does what is due, for ever.
async fn keep_time(shared: &Inner) {
    loop {
        let next = shared.state.lock().tick(Instant::now());
        let due = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = due => {}
            () = shared.timers.notified() => {}
        }
    }
}

fn witness(shared: &Arc<Inner>) -> Witness {
    let shared = Arc::clone(shared);
    Witness::new(move |sight| {
        let trouble = match sight {
            Sight::Record(_) | Sight::Absent => None,
            Sight::SlowRenewal => return,
            Sight::Trouble(error) => Some(error.to_string()),
        };
        shared.seen.lock().trouble = trouble;
    })
}

fn dress(group: &str, claims: Partitions, leaving: bool) -> impl Fn(&mut Lease) {
    let (group, claims) = (group.to_owned(), claims.to_hex());
    move |lease| {
        let labels = lease.metadata.labels.get_or_insert_default();
        labels.insert(GROUP_LABEL.to_owned(), group.clone());
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(CLAIMS.to_owned(), claims.clone());
        match leaving {
            true => annotations.insert(LEAVING.to_owned(), "true".to_owned()),
            false => annotations.remove(LEAVING),
        };
    }
}

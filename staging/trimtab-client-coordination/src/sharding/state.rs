//! What a member has of the partitions, and what may happen to them. Knows no server and no task.
//!
//! A partition is free; or *claimed*, which others are told in the Lease, and not worked on yet; or *owned*, and worked on;
//! or *yielding*: no work begins on it, and it goes when what is in hand has ended. Others are told of all three, and no
//! longer when it is free again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::partitions::{PARTITIONS, Partitions};
use crate::lease::{Timing, Validity};

#[derive(Debug)]
pub(super) struct State {
    timing: Timing,
    grace: Duration,
    claimed: Partitions,
    owned: Partitions,
    yielding: Partitions,
    /// What the Lease says for certain: what was written last, less what was left out of writes of which nothing is known.
    published: Partitions,
    /// While the member's Lease is its own.
    tenure: Option<Tenure>,
    /// How many tenures there have been: tells holds of an earlier one.
    tenures: u64,
    /// Whether the Lease was not renewed for so long that no work may begin.
    suspended: bool,
    /// Work in hand, of this tenure.
    hands: BTreeMap<u8, Hand>,
    /// Counts gains; and at which count each partition was gained last.
    gains: u64,
    gained: Box<[u64; PARTITIONS]>,
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Tenure {
    number: u64,
    validity: Validity,
}

/// The work in hand of one partition.
#[derive(Debug)]
struct Hand {
    holds: usize,
    stop: CancellationToken,
    cut: CancellationToken,
    /// When it was told to end since its partition is to go.
    told: Option<Instant>,
}

/// What a piece of work is given.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) tenure: u64,
    pub(super) partition: u8,
    pub(super) stop: CancellationToken,
    pub(super) cut: CancellationToken,
    pub(super) validity: Validity,
}

impl State {
    pub(super) fn new(timing: Timing, grace: Duration) -> Self {
        Self {
            timing,
            grace,
            claimed: Partitions::NONE,
            owned: Partitions::NONE,
            yielding: Partitions::NONE,
            published: Partitions::NONE,
            tenure: None,
            tenures: 0,
            suspended: false,
            hands: BTreeMap::new(),
            gains: 0,
            gained: Box::new([0; PARTITIONS]),
            ended: false,
        }
    }

    /// The Lease is the member's, and says that it has nothing.
    pub(super) fn join(&mut self, validity: Validity) {
        self.lapse();
        self.tenures += 1;
        self.tenure = Some(Tenure {
            number: self.tenures,
            validity,
        });
    }

    /// The Lease is not the member's any more, or may not be: it has nothing.
    pub(super) fn lapse(&mut self) {
        for hand in std::mem::take(&mut self.hands).into_values() {
            hand.stop.cancel();
            hand.cut.cancel();
        }
        if let Some(tenure) = self.tenure.take() {
            tenure.validity.end();
        }
        (self.claimed, self.owned, self.yielding) = (Partitions::NONE, Partitions::NONE, Partitions::NONE);
        (self.published, self.suspended) = (Partitions::NONE, false);
    }

    /// The member stops without more ado. What is in hand is told, and may end while the Lease lasts.
    pub(super) fn abandon(&mut self) {
        self.hands.values().for_each(|hand| hand.stop.cancel());
        (self.claimed, self.owned) = (Partitions::NONE, Partitions::NONE);
        self.ended = true;
    }

    /// The member is to have these partitions and no others.
    pub(super) fn plan(&mut self, target: Partitions, now: Instant) {
        if self.tenure.is_none() {
            return;
        }
        self.yielding = self.yielding | (self.owned - target);
        self.owned = self.owned & target;
        let yielding = self.yielding;
        for partition in yielding.iter() {
            match self.hands.get_mut(&partition) {
                Some(hand) => {
                    hand.told.get_or_insert(now);
                    hand.stop.cancel();
                }
                None => self.yielding.remove(partition),
            }
        }
        self.claimed = target - self.owned - self.yielding;
    }

    /// What others are to be told.
    pub(super) fn claims(&self) -> Partitions {
        self.claimed | self.owned | self.yielding
    }

    /// Whether others have not been told all of it.
    pub(super) fn is_unpublished(&self) -> bool {
        self.claims() != self.published
    }

    /// Whether there is something that others have still to let go.
    pub(super) fn is_waiting(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// The claims are being written to the Lease: what they leave out may be gone from it from now on.
    pub(super) fn publishing(&mut self) -> Partitions {
        let claims = self.claims();
        self.published = self.published & claims;
        claims
    }

    /// These claims were written, and the Lease was renewed with them.
    pub(super) fn publish(&mut self, claims: Partitions) {
        self.published = claims;
        if std::mem::take(&mut self.suspended) {
            self.gain(self.owned);
        }
    }

    /// By a list that was asked for after the last write, others may work on these. What they do not, the member owns.
    pub(super) fn confirm(&mut self, others: Partitions) -> Partitions {
        let confirmed = (self.claimed & self.published) - others;
        let Some(tenure) = &self.tenure else {
            return Partitions::NONE;
        };
        if !tenure.validity.is_valid() || self.suspended {
            return Partitions::NONE;
        }
        self.claimed = self.claimed - confirmed;
        self.owned = self.owned | confirmed;
        self.gain(confirmed);
        confirmed
    }

    /// Does what is due, and says when to look again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let tenure = self.tenure.as_ref()?;
        let renewed = tenure.validity.renewed();
        let Some(renewed) = renewed.filter(|_| tenure.validity.is_valid()) else {
            self.lapse();
            return None;
        };
        let (told, over) = (renewed + self.renew_deadline(), renewed + self.timing.validity());
        if now >= told && !self.suspended {
            tracing::warn!("lease of the shard member was not renewed in time: no work begins");
            self.suspended = true;
            self.hands.values().for_each(|hand| hand.stop.cancel());
        }
        let mut next = if self.suspended { over } else { told };
        for hand in self.hands.values() {
            let cut = hand.told.map(|told| told + self.grace);
            match cut.filter(|_| !hand.cut.is_cancelled()) {
                Some(cut) if cut <= now => hand.cut.cancel(),
                Some(cut) => next = next.min(cut),
                None => {}
            }
        }
        Some(next)
    }

    /// Whether work on this partition may begin.
    pub(super) fn owns(&self, partition: u8, now: Instant) -> bool {
        let renewed = self.tenure.as_ref().and_then(|tenure| tenure.validity.renewed());
        let fresh = renewed.is_some_and(|renewed| now < renewed + self.renew_deadline());
        fresh && !self.suspended && self.owned.contains(partition)
    }

    /// Begins work on this partition if that may be.
    pub(super) fn hold(&mut self, partition: u8, now: Instant) -> Option<Hold> {
        if !self.owns(partition, now) {
            return None;
        }
        let tenure = self.tenure.as_ref()?;
        let hand = self.hands.entry(partition).or_insert_with(|| Hand {
            holds: 0,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            told: None,
        });
        if hand.stop.is_cancelled() {
            // What was told to end while the member was suspended is to end still; this is not.
            hand.stop = CancellationToken::new();
        }
        hand.holds += 1;
        Some(Hold {
            tenure: tenure.number,
            partition,
            stop: hand.stop.clone(),
            cut: hand.cut.clone(),
            validity: tenure.validity.clone(),
        })
    }

    /// Work has ended. True: it was the last on a partition that is to go.
    pub(super) fn let_go(&mut self, tenure: u64, partition: u8) -> bool {
        if self.tenure.as_ref().is_none_or(|now| now.number != tenure) {
            return false;
        }
        let Some(hand) = self.hands.get_mut(&partition) else {
            return false;
        };
        hand.holds -= 1;
        if hand.holds > 0 {
            return false;
        }
        self.hands.remove(&partition);
        let yielded = self.yielding.contains(partition);
        self.yielding.remove(partition);
        yielded
    }

    pub(super) fn owned(&self) -> Partitions {
        self.owned
    }

    pub(super) fn claimed(&self) -> Partitions {
        self.claimed
    }

    pub(super) fn yielding(&self) -> Partitions {
        self.yielding
    }

    pub(super) fn validity(&self) -> Option<&Validity> {
        self.tenure.as_ref().map(|tenure| &tenure.validity)
    }

    /// What is owned now and was gained after the count was `seen`, and the count now.
    pub(super) fn gained_after(&self, seen: u64) -> (Partitions, u64) {
        if self.suspended {
            return (Partitions::NONE, seen);
        }
        let gained = |partition: &u8| self.gained[usize::from(*partition)] > seen;
        (self.owned.iter().filter(gained).collect(), self.gains)
    }

    fn gain(&mut self, partitions: Partitions) {
        if partitions.is_empty() {
            return;
        }
        self.gains += 1;
        for partition in partitions.iter() {
            self.gained[usize::from(partition)] = self.gains;
        }
    }

    /// For how long after a renewal work may begin.
    fn renew_deadline(&self) -> Duration {
        self.timing.renew_deadline.min(self.timing.validity())
    }
}

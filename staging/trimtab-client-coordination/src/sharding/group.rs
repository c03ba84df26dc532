//! The other members of a group, as this one sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::partitions::Partitions;
use crate::lease::{Observed, holder};

/// The group that a member's Lease is of.
pub const GROUP_LABEL: &str = "trimtab.dev/shard-group";
/// The partitions in which a member may work, or wants to, in its Lease.
pub(super) const CLAIMS: &str = "trimtab.dev/shard-claims";
/// That a member is to be given nothing any more, in its Lease.
pub(super) const LEAVING: &str = "trimtab.dev/shard-leaving";

/// For how long the Lease of a member that is gone is kept. Nobody waits for it; it is there for people to look at.
pub(super) const KEPT: Duration = Duration::from_secs(60 * 60);

/// The others. What they have is taken from a list, of which two times matter: when it was asked for, and when the answer
/// came. Whoever has renewed before the first is in it; and nobody can have seen it before the second.
#[derive(Debug)]
pub(super) struct Group {
    /// The name of this member's own Lease, which is no other's.
    own: String,
    /// For how long a Lease lasts that does not say so.
    lease_duration: Duration,
    peers: BTreeMap<String, Peer>,
}

#[derive(Debug)]
struct Peer {
    lease: Lease,
    record: Observed,
    /// When the first list came in which its Lease was missing. Unless it had no claims it may not know yet.
    missing: Option<Instant>,
}

impl Group {
    pub(super) fn new(own: String, lease_duration: Duration) -> Self {
        Self {
            own,
            lease_duration,
            peers: BTreeMap::new(),
        }
    }

    /// Takes note of a list that was asked for at `asked` and came at `answered`.
    pub(super) fn note(&mut self, list: Vec<Lease>, asked: Instant, answered: Instant) {
        let mut listed = BTreeSet::new();
        for lease in list {
            let name = lease.metadata.name.clone().unwrap_or_default();
            if name == self.own {
                continue;
            }
            // One that was missing is another one.
            let before = self.peers.remove(&name).filter(|peer| peer.missing.is_none());
            let spec = lease.spec.clone().unwrap_or_default();
            let peer = Peer {
                lease,
                record: Observed::after(before.map(|peer| peer.record), spec, answered),
                missing: None,
            };
            self.peers.insert(name.clone(), peer);
            listed.insert(name);
        }
        let lease_duration = self.lease_duration;
        self.peers.retain(|name, peer| {
            if listed.contains(name) {
                return true;
            }
            peer.missing.get_or_insert(answered);
            !peer.claims().is_empty() && asked < peer.in_force_until(lease_duration)
        });
    }

    /// Who is to have partitions, by what was asked for at `asked`.
    pub(super) fn live(&self, asked: Instant) -> BTreeSet<String> {
        let peers = self.in_force(asked);
        let peers = peers.filter(|peer| peer.missing.is_none() && !peer.is_leaving());
        peers
            .filter_map(|peer| holder(&peer.record.spec).map(str::to_owned))
            .collect()
    }

    /// Where others may work, by what was asked for at `asked`.
    pub(super) fn claims(&self, asked: Instant) -> Partitions {
        let peers = self.in_force(asked);
        peers.fold(Partitions::NONE, |claims, peer| claims | peer.claims())
    }

    /// Whether nobody else is there, who would have to be told something.
    pub(super) fn is_alone(&self, asked: Instant) -> bool {
        self.in_force(asked).next().is_none()
    }

    /// The Lease of somebody who has been gone for long.
    pub(super) fn remains(&self, asked: Instant) -> Option<&Lease> {
        let gone =
            |peer: &&Peer| peer.missing.is_none() && peer.in_force_until(self.lease_duration) + KEPT <= asked;
        self.peers.values().find(gone).map(|peer| &peer.lease)
    }

    fn in_force(&self, asked: Instant) -> impl Iterator<Item = &Peer> {
        let in_force = move |peer: &&Peer| asked < peer.in_force_until(self.lease_duration);
        self.peers.values().filter(in_force)
    }
}

impl Peer {
    /// Until when it may work, however it is.
    fn in_force_until(&self, otherwise: Duration) -> Instant {
        let until = self.record.in_force_until(otherwise);
        match self.missing {
            // It may have renewed just before its Lease was deleted.
            Some(missing) => missing + (until - self.record.changed),
            None => until,
        }
    }

    /// What it may work on; all, if that cannot be read.
    fn claims(&self) -> Partitions {
        let annotations = self.lease.metadata.annotations.as_ref();
        let claims = annotations.and_then(|annotations| annotations.get(CLAIMS));
        claims.map_or(Partitions::NONE, |claims| {
            Partitions::from_hex(claims).unwrap_or(Partitions::ALL)
        })
    }

    fn is_leaving(&self) -> bool {
        let annotations = self.lease.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(LEAVING))
    }
}

//! What an operator asks of one member of etcd: who is in the cluster, how it is, a snapshot.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::client::Client;
use super::config::EtcdConfig;
use super::wire;
use crate::contract::{Error, Result, Revision};

/// How long a call is waited for, and the next part of a snapshot.
const PATIENCE: Duration = Duration::from_secs(10);

/// One member of an etcd cluster, for who operates it. Calls are made once, and of this member alone; each ends within
/// 10 seconds.
#[derive(Debug)]
pub struct EtcdAdmin {
    client: Client,
}

/// A member, as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdMember {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where other members find it.
    pub peer_urls: Vec<String>,
    /// Where it says that clients find it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// The id of its cluster.
    pub cluster: u64,
    /// Its own id.
    pub member: u64,
    /// Its version, as `3.5.16`.
    pub version: String,
    /// The id of its leader; 0 when it has none.
    pub leader: u64,
    /// The revision that it has come to.
    pub revision: Revision,
    /// The size of its database, in bytes, and how much of that is used.
    pub size: u64,
    /// How much of the size is used.
    pub used: u64,
}

/// An alarm that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAlarm {
    /// The id of the member that it is about.
    pub member: u64,
    /// `NOSPACE`, `CORRUPT`, or a number that this version does not know.
    pub kind: String,
}

impl EtcdAdmin {
    /// Connects to nobody yet; of the configuration the first server counts, and how it is reached.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the configuration cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers and network.
    pub fn new(config: &EtcdConfig) -> Result<Self> {
        let mut config = config.clone();
        config.servers.truncate(1);
        let client = Client::new(&config)?;
        Ok(Self { client })
    }

    /// The members of the cluster; asked of a majority from 3.5 on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], saying which member was asked and why it failed.
    pub async fn members(&self) -> Result<Vec<EtcdMember>> {
        let request = wire::MemberList { linearizable: true };
        let answer: wire::MembersAnswer = self
            .client
            .once(wire::path::MEMBER_LIST, &request, PATIENCE)
            .await?;
        let members = answer.members.into_iter().map(|m| EtcdMember {
            id: m.id,
            name: m.name,
            peer_urls: m.peer_urls,
            client_urls: m.client_urls,
            learner: m.learner,
        });
        Ok(members.collect())
    }

    /// Changes where other members find one. To say again what is so already is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is refused; [`Error::Unknown`] when it may have happened, or may yet.
    pub async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<()> {
        let request = wire::MemberUpdate { id, peer_urls };
        let wire::MembersAnswer { .. } = self
            .client
            .once(wire::path::MEMBER_UPDATE, &request, PATIENCE)
            .await?;
        Ok(())
    }

    /// How the member is, as far as it knows itself.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn status(&self) -> Result<EtcdStatus> {
        let answer: wire::StatusAnswer = self
            .client
            .once(wire::path::STATUS, &wire::Empty {}, PATIENCE)
            .await?;
        let header = answer.header.unwrap_or_default();
        Ok(EtcdStatus {
            cluster: header.cluster_id,
            member: header.member_id,
            version: answer.version,
            leader: answer.leader,
            revision: wire::revision(Some(&header)),
            size: u64::try_from(answer.db_size).unwrap_or(0),
            used: u64::try_from(answer.db_size_in_use).unwrap_or(0),
        })
    }

    /// Reads through a majority, so an answer says that the member has its cluster. Answers with the current revision.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn health(&self) -> Result<Revision> {
        let range = wire::Range {
            key: b"health".to_vec(),
            count_only: true,
            ..wire::Range::default()
        };
        let answer: wire::RangeAnswer = self.client.once(wire::path::RANGE, &range, PATIENCE).await?;
        Ok(wire::revision(answer.header.as_ref()))
    }

    /// The alarms that are on in the cluster.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn alarms(&self) -> Result<Vec<EtcdAlarm>> {
        let answer: wire::AlarmAnswer = self
            .client
            .once(wire::path::ALARM, &wire::Empty {}, PATIENCE)
            .await?;
        let alarms = answer.alarms.into_iter().map(|alarm| EtcdAlarm {
            member: alarm.member,
            kind: match alarm.alarm {
                1 => "NOSPACE".to_owned(),
                2 => "CORRUPT".to_owned(),
                other => other.to_string(),
            },
        });
        Ok(alarms.collect())
    }

    /// Begins to read a snapshot of the member's database, with its SHA-256 behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn snapshot(&self) -> Result<EtcdSnapshot<'_>> {
        let parts = self
            .client
            .stream(wire::path::SNAPSHOT, wire::Empty {}, PATIENCE)
            .await?;
        Ok(EtcdSnapshot {
            client: &self.client,
            parts,
        })
    }
}

/// A snapshot on its way.
#[derive(Debug)]
pub struct EtcdSnapshot<'a> {
    client: &'a Client,
    parts: Streaming<wire::SnapshotPart>,
}

impl EtcdSnapshot<'_> {
    /// The next part, and how many bytes there are after it; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it breaks off.
    pub async fn next(&mut self) -> Result<Option<(Bytes, u64)>> {
        let part = timeout(PATIENCE, self.parts.message())
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no more of the snapshot came")));
        let part = part.map_err(|status| Error::from(self.client.failed(status)))?;
        Ok(part.map(|part| (part.blob, part.remaining_bytes)))
    }
}

//! The store in etcd: the contract over the network, shared by as many processes as like.
//!
//! Works with etcd 3.4 and later, one member or several. What each part of the contract rests on:
//!
//! - *Linearizable*, *Atomic*, *Durable*: etcd's own. Every read is linearizable; a transaction is one of etcd's.
//! - *Snapshot*: pages after the first are read at the first one's revision.
//! - *Ordered*, *Unique*, *Reliable*, *Resumable*: each watch is a stream of its own at one member, which etcd ends
//!   when the member loses its cluster. When it breaks, another is started where the last whole revision ended,
//!   at another member if need be; what comes again is left out.
//! - *Bookmarkable*: progress is taken from changes that have arrived, and from etcd's notifications where they
//!   cannot overtake changes: those that are asked for from 3.4.25 and 3.5.8 on (etcd's issue 15220). Older members
//!   report it by themselves only, every 10 minutes unless they are told otherwise; until they do, a watch that hears
//!   nothing and loses its stream may find that what it has not heard of is compacted.
//!
//! # Where etcd differs, and what becomes of it
//!
//! - etcd's compaction to a revision leaves that revision readable, while what was before its changes is lost, and
//!   in some versions its deletions are not told to watches. So the oldest revision of this store is the one after
//!   etcd's: [`EtcdStore`]'s `compact(r)` compacts etcd to `r - 1`.
//! - A write that is not answered may have happened, or may yet: [`Error::Unknown`].
//! - A time to live is rounded up to what etcd grants (2 seconds at least, by its defaults), and a lease shared with
//!   other keys may add 5 %, a minute at most.
//! - A slow watcher is never cut off for being slow: it holds up what etcd sends, which costs one megabyte here.
//!   Once what it has not read is compacted, it ends with [`Error::Compacted`].

mod admin;
mod client;
mod compactor;
mod config;
mod leases;
mod range;
mod root;
mod snapshot;
mod status;
mod txn;
mod watch;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

pub use admin::{EtcdAdmin, EtcdAlarm, EtcdMember, EtcdSnapshot, EtcdStatus};
use client::{Client, Kind};
pub use config::{EtcdConfig, EtcdCredentials, EtcdTls};
use leases::Leases;
use root::Root;
use status::{is_compacted, is_future, is_lease_gone};
use txn::Plan;
use watch::{Signal, Watching};

use crate::contract::{
    Error, Op, RangeRequest, RangeResponse, Result, Revision, Snapshot, Store, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

/// How often a transaction is tried again because its lease had ended.
const LEASE_TRIES: u32 = 3;

/// A store in etcd. Dropping it closes it.
#[derive(Debug)]
pub struct EtcdStore {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

/// What calls, watches and tasks share.
#[derive(Debug)]
struct Inner {
    client: Client,
    root: Root,
    leases: Leases,
    /// The latest revision that any answer named.
    seen: AtomicU64,
    /// The oldest revision that can be read, as far as it is known.
    oldest: AtomicU64,
    closed: AtomicBool,
    /// Tells watches up to where they should say how far they are, and when to end.
    signal: tokio::sync::watch::Sender<Signal>,
}

impl EtcdStore {
    /// Connects to etcd.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], saying which member and why, when the configuration cannot be used or no member answers within
    /// 20 seconds.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers and network.
    pub async fn connect(config: EtcdConfig) -> Result<Self> {
        let inner = Arc::new(Inner {
            client: Client::new(&config)?,
            root: Root::new(config.root),
            leases: Leases::default(),
            seen: AtomicU64::new(0),
            oldest: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            signal: tokio::sync::watch::Sender::new(Signal::default()),
        });
        let revision = inner.revision().await?;
        inner.learn_oldest().await?;
        tracing::debug!(revision, oldest = inner.oldest(), "connected to etcd");
        let progress = tokio::spawn(report_progress(inner.clone(), config.progress_interval));
        let mut tasks = vec![progress];
        if let Some(interval) = config.compaction_interval {
            tasks.push(tokio::spawn(compactor::run(inner.clone(), interval)));
        }
        Ok(Self { inner, tasks })
    }

    /// Everything that was there at a revision, as [`Store::snapshot`] has it.
    ///
    /// # Errors
    ///
    /// As [`Store::range`], at once or in the stream.
    pub async fn snapshot_at(&self, revision: Revision) -> Result<Snapshot> {
        self.inner.check_open()?;
        self.inner.snapshot(Some(revision), true).await
    }

    /// [`Store::snapshot`] with empty values: which keys there are, of which revisions, and when they expire. It costs a
    /// fraction of what the values do.
    ///
    /// # Errors
    ///
    /// As [`Store::range`], at once or in the stream.
    pub async fn outline(&self) -> Result<Snapshot> {
        self.inner.check_open()?;
        self.inner.snapshot(None, false).await
    }
}

/// Has watches report progress while things change.
async fn report_progress(inner: Arc<Inner>, interval: Duration) {
    loop {
        sleep(interval).await;
        if let Err(error) = inner.request_progress().await {
            tracing::warn!(%error, "cannot find out how far etcd is");
        }
    }
}

#[async_trait::async_trait]
impl Store for EtcdStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.inner.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.inner.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.inner.check_open()?;
        let current = self.inner.revision().await?;
        let from = request.from.unwrap_or(current + 1);
        self.inner.check_watchable(from, current).await?;
        Watching::start(self.inner.clone(), request, from)
    }

    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.check_open()?;
        self.inner.compact(revision).await
    }

    async fn request_progress(&self) -> Result<()> {
        self.inner.request_progress().await
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.inner.check_open()?;
        self.inner.snapshot(None, true).await
    }

    /// Ends watches once they have delivered what this store knows to have happened, after two seconds at the latest.
    async fn close(&self) -> Result<()> {
        self.end();
        Ok(())
    }
}

impl EtcdStore {
    fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.inner.closed.store(true, Ordering::Release);
        let seen = self.inner.seen.load(Ordering::Acquire);
        self.inner.signal.send_modify(|signal| {
            signal.target = signal.target.max(seen);
            signal.closed = true;
        });
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Notes the revision that an answer names, and returns it.
    fn saw(&self, header: Option<&wire::Header>) -> Revision {
        let revision = wire::revision(header);
        self.seen.fetch_max(revision, Ordering::AcqRel);
        revision
    }

    fn oldest(&self) -> Revision {
        self.oldest.load(Ordering::Acquire)
    }

    /// The current revision, as a majority of etcd has it.
    async fn revision(&self) -> Result<Revision> {
        let answer = self.probe(0).await?;
        Ok(self.saw(answer.header.as_ref()))
    }

    /// Reads nothing at a revision; 0 is the current one.
    async fn probe(&self, revision: i64) -> Result<wire::RangeAnswer, status::Failure> {
        let range = wire::Range {
            key: self.root.health(),
            revision,
            count_only: true,
            ..wire::Range::default()
        };
        self.client.call(wire::path::RANGE, Kind::Read, &range).await
    }

    async fn request_progress(&self) -> Result<()> {
        let current = self.revision().await?;
        self.signal.send_if_modified(|signal| {
            let news = signal.target < current;
            signal.target = signal.target.max(current);
            news
        });
        Ok(())
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let before = self.seen.load(Ordering::Acquire);
        let mut tries = 0;
        loop {
            self.check_open()?;
            tries += 1;
            let leases = self.leases_of(&txn).await?;
            let find = |ttl| {
                let found = leases.iter().find(|(for_ttl, _)| *for_ttl == ttl);
                found.map_or(0, |(_, id)| *id)
            };
            let plan = Plan::new(txn.clone(), &self.root, find, &self.root.health())?;
            let kind = if plan.writes() { Kind::Write } else { Kind::Read };
            let answer: Result<wire::TxnAnswer, _> =
                self.client.call(wire::path::TXN, kind, &plan.request).await;
            match answer {
                Ok(answer) => {
                    self.saw(answer.header.as_ref());
                    return Ok(plan.answer(answer));
                }
                // The clock of etcd runs faster than ours, or somebody has revoked it.
                Err(failure) if is_lease_gone(&failure.status) && tries < LEASE_TRIES => {
                    let ids: Vec<i64> = leases.iter().map(|(_, id)| *id).collect();
                    self.leases.forget(&ids);
                }
                Err(failure) => {
                    return Err(match Error::from(failure) {
                        Error::Full(why) if !self.is_as_before(&txn, before).await => Error::Unknown(why),
                        error => error,
                    });
                }
            }
        }
    }

    /// Whether nothing that a transaction puts has changed since a revision. etcd looks at its quota when it takes a transaction,
    /// and again after it has applied it: it may have written what it says there is no room for.
    async fn is_as_before(&self, txn: &Txn, before: Revision) -> bool {
        for op in txn.success.iter().chain(&txn.failure) {
            let Op::Put { key, .. } = op else { continue };
            match self.range(RangeRequest::key(key.clone())).await {
                Ok(found) if found.kvs.iter().all(|kv| kv.mod_revision <= before) => {}
                _ => return false,
            }
        }
        true
    }

    /// A lease for each time to live that a transaction names.
    async fn leases_of(&self, txn: &Txn) -> Result<Vec<(u64, i64)>> {
        let ops = txn.success.iter().chain(&txn.failure);
        let ttls: BTreeSet<u64> = ops
            .filter_map(|op| match op {
                Op::Put { ttl, .. } => *ttl,
                Op::Delete { .. } | Op::Get { .. } => None,
            })
            .collect();
        let mut leases = Vec::with_capacity(ttls.len());
        for ttl in ttls {
            leases.push((ttl, self.leases.get(&self.client, ttl).await?));
        }
        Ok(leases)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let current = self.revision().await?;
        if revision > current {
            return Err(Error::Future {
                asked: revision,
                current,
            });
        }
        let oldest = self.oldest();
        if revision <= oldest {
            return Err(Error::Compacted { oldest });
        }
        let request = wire::Compaction {
            revision: as_i64(revision - 1),
        };
        // To compact twice is an error that is looked for, so it may be repeated.
        let done: Result<wire::Empty, _> = self.client.call(wire::path::COMPACT, Kind::Read, &request).await;
        match done {
            Ok(wire::Empty {}) => {
                self.compacted_to(revision);
                Ok(())
            }
            Err(failure) if is_compacted(&failure.status) => Err(self.compacted(revision - 1).await),
            Err(failure) if is_future(&failure.status) => Err(Error::Future {
                asked: revision,
                current,
            }),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Notes the oldest revision that can be read.
    fn compacted_to(&self, oldest: Revision) {
        self.oldest.fetch_max(oldest, Ordering::AcqRel);
    }

    /// The error for a revision that etcd has said is compacted; asks it which ones are not.
    async fn compacted(&self, asked: Revision) -> Error {
        match watch::compact_revision(self).await {
            Ok(revision) => self.compacted_to(revision.max(asked) + 1),
            // That much is certain.
            Err(error) => {
                tracing::debug!(%error, "cannot find out what etcd has compacted");
                self.compacted_to(asked + 1);
            }
        }
        Error::Compacted {
            oldest: self.oldest(),
        }
    }

    /// Finds out what has been compacted before we came.
    async fn learn_oldest(&self) -> Result<()> {
        match self.probe(1).await {
            Ok(_) => Ok(()),
            Err(failure) if is_compacted(&failure.status) => {
                self.compacted(1).await;
                Ok(())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Whether a watch can start at `from`: whether what was before its changes can still be read.
    async fn check_watchable(&self, from: Revision, current: Revision) -> Result<()> {
        let oldest = self.oldest();
        if from < oldest {
            return Err(Error::Compacted { oldest });
        }
        if from <= 1 || from > current {
            return Ok(());
        }
        match self.probe(as_i64(from - 1)).await {
            Ok(_) => Ok(()),
            Err(failure) if is_compacted(&failure.status) => Err(self.compacted(from - 1).await),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// A number as etcd has it; ours stay far below its largest.
fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

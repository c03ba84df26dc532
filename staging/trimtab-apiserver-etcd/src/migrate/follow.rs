//! What etcd holds, kept up to date by a watch until it is to be cut off at a revision.
//!
//! A cut is proved, not believed: an outline of etcd at its revision must name the same keys at the same revisions. That also
//! tells when keys expire, which a watch does not, and it works with members that are too old to say how far a watch is.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};
use trimtab_apiserver_storage::{
    Error as StoreError, EtcdStore, Event, EventKind, Revision, SnapshotEntry, Store as _, WatchRequest,
    WatchStream,
};

use super::{OURS, entries_of};
use crate::backup::Told;
use crate::error::{Error, Result};

/// A watch that says nothing for so long has probably nothing more; the outline tells.
const QUIET: Duration = Duration::from_millis(200);
/// How long etcd may go on changing after it should not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy in memory, and the watch that keeps it.
pub(super) struct Following {
    entries: BTreeMap<Bytes, SnapshotEntry>,
    watch: WatchStream,
    /// Everything up to here has come.
    delivered: Revision,
    /// What has come and is not in the copy.
    later: VecDeque<Event>,
}

/// All keys at a revision, after which nothing had changed when it was taken.
pub(super) struct Cut {
    pub(super) revision: Revision,
    pub(super) entries: Vec<SnapshotEntry>,
}

impl Following {
    /// Reads everything, and watches what comes after it.
    pub(super) async fn start(store: &EtcdStore, told: &mut Told<'_>) -> Result<Self> {
        let snapshot = store.snapshot().await?;
        let revision = snapshot.revision;
        let entries = entries_of(snapshot, "reading", told).await?;
        let watch = WatchRequest::prefix(format!("{OURS}/")).from(revision + 1);
        Ok(Self {
            entries: entries.into_iter().map(|e| (e.kv.key.clone(), e)).collect(),
            watch: store.watch(watch).await?,
            delivered: revision,
            later: VecDeque::new(),
        })
    }

    /// Takes what comes for ever. Cancel-safe.
    pub(super) async fn follow(&mut self, told: &mut Told<'_>) -> Result<Infallible> {
        loop {
            self.take().await?;
            self.apply(Revision::MAX);
            told(format!(
                "following: {} keys at revision {}; stop the API servers, then Ctrl-C",
                self.entries.len(),
                self.delivered
            ));
        }
    }

    /// Waits until nothing more comes, and takes everything as of then.
    pub(super) async fn cut(&mut self, store: &EtcdStore, told: &mut Told<'_>) -> Result<Cut> {
        let until = Instant::now() + PATIENCE;
        loop {
            let outline = store.outline().await?;
            let revision = outline.revision;
            let outline = entries_of(outline, "catching up", told).await?;
            loop {
                self.apply(revision);
                let quiet = match timeout(QUIET, self.take()).await {
                    Ok(taken) => {
                        taken?;
                        false
                    }
                    Err(_) => true,
                };
                self.apply(revision);
                if (quiet || self.delivered >= revision) && self.is(&outline) {
                    break;
                }
                if Instant::now() >= until {
                    return Err(Error::Late(
                        "etcd does not tell within a minute what has changed in it: run this again"
                            .to_owned(),
                    ));
                }
            }
            if !self.changes_more().await? {
                return Ok(Cut {
                    revision,
                    entries: self.with_ends(outline),
                });
            }
            if Instant::now() >= until {
                return Err(Error::Late(
                    "etcd is still being written to: stop its API servers and run this again, or use --follow".to_owned(),
                ));
            }
        }
    }

    /// Whether something has changed that is not in the copy.
    pub(super) async fn changes_more(&mut self) -> Result<bool> {
        while self.later.is_empty() {
            match timeout(QUIET, self.take()).await {
                Ok(taken) => taken?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn take(&mut self) -> Result<()> {
        let batch = self.watch.next().await.unwrap_or(Err(StoreError::Closed))?;
        self.delivered = self.delivered.max(batch.revision);
        self.later.extend(batch.events);
        Ok(())
    }

    /// Makes what has come part of the copy, as far as it is of this revision or an earlier one.
    fn apply(&mut self, revision: Revision) {
        while self
            .later
            .front()
            .is_some_and(|event| event.kv.mod_revision <= revision)
            && let Some(event) = self.later.pop_front()
        {
            match event.kind {
                EventKind::Put => {
                    let (kv, expires) = (event.kv, None);
                    self.entries.insert(kv.key.clone(), SnapshotEntry { kv, expires });
                }
                EventKind::Delete => drop(self.entries.remove(&event.kv.key)),
            }
        }
    }

    /// Whether these are the keys, at these revisions.
    fn is(&self, outline: &[SnapshotEntry]) -> bool {
        let revisions = |entry: &SnapshotEntry| (entry.kv.create_revision, entry.kv.mod_revision);
        self.entries.len() == outline.len()
            && self.entries.iter().zip(outline).all(|((key, entry), outlined)| {
                *key == outlined.kv.key && revisions(entry) == revisions(outlined)
            })
    }

    /// The copy, with when keys expire as an outline of the same keys says.
    fn with_ends(&self, outline: Vec<SnapshotEntry>) -> Vec<SnapshotEntry> {
        let ends = self.entries.values().zip(outline);
        ends.map(|(entry, outlined)| SnapshotEntry {
            kv: entry.kv.clone(),
            expires: outlined.expires,
        })
        .collect()
    }
}

//! The contract that every backend keeps: revisioned keys as etcd has them.
//!
//! There is one global revision. Every transaction that changes something advances it by one, and all that the
//! transaction changes carries that revision. A key remembers the revision that created it and the one that
//! last changed it.
//!
//! # What always holds
//!
//! - **Linearizable**: transactions happen one after the other, each at its revision; a read at the current
//!   revision sees every transaction that was acknowledged before it began.
//! - **Durable**: an acknowledged transaction survives the death of the process, and of the machine if the disk
//!   keeps what it has synced (memory backends promise nothing of the kind).
//! - **Atomic**: of a transaction all changes are seen, or none, in reads and in watches alike.
//! - **Snapshot**: a range at a revision returns what was there at that revision, on every page; and so does
//!   a snapshot, which is of one revision whatever is written meanwhile.
//! - **Ordered**: a watch delivers changes in the order of their revisions (of one revision: in no certain order).
//! - **Unique**: a watch delivers no change twice.
//! - **Reliable**: a watch leaves out no change of its range from its start on; if it cannot, it ends with
//!   an error.
//! - **Resumable**: a watch may start at any revision that has not been compacted, and continues from there.
//! - **Bookmarkable**: when a watch reports progress to a revision, it has delivered every change up to it.
//!
//! # A worked example
//!
//! | revision | transaction | what is there afterwards |
//! |---|---|---|
//! | 1 | | nothing |
//! | 2 | put `a` = `1` | `a` (created 2, changed 2) |
//! | 3 | put `b` = `1`, put `a` = `2` | `a` (2, 3), `b` (3, 3) |
//! | 4 | delete `a` | `b` (3, 3) |
//! | 5 | put `a` = `3` | `a` (5, 5), `b` (3, 3) |
//!
//! - A range at 3 finds `a` = `2` and `b`; at 4 it finds `b` alone; at 6 it is [`Error::Future`].
//! - A put that is to succeed only while `a` is unchanged compares its mod revision with 5; one that is to create
//!   `c` compares with 0.
//! - A watch of `a` from 3 delivers: put at 3 (before: `1`), delete at 4 (before: `2`), put at 5 (before: nothing).
//! - After compaction to 4, a range at 4 still finds `b`; a range at 3 is [`Error::Compacted`], with 4 as the oldest.
//! - A watch from 4 still delivers the deletion, and `2` as what was before; a watch from 3 is [`Error::Compacted`].
//! - `b` was last changed at 3. That it is still there does not depend on revision 3 being readable.
//!
//! # What is not promised
//!
//! - Old revisions are kept only until they are compacted; a range or watch below that answers
//!   [`Error::Compacted`].
//! - A transaction that answers with an error has changed nothing that anyone has seen. If the machine dies before
//!   the store writes again, it may yet be found to have happened in full. The exception is [`Error::Unknown`], of
//!   stores that are reached over a network: the transaction may have happened, or may yet, in full or not at all.
//! - A store that was restored from a backup begins at a revision after the backup's, as if compacted there: what was
//!   asked of the old one with its revisions is answered with [`Error::Compacted`].
//! - A transaction that changes a key twice changes it once: the last operation counts. A key that was there before
//!   and is deleted and put in one transaction is a key that was put: it keeps the revision that created it.
//! - Values share memory with the [`Bytes`] that were put: hand over slices of their own size.

use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};

/// A point in the store's history. The empty store is at 1, as etcd's is; the first change makes it 2.
pub type Revision = u64;

/// One key with its value, as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision at which the key was created, since it was last deleted.
    pub create_revision: Revision,
    /// The revision at which the key was last changed.
    pub mod_revision: Revision,
}

/// Which keys to read, and of when.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// The first key wanted.
    pub start: Bytes,
    /// The end of the range: `Excluded(end)`, or `Unbounded`. For a single key use [`RangeRequest::key`].
    pub end: Bound<Bytes>,
    /// The revision to read at; `None` reads the current one.
    pub revision: Option<Revision>,
    /// At most this many; 0 for all.
    pub limit: usize,
    /// Return no values and keys, only the count.
    pub count_only: bool,
}

impl RangeRequest {
    /// Reads one key at the current revision.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        Self {
            end: Bound::Included(start.clone()),
            start,
            revision: None,
            limit: 0,
            count_only: false,
        }
    }

    /// Reads every key that begins with `prefix`, at the current revision.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        Self {
            end: prefix_end(&start),
            start,
            revision: None,
            limit: 0,
            count_only: false,
        }
    }

    /// Reads at `revision`.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Reads at most `limit` keys; 0 for all.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// The bound just after all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bound<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end.into());
        }
    }
    Bound::Unbounded
}

/// What a range holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The keys, in order.
    pub kvs: Vec<KeyValue>,
    /// How many keys the range holds in all, whatever the limit.
    pub count: usize,
    /// Whether the limit left some out.
    pub more: bool,
    /// The revision that was read at.
    pub revision: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last changed at exactly this revision; 0 means that it does not exist.
    ModRevision(Bytes, Revision),
}

/// A change, or a read, of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key. With a time to live it is deleted about that many seconds later, by a transaction like any
    /// other; setting the key again sets the time anew.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// Seconds to live; `None` for ever.
        ttl: Option<u64>,
    },
    /// Deletes a key; nothing happens when it does not exist.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Reads a key as of after the operations before it.
    Get {
        /// The key.
        key: Bytes,
    },
}

/// If all conditions hold, do one thing, else another; atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// What to do when all hold.
    pub success: Vec<Op>,
    /// What to do otherwise.
    pub failure: Vec<Op>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The store's revision after the transaction: a new one if anything changed.
    pub revision: Revision,
    /// For each operation done: what was read, put or deleted (the old value for a delete); `None` where
    /// there was nothing.
    pub kvs: Vec<Option<KeyValue>>,
}

/// Which keys to watch, and since when.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// The first key of the range.
    pub start: Bytes,
    /// Its end.
    pub end: Bound<Bytes>,
    /// The first revision whose changes are wanted; `None` starts after the current one.
    pub from: Option<Revision>,
}

impl WatchRequest {
    /// Watches all keys that begin with `prefix`, from what comes next.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        Self {
            end: prefix_end(&start),
            start,
            from: None,
        }
    }

    /// Starts with the changes of `revision`.
    #[must_use]
    pub fn from(mut self, revision: Revision) -> Self {
        self.from = Some(revision);
        self
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was set.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change; of a deleted key, its name and the revision of its deletion with an empty value.
    pub kv: KeyValue,
    /// The key before the change, unless it did not exist.
    pub prev: Option<KeyValue>,
}

/// What a watch delivers at a time: all changes of one revision or more in full, or progress alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The changes, in order; empty for a progress notification.
    pub events: Vec<Event>,
    /// Everything up to and including this revision has been delivered.
    pub revision: Revision,
}

/// A running watch. It ends after the first error; dropping it cancels the watch.
pub type WatchStream = BoxStream<'static, Result<WatchBatch>>;

/// A key of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The key with its value.
    pub kv: KeyValue,
    /// When it is to be deleted, in milliseconds since 1970; `None` for never.
    pub expires: Option<u64>,
}

/// All keys of a store as of one revision, whatever is written or compacted while it is read.
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// How many keys there are.
    pub count: u64,
    /// The keys in order, some at a time. It ends after the first error.
    pub entries: BoxStream<'static, Result<Vec<SnapshotEntry>>>,
}

/// At most this many keys of a snapshot come at a time.
const SNAPSHOT_ENTRIES: usize = 256;

impl Snapshot {
    /// A snapshot of which everything is known.
    pub fn new(revision: Revision, entries: Vec<SnapshotEntry>) -> Self {
        let count = entries.len() as u64;
        let mut entries = entries.into_iter();
        let parts = std::iter::from_fn(move || {
            let part: Vec<_> = entries.by_ref().take(SNAPSHOT_ENTRIES).collect();
            (!part.is_empty()).then_some(Ok(part))
        });
        Self {
            revision,
            count,
            entries: Box::pin(stream::iter(parts)),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// What a store answers with when it cannot do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision asked for has been compacted; `oldest` is the oldest one that can be read.
    #[error("required revision has been compacted (oldest is {oldest})")]
    Compacted {
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("required revision {asked} is a future revision (current is {current})")]
    Future {
        /// The revision asked for.
        asked: Revision,
        /// The current one.
        current: Revision,
    },
    /// A watcher did not read fast enough and was cut off; resume from the last revision seen.
    #[error("watcher fell behind and was cut off at revision {last}")]
    Lagged {
        /// Everything up to this revision had been delivered.
        last: Revision,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another process")]
    Locked {
        /// The store's path.
        path: String,
    },
    /// What was to become the store was cut off before it was whole.
    #[error(
        "{path} is there: a restore, or a migration, into this directory was cut off. Run it again (it begins anew), or delete \
         that file to begin with an empty store"
    )]
    Unfinished {
        /// The file that is not whole.
        path: String,
    },
    /// The store's files are damaged, or not ours.
    #[error("{path} cannot be read as a trimtab store: {why}")]
    Corrupt {
        /// The store's path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// There is no room left for writing; reads still work.
    #[error("no room left: {0}")]
    Full(String),
    /// One thing to be written is larger than the store takes.
    #[error("too large to be stored: {0}")]
    TooLarge(String),
    /// A transaction was handed on and not answered: it has happened, will happen or will not, which only a later read
    /// can tell, and that only for a while. Only stores that others keep answer with this.
    #[error("it is not known whether the write has happened: {0}")]
    Unknown(String),
    /// Reading or writing failed below the store.
    #[error("storage failed: {0}")]
    Io(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// The key that is there while a migration into a store has not ended: what the store holds is not whole until it is gone. Its
/// value is a JSON object that names the source (`from`).
pub const MIGRATION: &str = "/registry.trimtab-migration";

/// What a store says of itself, for metrics. What it does not know, or does not have, is `None`.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The length of what it is kept in, in bytes.
    pub size: Option<u64>,
    /// The current revision.
    pub revision: Option<Revision>,
    /// The oldest revision that can be read.
    pub oldest: Option<Revision>,
    /// What has been done to its disk since it was opened.
    pub disk: Option<DiskUse>,
}

/// What has been done to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Syncs that succeeded.
    pub syncs: u64,
    /// The time that they took in all.
    pub syncing: Duration,
    /// How many of them took no longer than each of [`SYNC_MILLIS`] and longer than the one before; the last counts the
    /// rest.
    pub buckets: [u64; SYNC_MILLIS.len() + 1],
    /// Writes, syncs and changes of length that failed.
    pub failures: u64,
    /// Bytes written.
    pub written: u64,
}

/// Times by which syncs are counted, in milliseconds: those of etcd's `etcd_disk_wal_fsync_duration_seconds`.
pub const SYNC_MILLIS: [u64; 14] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];

/// The result of a store's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A versioned key-value store; see the [module's documentation](self) for what it promises.
///
/// All methods are cancel-safe: a transaction whose future is dropped has either happened in full or not at all.
#[async_trait::async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Reads a range of keys at one revision.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`], [`Error::Future`], [`Error::Io`].
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    /// Does a transaction; when this returns, its changes are durable.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::TooLarge`], [`Error::Io`], [`Error::Closed`]; then nothing has changed.
    /// [`Error::Unknown`]: then nobody knows.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse>;

    /// Watches a range of keys.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`] at the start; [`Error::Compacted`], [`Error::Lagged`], [`Error::Closed`] in the stream.
    /// A start in the future is no error: nothing is delivered until then.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream>;

    /// The current revision.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where finding out needs a round trip.
    async fn revision(&self) -> Result<Revision>;

    /// Forgets all revisions before `revision`, keeping each key's latest value as of it.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`] when that has been done, [`Error::Future`].
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// Has every watch that is behind the current revision report progress soon. [`Store::watch`]es do so by
    /// themselves every few seconds; this is for who needs to know at once that it has seen everything.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where asking needs a round trip.
    async fn request_progress(&self) -> Result<()>;

    /// Everything that is there at the current revision, for a backup. As it is given, everything is read at once,
    /// and as if nothing expired: stores in which keys do bring their own.
    ///
    /// # Errors
    ///
    /// As [`Store::range`], at once or in the stream.
    async fn snapshot(&self) -> Result<Snapshot> {
        let all = self.range(RangeRequest::prefix(Bytes::new())).await?;
        let entries = all.kvs.into_iter().map(|kv| SnapshotEntry { kv, expires: None });
        Ok(Snapshot::new(all.revision, entries.collect()))
    }

    /// What the store says of itself, without a round trip. As it is given, nothing.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Stops accepting transactions, writes out what is under way and ends all watches.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the last writes fail.
    async fn close(&self) -> Result<()>;
}

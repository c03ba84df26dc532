//! A store in memory: the contract without the disk. For tests and throw-away servers.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::backup::{self, Reader};
use crate::config::Config;
use crate::contract::{
    Error, Figures, RangeRequest, RangeResponse, Result, Revision, Snapshot, Store, Txn, TxnResponse,
    WatchRequest, WatchStream,
};
use crate::draft::Draft;
use crate::keeper::{Clock, Committer, Keeper};
use crate::shared::Shared;
use crate::state::State;

/// A store that keeps every clause of the contract but *Durable*.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    committer: Arc<MemoryCommitter>,
    keeper: Keeper,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers: expiry and compaction are a task of it.
    pub fn new(config: Config) -> Self {
        Self::holding(State::default(), config)
    }

    /// An empty store that begins at this revision: what was before is compacted. Where several hold the same by themselves, a
    /// revision of one is then no revision of another.
    ///
    /// # Panics
    ///
    /// As [`MemoryStore::new`].
    pub fn starting_at(revision: Revision, config: Config) -> Self {
        Self::holding(State::starting_at(revision, revision), config)
    }

    /// A store made of a backup; it begins `bump` revisions after the backup, at least one.
    ///
    /// # Errors
    ///
    /// What is wrong with the backup.
    ///
    /// # Panics
    ///
    /// As [`MemoryStore::new`].
    pub fn restore(config: Config, from: impl Read, bump: u64) -> Result<Self, backup::Error> {
        let mut reader = Reader::new(from)?;
        let start = reader.summary().revision.saturating_add(bump.max(1));
        let mut state = State::starting_at(start, start);
        while let Some(entries) = reader.block()? {
            for entry in entries {
                state.load(entry.kv, entry.expires);
            }
        }
        Ok(Self::holding(state, config))
    }

    fn holding(state: State, config: Config) -> Self {
        let shared = Shared::new(state, config);
        let clock = Clock::start(SystemTime::now());
        let committer = Arc::new(MemoryCommitter {
            shared: shared.clone(),
            clock,
            closed: AtomicBool::new(false),
        });
        let keeper = Keeper::spawn(shared.clone(), committer.clone(), clock);
        Self {
            shared,
            committer,
            keeper,
        }
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.shared.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.committer.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.committer.check_open()?;
        Ok(Box::pin(self.shared.watch(request)?))
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.shared.read(State::revision))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.committer.compact(revision).await
    }

    async fn request_progress(&self) -> Result<()> {
        self.shared.progress();
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.shared.read(State::snapshot))
    }

    fn figures(&self) -> Figures {
        self.shared.read(State::figures)
    }

    async fn close(&self) -> Result<()> {
        self.keeper.stop();
        self.committer.close().await
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[derive(Debug)]
struct MemoryCommitter {
    shared: Arc<Shared>,
    clock: Clock,
    closed: AtomicBool,
}

impl MemoryCommitter {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}

#[async_trait::async_trait]
impl Committer for MemoryCommitter {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.check_open()?;
        Ok(self.shared.update(|state| {
            let mut draft = Draft::default();
            let response = draft.txn(state, txn, self.clock.now());
            (response, draft.commits)
        }))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.check_open()?;
        self.shared.write(|state| state.compact(revision)).map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.shared.close();
        Ok(())
    }
}

//! The embedded store: the contract in one directory of one machine, durable at every acknowledgement.
//!
//! All keys and the history since the last compaction are in memory, as in [`crate::MemoryStore`], and answer
//! reads and watches. The file below is written by one thread, which syncs once for all transactions that wait;
//! what is not on disk is not visible.

mod engine;
mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use engine::{Engine, Opener, io_error};
use writer::Writer;

use crate::config::Config;
use crate::contract::{
    Error, RangeRequest, RangeResponse, Result, Revision, Store, Txn, TxnResponse, WatchRequest, WatchStream,
};
use crate::keeper::{Clock, Committer, Keeper};
use crate::shared::Shared;
use crate::state::State;

const STORE_FILE: &str = "store.redb";
const LOCK_FILE: &str = "lock";
/// For pages of the file. Reads are answered from the index, so this serves the inner pages of writes only.
const CACHE_BYTES: usize = 8 << 20;

/// A store in a directory, which no other process can open at the same time.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    keeper: Keeper,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, making both if they do not exist. Reads all of it, so this takes about
    /// a millisecond for each megabyte; it blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process, or this one, has it open; [`Error::Corrupt`] when the file is
    /// damaged or not ours; [`Error::Full`] and [`Error::Io`] when it cannot be read or written.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers: expiry and compaction are a task of it.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<Self> {
        let dir = dir.as_ref();
        let path = |p: &Path| p.display().to_string();
        std::fs::create_dir_all(dir).map_err(|e| io_error(&path(dir), &e))?;
        let lock = lock(dir)?;
        let file = dir.join(STORE_FILE);
        let name = path(&file);
        let opener: Opener = Box::new(move || {
            let created = !file.exists();
            let mut builder = redb::Builder::new();
            let database = builder
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(!created)
                .create(&file)?;
            if let Some(dir) = file.parent().filter(|_| created) {
                // Without this the file's name may not outlive a power cut, whatever was synced in it.
                File::open(dir)
                    .and_then(|d| d.sync_all())
                    .map_err(redb::StorageError::from)?;
            }
            Ok(database)
        });
        Self::start(name, opener, config, lock)
    }

    fn start(name: String, opener: Opener, config: Config, guard: impl Send + 'static) -> Result<Self> {
        let (engine, state, garbage) = Engine::open(name.clone(), opener)?;
        tracing::debug!(
            path = name,
            revision = state.revision(),
            oldest = state.oldest(),
            "opened the store"
        );
        let shared = Shared::new(state, config);
        let clock = Clock::start();
        let writer = Writer::spawn(engine, shared.clone(), clock, garbage, guard);
        let writer = Arc::new(writer.map_err(|e| io_error(&name, &e))?);
        let keeper = Keeper::spawn(shared.clone(), writer.clone(), clock);
        Ok(Self {
            shared,
            writer,
            keeper,
        })
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_FILE);
    let name = path.display().to_string();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|e| io_error(&name, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: dir.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error(&name, &error)),
    }
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.shared.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.writer.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        Ok(Box::pin(self.shared.watch(request)?))
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.shared.read(State::revision))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.writer.compact(revision).await
    }

    async fn request_progress(&self) -> Result<()> {
        self.shared.progress();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.keeper.stop();
        let closed = self.writer.close().await;
        self.shared.close();
        closed
    }
}

impl Drop for EmbeddedStore {
    /// Waits for the write that is under way, so that the store can be opened again at once.
    fn drop(&mut self) {
        self.keeper.stop();
        self.writer.stop();
        self.shared.close();
    }
}

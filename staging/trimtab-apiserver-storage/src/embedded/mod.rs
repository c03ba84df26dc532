//! The embedded store: the contract in one directory of one machine, durable at every acknowledgement.
//!
//! All keys and the history since the last compaction are in memory, as in [`crate::MemoryStore`], and answer
//! reads and watches. The file below is written by one thread, which syncs once for all transactions that wait;
//! what is not on disk is not visible.
//!
//! From a disk that fills up, fails or cannot be written any more nothing acknowledged is lost: transactions are
//! refused with an error that says why, reads and watches go on, and the first transaction that the disk takes again
//! is acknowledged.

mod disk;
mod engine;
mod format;
mod home;
mod loader;
mod medium;
mod restore;
mod stopped;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

pub use disk::Disk;
use disk::FileDisk;
use engine::{Engine, io_error};
use home::Home;
use medium::Medium;
pub use restore::{Phase, Vacant};
pub use stopped::Stopped;
use writer::Writer;

use crate::config::Config;
use crate::contract::{
    Error, Figures, RangeRequest, RangeResponse, Result, Revision, Snapshot, Store, Txn, TxnResponse,
    WatchRequest, WatchStream,
};
use crate::keeper::{Clock, Committer, Keeper};
use crate::shared::Shared;
use crate::state::{Garbage, State};

/// A store in a directory, which no other process can open at the same time.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    keeper: Keeper,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, making both if they do not exist, for their owner's eyes only. Reads all of it, so
    /// this takes about a millisecond for each megabyte; it blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process, or this one, has it open; [`Error::Corrupt`] when the file is
    /// damaged, not ours or of a newer version; [`Error::Full`] and [`Error::Io`] when it cannot be read or written.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers: expiry and compaction are a task of it.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<Self> {
        let home = Home::open(dir.as_ref())?;
        let (engine, state, garbage) = Self::load(&home)?;
        let clock = Clock::start(SystemTime::now());
        Self::start(engine, state, garbage, config, clock, Some(home))
    }

    /// Opens the store on a disk of the caller's, who sees to it that nobody else uses it; `name` is for messages,
    /// and `now` is what the wall clock says.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedStore::open`].
    ///
    /// # Panics
    ///
    /// As [`EmbeddedStore::open`].
    pub fn on_disk(name: &str, disk: Arc<dyn Disk>, config: Config, now: SystemTime) -> Result<Self> {
        let medium = Medium::new(disk).map_err(|e| io_error(name, &e))?;
        let (engine, state, garbage) = Engine::open(name.to_owned(), medium)?;
        Self::start(engine, state, garbage, config, Clock::start(now), None)
    }

    /// Opens and reads the file in a directory.
    fn load(home: &Home) -> Result<(Engine, State, Vec<Garbage>)> {
        home.check_finished()?;
        let file = home.store();
        let path = file.display().to_string();
        let disk = FileDisk::open(&file, home.doubt()).map_err(|e| io_error(&path, &e))?;
        let medium = Medium::new(Arc::new(disk)).map_err(|e| io_error(&path, &e))?;
        let (engine, state, garbage) = Engine::open(path.clone(), medium)?;
        if let Some(why) = home.known().and_then(|known| known.missing_from(&state)) {
            return Err(Error::Corrupt { path, why });
        }
        let (revision, oldest) = (state.revision(), state.oldest());
        tracing::debug!(path, revision, oldest, "opened the store");
        Ok((engine, state, garbage))
    }

    fn start(
        engine: Engine,
        state: State,
        garbage: Vec<Garbage>,
        config: Config,
        clock: Clock,
        home: Option<Home>,
    ) -> Result<Self> {
        let shared = Shared::new(state, config);
        let writer = Writer::spawn(engine, shared.clone(), clock, garbage, home);
        let writer = writer.map_err(|e| Error::Io(format!("cannot start a thread: {e}")))?;
        let writer = Arc::new(writer);
        let keeper = Keeper::spawn(shared.clone(), writer.clone(), clock);
        Ok(Self {
            shared,
            writer,
            keeper,
        })
    }

    /// Does now what the store otherwise does when no write waits: removes what was compacted from the file, and shortens
    /// the file when it is long and mostly empty ([`Config::defragment_from`]).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when rows cannot be removed; [`Error::Closed`].
    pub async fn tidy(&self) -> Result<()> {
        self.writer.tidy().await
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

    async fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.shared.read(State::snapshot))
    }

    fn figures(&self) -> Figures {
        let (size, disk) = self.writer.disk_use();
        Figures {
            size,
            disk: Some(disk),
            ..self.shared.read(State::figures)
        }
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

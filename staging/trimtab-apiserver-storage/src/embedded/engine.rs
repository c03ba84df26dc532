//! The store's rows on disk, in a redb file. It knows rows and revisions, nothing of transactions or watches.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::format::{FORMAT, OLDEST_FORMAT, parse, row_key, row_value};
use super::loader::Loader;
use super::medium::Medium;
use crate::contract::{Error, Result, Revision};
use crate::state::{Change, Commit, Garbage, State};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_OLDEST: &str = "oldest";
const META_START: &str = "start";
/// What a panic of the engine's crate means.
const CONTRADICTION: &str = "its pages contradict each other";
/// For pages of the file. Reads are answered from the index, so this serves the inner pages of writes only.
const CACHE_BYTES: usize = 4 << 20;

/// An open file. After an error it is opened anew before the next write.
#[derive(Debug)]
pub(super) struct Engine {
    /// For messages.
    path: String,
    medium: Medium,
    database: Option<Database>,
    /// What the file is known to say of the oldest revision that can be asked for.
    oldest: Revision,
    /// The revision that the store began with.
    start: Revision,
}

impl Engine {
    /// Opens the file, makes it if need be, and reads what it holds. `path` is for messages.
    ///
    /// A panic of the engine's crate over a damaged file is an error like any other here.
    pub(super) fn open(path: String, medium: Medium) -> Result<(Self, State, Vec<Garbage>)> {
        let name = path.clone();
        let opened = catch_unwind(AssertUnwindSafe(move || {
            if medium.is_unfinished().map_err(|e| io_error(&path, &e))? {
                medium.set_len(0).map_err(|e| io_error(&path, &e))?;
            }
            let database = open(&medium, true).map_err(|e| open_error(&path, e.into()))?;
            let mut engine = Self {
                path,
                medium,
                database: Some(database),
                oldest: 1,
                start: 1,
            };
            engine.claim()?;
            let (state, garbage) = engine.load()?;
            engine.oldest = state.oldest();
            Ok((engine, state, garbage))
        }));
        opened.unwrap_or_else(|_| {
            Err(Error::Corrupt {
                path: name,
                why: CONTRADICTION.to_owned(),
            })
        })
    }

    /// The disk below.
    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or(Error::Closed)
    }

    /// Writes the format's version into a new file or one of an older format, or checks it.
    fn claim(&mut self) -> Result<()> {
        let database = self.database()?;
        let found = (|| -> std::result::Result<Option<u64>, redb::Error> {
            let txn = database.begin_read()?;
            match txn.open_table(META) {
                Ok(meta) => Ok(meta.get(META_FORMAT)?.map(|v| v.value())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })();
        match found.map_err(|e| open_error(&self.path, e))? {
            Some(FORMAT) => return Ok(()),
            Some(other) if other > FORMAT => {
                return Err(self.corrupt(format!(
                    "it is of format {other}, which a newer version of trimtab wrote, and this one reads formats \
                     {OLDEST_FORMAT} to {FORMAT}"
                )));
            }
            Some(other) if other < OLDEST_FORMAT => {
                return Err(self.corrupt(format!("it says that it is of format {other}, which never was")));
            }
            // Format 1 is format 2 without what a restore writes: nothing is to be converted.
            Some(_) | None => {}
        }
        let written = (|| -> std::result::Result<(), redb::Error> {
            let txn = database.begin_write()?;
            txn.open_table(ROWS)?;
            txn.open_table(META)?.insert(META_FORMAT, FORMAT)?;
            txn.commit()?;
            Ok(())
        })();
        written.map_err(|e| write_error(&self.path, e))
    }

    fn load(&mut self) -> Result<(State, Vec<Garbage>)> {
        let mut start = 1;
        let database = self.database()?;
        let read = (|| -> std::result::Result<Result<Loader, String>, redb::Error> {
            let txn = database.begin_read()?;
            let meta = txn.open_table(META)?;
            let number = |name: &str| meta.get(name).map(|found| found.map_or(1, |v| v.value()));
            start = number(META_START)?;
            let mut loader = Loader::new(start, number(META_OLDEST)?);
            for entry in txn.open_table(ROWS)?.iter()? {
                let (key, value) = entry?;
                if let Err(why) = parse(key.value(), value.value()).and_then(|row| loader.row(row)) {
                    return Ok(Err(why));
                }
            }
            Ok(Ok(loader))
        })();
        let loaded = read.map_err(|e| open_error(&self.path, e))?;
        self.start = start;
        loaded.and_then(Loader::finish).map_err(|why| self.corrupt(why))
    }

    fn corrupt(&self, why: String) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            why,
        }
    }

    /// Writes commits and removes garbage, with one sync. `current` is the revision that the file is known to
    /// hold: when a write has failed before, what it may have left behind is removed first.
    pub(super) fn write(
        &mut self,
        current: Revision,
        commits: &[Arc<Commit>],
        garbage: &[Garbage],
    ) -> Result<()> {
        self.change(current, |txn| {
            let mut rows = txn.open_table(ROWS)?;
            for commit in commits {
                for change in &commit.changes {
                    let key = row_key(commit.revision, &change.event.kv.key);
                    rows.insert(&key[..], &row_value(&key, change)[..])?;
                }
            }
            for row in garbage {
                rows.remove(&row_key(row.revision, &row.key)[..])?;
            }
            Ok(())
        })
    }

    /// Records that revisions below `oldest` can no longer be asked for.
    pub(super) fn set_oldest(&mut self, current: Revision, oldest: Revision) -> Result<()> {
        self.change(current, |txn| {
            txn.open_table(META)?.insert(META_OLDEST, oldest)?;
            Ok(())
        })?;
        self.oldest = oldest;
        Ok(())
    }

    /// Makes a new file one that begins at revision `start`.
    pub(super) fn set_start(&mut self, start: Revision) -> Result<()> {
        self.change(start, |txn| {
            txn.open_table(META)?.insert(META_START, start)?;
            Ok(())
        })
    }

    /// Writes keys as they are when a store begins at revision `start`.
    pub(super) fn write_base(&mut self, start: Revision, changes: &[Change]) -> Result<()> {
        self.change(start, |txn| {
            let mut rows = txn.open_table(ROWS)?;
            for change in changes {
                let kv = &change.event.kv;
                let key = row_key(kv.mod_revision, &kv.key);
                rows.insert(&key[..], &row_value(&key, change)[..])?;
            }
            Ok(())
        })
    }

    /// How long the file is, in bytes.
    pub(super) fn len(&self) -> Result<u64> {
        self.medium.len().map_err(|e| io_error(&self.path, &e))
    }

    /// Moves rows to where others were removed, and makes the file as short as that allows.
    pub(super) fn defragment(&mut self, current: Revision) -> Result<()> {
        self.guarded(|engine| {
            engine.recover(current)?;
            if let Some(database) = &mut engine.database {
                database.compact()?;
            }
            Ok(())
        })
    }

    fn change(
        &mut self,
        current: Revision,
        f: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<(), redb::Error>,
    ) -> Result<()> {
        self.guarded(|engine| {
            let txn = engine.recover(current)?.begin_write()?;
            f(&txn)?;
            txn.commit()?;
            Ok(())
        })
    }

    /// Changes the file; a panic of the engine's crate over a damaged one is an error like any other here.
    fn guarded(&mut self, f: impl FnOnce(&mut Self) -> std::result::Result<(), redb::Error>) -> Result<()> {
        let done = catch_unwind(AssertUnwindSafe(|| f(self)));
        let done = done.unwrap_or_else(|_| Err(redb::Error::Corrupted(CONTRADICTION.to_owned())));
        done.map_err(|error| {
            // redb does nothing more after an I/O error; a fresh look at the file tells what it holds.
            let database = self.database.take();
            if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
                tracing::warn!(path = self.path, "the store's file could not be closed");
            }
            open_error(&self.path, error)
        })
    }

    /// Removes what a failed write may have left behind, if it can: for when the file is closed.
    pub(super) fn settle(&mut self, current: Revision) {
        if let Err(error) = self.guarded(|engine| engine.recover(current).map(drop)) {
            tracing::warn!(%error, "what a failed write has left may be found when the store is opened again");
        }
    }

    fn recover(&mut self, current: Revision) -> std::result::Result<&Database, redb::Error> {
        if self.database.is_none() {
            // What a failed sync has left is written again by this one, before anything is built upon it.
            self.medium.sync_data()?;
            let database = open(&self.medium, false)?;
            let txn = database.begin_write()?;
            {
                let mut rows = txn.open_table(ROWS)?;
                rows.retain_in(&row_key(current + 1, b"")[..].., |_, _| false)?;
                // What the file has lost meanwhile must not be built upon.
                let last = rows
                    .last()?
                    .and_then(|(key, _)| Some(*key.value().first_chunk()?));
                let last = last.map_or(self.start, Revision::from_be_bytes).max(self.start);
                if last < current {
                    let why = format!("it ends at revision {last}, and held revision {current} before");
                    return Err(redb::Error::Corrupted(why));
                }
            }
            txn.open_table(META)?.insert(META_OLDEST, self.oldest)?;
            txn.commit()?;
            self.database = Some(database);
        }
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

/// Opens the file; `check` reads all of it, so that damage is found now rather than met later.
fn open(medium: &Medium, check: bool) -> std::result::Result<Database, DatabaseError> {
    let check = check && medium.len().map_err(redb::StorageError::from)? > 0;
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(check)
        .create_with_backend(medium.clone())
}

fn open_error(path: &str, error: redb::Error) -> Error {
    let corrupt = |why: String| Error::Corrupt {
        path: path.to_owned(),
        why,
    };
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::Locked {
            path: path.to_owned(),
        },
        redb::Error::Corrupted(why) => corrupt(why),
        redb::Error::UpgradeRequired(_) => corrupt("it was written by an old version".to_owned()),
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            corrupt(error.to_string())
        }
        error @ (redb::Error::TableTypeMismatch { .. } | redb::Error::TableDoesNotExist(_)) => {
            corrupt(error.to_string())
        }
        error => write_error(path, error),
    }
}

fn write_error(path: &str, error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error) => io_error(path, &error),
        redb::Error::Corrupted(why) => Error::Corrupt {
            path: path.to_owned(),
            why,
        },
        error => Error::Io(format!("{path}: {error}")),
    }
}

/// What a failed system call means for the store.
pub(super) fn io_error(path: &str, error: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let text = format!("{path}: {error}");
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        Error::Full(text)
    } else {
        Error::Io(text)
    }
}

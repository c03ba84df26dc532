//! The store's rows on disk, in a redb file. It knows rows and revisions, nothing of transactions or watches.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::format::{FORMAT, Row, parse, row_key, row_value};
use crate::contract::{Error, Event, EventKind, KeyValue, Result, Revision};
use crate::state::{Change, Commit, Garbage, Millis, State};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_OLDEST: &str = "oldest";

/// How the file is opened; tests put faults underneath.
pub(super) type Opener = Box<dyn FnMut() -> std::result::Result<Database, redb::DatabaseError> + Send>;

/// An open file. After an error it is opened anew before the next write.
pub(super) struct Engine {
    path: String,
    opener: Opener,
    database: Option<Database>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the file, makes it if need be, and reads what it holds. `path` is for messages.
    pub(super) fn open(path: String, mut opener: Opener) -> Result<(Self, State, Vec<Garbage>)> {
        let database = opener().map_err(|e| open_error(&path, e.into()))?;
        let mut engine = Self {
            path,
            opener,
            database: Some(database),
        };
        engine.claim()?;
        let (state, garbage) = engine.load()?;
        Ok((engine, state, garbage))
    }

    fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or(Error::Closed)
    }

    /// Writes the format's version into a new file, or checks an old one's.
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
            Some(other) => {
                let why = format!("it is of format {other}, and this version reads format {FORMAT} only");
                return Err(self.corrupt(why));
            }
            None => {}
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

    fn load(&self) -> Result<(State, Vec<Garbage>)> {
        let mut loader = Loader::default();
        let database = self.database()?;
        let mut oldest = 1;
        let read = (|| -> std::result::Result<Result<(), String>, redb::Error> {
            let txn = database.begin_read()?;
            oldest = txn.open_table(META)?.get(META_OLDEST)?.map_or(1, |v| v.value());
            loader.oldest = oldest;
            for entry in txn.open_table(ROWS)?.iter()? {
                let (key, value) = entry?;
                if let Err(why) = parse(key.value(), value.value()).and_then(|row| loader.row(row)) {
                    return Ok(Err(why));
                }
            }
            Ok(Ok(()))
        })();
        read.map_err(|e| open_error(&self.path, e))?
            .and_then(|()| loader.finish())
            .map_err(|why| self.corrupt(why))
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
        })
    }

    fn change(
        &mut self,
        current: Revision,
        f: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<(), redb::Error>,
    ) -> Result<()> {
        let result = match self.recover(current) {
            Ok(database) => (|| {
                let txn = database.begin_write()?;
                f(&txn)?;
                txn.commit()?;
                Ok(())
            })(),
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            // redb does nothing more after an I/O error; a fresh look at the file tells what it holds.
            self.database = None;
            write_error(&self.path, error)
        })
    }

    fn recover(&mut self, current: Revision) -> std::result::Result<&Database, redb::Error> {
        if self.database.is_none() {
            let database = (self.opener)()?;
            let txn = database.begin_write()?;
            txn.open_table(ROWS)?
                .retain_in(&row_key(current + 1, b"")[..].., |_, _| false)?;
            txn.commit()?;
            self.database = Some(database);
        }
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

/// Builds a state from rows in the order of their revisions.
#[derive(Debug, Default)]
struct Loader {
    oldest: Revision,
    /// The keys as they were just before `oldest`.
    base: HashMap<Bytes, (KeyValue, Option<Millis>)>,
    garbage: Vec<Garbage>,
    /// Built when the first row at or above `oldest` comes.
    state: Option<State>,
    /// The changes of the revision that is being read.
    changes: Vec<Change>,
}

impl Loader {
    fn row(&mut self, row: Row) -> Result<(), String> {
        if row.revision < self.oldest {
            return self.base_row(row);
        }
        if self
            .changes
            .first()
            .is_some_and(|c| c.event.kv.mod_revision != row.revision)
        {
            self.commit()?;
        }
        let prev = self.state().get(&row.key);
        let kv = KeyValue {
            key: row.key,
            value: row.value,
            create_revision: row.create_revision,
            mod_revision: row.revision,
        };
        self.changes.push(Change {
            event: Event {
                kind: row.kind,
                kv,
                prev,
            },
            expires: row.expires,
        });
        Ok(())
    }

    fn base_row(&mut self, row: Row) -> Result<(), String> {
        let Row {
            revision,
            key,
            kind,
            create_revision,
            expires,
            value,
        } = row;
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
        };
        let old = match kind {
            EventKind::Put => self.base.insert(key.clone(), (kv, expires)),
            EventKind::Delete => {
                self.garbage.push(Garbage {
                    revision,
                    key: key.clone(),
                });
                self.base.remove(&key)
            }
        };
        self.garbage.extend(old.map(|(kv, _)| Garbage {
            revision: kv.mod_revision,
            key,
        }));
        Ok(())
    }

    fn state(&mut self) -> &mut State {
        let (oldest, base) = (self.oldest, &mut self.base);
        self.state.get_or_insert_with(|| {
            let mut state = State::starting_at(oldest);
            for (_, (kv, expires)) in base.drain() {
                state.load(kv, expires);
            }
            state
        })
    }

    fn commit(&mut self) -> Result<(), String> {
        let changes = std::mem::take(&mut self.changes);
        let Some(revision) = changes.first().map(|c| c.event.kv.mod_revision) else {
            return Ok(());
        };
        let state = self.state();
        if revision != state.revision() + 1 {
            return Err(format!("revision {} is missing", state.revision() + 1));
        }
        state.apply(Arc::new(Commit { revision, changes }));
        Ok(())
    }

    fn finish(mut self) -> Result<(State, Vec<Garbage>), String> {
        self.commit()?;
        let oldest = self.oldest;
        let state = self.state();
        if state.revision() < oldest {
            return Err(format!("revision {oldest} is missing"));
        }
        state.settle();
        Ok((std::mem::take(state), self.garbage))
    }
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

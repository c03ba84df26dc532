//! A closed store to and from backups: read without being opened for service, and made anew.

use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EmbeddedStore;
use super::disk::{FileDisk, private};
use super::engine::{Engine, io_error};
use super::home::{Home, Known};
use super::medium::Medium;
use super::stopped::Stopped;
use crate::backup::{self, Reader, Summary};
use crate::contract::{self, Event, EventKind, Revision, Snapshot, SnapshotEntry};
use crate::state::Change;

/// About so many bytes are written at a time.
const PART_BYTES: usize = 8 << 20;

impl EmbeddedStore {
    /// Whether some process has the store in `dir` open.
    pub fn is_open(dir: impl AsRef<Path>) -> bool {
        Home::is_open(dir.as_ref())
    }

    /// Whether there is a store in `dir`.
    pub fn exists(dir: impl AsRef<Path>) -> bool {
        Home::holds_store(dir.as_ref())
    }

    /// Everything that is in the store in `dir`, which no process must have open. It blocks.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedStore::open`].
    pub fn read(dir: impl AsRef<Path>) -> contract::Result<Snapshot> {
        Ok(Stopped::hold(dir)?.snapshot())
    }

    /// Makes a store in `dir` of a backup; the store begins `bump` revisions after the backup, at least one, and answers
    /// with the revision at which it begins. The backup is read twice: before the first is known to be whole nothing
    /// is touched. The store is there in full, with its bytes synced and read again, or not at all. It blocks;
    /// `progress` is told of the keys checked or written, of all keys, and which of the two it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the backup; [`backup::Error::NotEmpty`] when there is something in `dir` already;
    /// [`backup::Error::Store`] when the store cannot be written, or a process has it open.
    pub fn restore(
        dir: impl AsRef<Path>,
        mut from: impl Read + Seek,
        bump: u64,
        mut progress: impl FnMut(Phase, u64, u64),
    ) -> Result<(Summary, Revision), backup::Error> {
        let summary = backup::verify(BufReader::new(&mut from), |keys, of| {
            progress(Phase::Checking, keys, of);
        })?;
        from.rewind()?;
        let vacant = Vacant::find(dir)?;
        let start = summary.revision.saturating_add(bump.max(1));
        let mut reader = Reader::new(BufReader::new(from))?;
        vacant.fill(
            start,
            summary.keys,
            || reader.block(),
            |keys| {
                progress(Phase::Writing, keys, summary.keys);
            },
        )?;
        Ok((summary, start))
    }
}

/// A directory in which nothing is yet, kept from other processes until a store has been made in it. Should this process be
/// killed, a file is left there for which no store is opened before one has been made.
#[derive(Debug)]
pub struct Vacant(Unfinished, Home);

/// The file that is not the store yet. It goes when it is given up.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more if it has become the store.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Vacant {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    ///
    /// [`backup::Error::NotEmpty`] when there is something in it; [`backup::Error::Store`] when it cannot be made, or a
    /// process has it open.
    pub fn find(dir: impl AsRef<Path>) -> Result<Self, backup::Error> {
        let home = Home::open(dir.as_ref())?;
        if !home.is_vacant()? {
            return Err(backup::Error::NotEmpty(dir.as_ref().display().to_string()));
        }
        let file = home.unfinished();
        let made = private().truncate(true).open(&file).map(drop);
        let made = made.and_then(|()| home.sync());
        let unfinished = Unfinished(file);
        made.map_err(|error| io_error(&unfinished.0.display().to_string(), &error))?;
        Ok(Self(unfinished, home))
    }

    /// Makes a store that begins at revision `start`, which is after those of all keys. `next` hands over some of the `of`
    /// keys at a time, and nothing at the end. The store is there in full, with its bytes synced and read again, or not at
    /// all. It blocks; `progress` is told of the keys written.
    ///
    /// # Errors
    ///
    /// Those of `next`; [`backup::Error::Store`] when the store cannot be written.
    pub fn fill(
        self,
        start: Revision,
        of: u64,
        mut next: impl FnMut() -> Result<Option<Vec<SnapshotEntry>>, backup::Error>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), backup::Error> {
        let Self(unfinished, home) = self;
        let name = unfinished.0.display().to_string();
        let failed = |error: std::io::Error| io_error(&name, &error);
        let written = (|| {
            let mut engine = open(&unfinished.0, &home)?.0;
            engine.set_start(start)?;
            let (mut part, mut size, mut keys) = (Vec::new(), 0, 0);
            while let Some(entries) = next()? {
                keys += entries.len() as u64;
                size += entries.iter().map(|e| e.kv.value.len()).sum::<usize>();
                part.extend(entries.into_iter().map(change));
                if size >= PART_BYTES {
                    engine.write_base(start, &part)?;
                    part.clear();
                    size = 0;
                    progress(keys);
                }
            }
            engine.write_base(start, &part)?;
            progress(keys);
            drop(engine);
            // As the server will.
            let (_engine, state, _) = open(&unfinished.0, &home)?;
            let (found, wanted) = (Known::of(&state), keys_at(of, start));
            if found != wanted {
                return Err(backup::Error::Store(contract::Error::Corrupt {
                    path: name.clone(),
                    why: "what was written is not what is read back".to_owned(),
                }));
            }
            Ok(found)
        })();
        let done = written.and_then(|known| {
            let named = std::fs::rename(&unfinished.0, home.store());
            let synced = named
                .and_then(|()| home.sync())
                .and_then(|()| home.closed_at(known));
            Ok(synced.map_err(failed)?)
        });
        // Before others may look.
        drop(unfinished);
        done
    }
}

/// What a restore is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The backup is being checked.
    Checking,
    /// The store is being written.
    Writing,
}

fn open(
    file: &Path,
    home: &Home,
) -> contract::Result<(Engine, crate::state::State, Vec<crate::state::Garbage>)> {
    let name = file.display().to_string();
    let disk = FileDisk::open(file, home.doubt()).map_err(|e| io_error(&name, &e))?;
    let medium = Medium::new(Arc::new(disk)).map_err(|e| io_error(&name, &e))?;
    Engine::open(name, medium)
}

fn keys_at(keys: u64, revision: Revision) -> Known {
    let keys = usize::try_from(keys).unwrap_or(usize::MAX);
    Known { revision, keys }
}

fn change(entry: SnapshotEntry) -> Change {
    let SnapshotEntry { kv, expires } = entry;
    let event = Event {
        kind: EventKind::Put,
        kv,
        prev: None,
    };
    Change { event, expires }
}

//! The directory of a store: who may open it, one process at a time, and what is known of how it was closed.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::disk::private;
use super::engine::io_error;
use crate::contract::{Error, Result, Revision};
use crate::state::State;

const STORE_FILE: &str = "store.redb";
const LOCK_FILE: &str = "lock";
const CLOSED_FILE: &str = "closed";
const DOUBT_FILE: &str = "unsynced";
const UNFINISHED_FILE: &str = "store.redb.restoring";

/// A directory that this process alone has open; it lets go of it when dropped.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the directory if need be, for its owner alone, and locks it.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let shown = |path: &Path| path.display().to_string();
        make(dir).map_err(|e| io_error(&shown(dir), &e))?;
        let path = dir.join(LOCK_FILE);
        let lock = match private().open(&path) {
            // A lock that cannot be written can still be held.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
            other => other,
        };
        let lock = lock.map_err(|e| io_error(&shown(&path), &e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: shown(dir) }),
            Err(TryLockError::Error(error)) => Err(io_error(&shown(&path), &error)),
        }
    }

    /// Whether a process has the store in `dir` open. It need not exist.
    pub(super) fn is_open(dir: &Path) -> bool {
        File::open(dir.join(LOCK_FILE))
            .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Whether there is a store in `dir`.
    pub(super) fn holds_store(dir: &Path) -> bool {
        dir.join(STORE_FILE).exists()
    }

    /// The file with the rows.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join(STORE_FILE)
    }

    /// The file that is there while a failed sync has not been made good.
    pub(super) fn doubt(&self) -> PathBuf {
        self.dir.join(DOUBT_FILE)
    }

    /// The file that a restore writes before it becomes the store.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join(UNFINISHED_FILE)
    }

    /// Refuses a directory in which a store was to be made that is not there: an empty one in its place would look like it.
    pub(super) fn check_finished(&self) -> Result<()> {
        let unfinished = self.unfinished();
        if !self.store().exists() && unfinished.exists() {
            let path = unfinished.display().to_string();
            return Err(Error::Unfinished { path });
        }
        Ok(())
    }

    /// Whether nothing is there beyond what an interrupted restore leaves.
    pub(super) fn is_vacant(&self) -> Result<bool> {
        let entries = std::fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|e| io_error(&self.dir.display().to_string(), &e))?;
        let left = [LOCK_FILE, UNFINISHED_FILE, DOUBT_FILE];
        Ok(entries
            .iter()
            .all(|e| left.iter().any(|name| e.file_name() == **name)))
    }

    /// Syncs the names in the directory.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// What the store is known to have held when it was last closed in peace. Nothing where that is not known or cannot be
    /// read: it only guards against loss.
    pub(super) fn known(&self) -> Option<Known> {
        let mut text = String::new();
        let mut file = File::open(self.dir.join(CLOSED_FILE)).ok()?.take(64);
        file.read_to_string(&mut text).ok()?;
        let (known, sum) = text.trim_end().rsplit_once(' ')?;
        if format!("{:08x}", crc32fast::hash(known.as_bytes())) != sum {
            return None;
        }
        let (revision, keys) = known.split_once(' ')?;
        Some(Known {
            revision: revision.parse().ok()?,
            keys: keys.parse().ok()?,
        })
    }

    /// Records what the store holds when it is closed.
    pub(super) fn closed_at(&self, Known { revision, keys }: Known) -> io::Result<()> {
        let known = format!("{revision} {keys}");
        let sum = crc32fast::hash(known.as_bytes());
        let mut file = private().truncate(true).open(self.dir.join(CLOSED_FILE))?;
        writeln!(file, "{known} {sum:08x}")?;
        file.sync_data()
    }
}

/// Makes a directory and those above it, as far as they are missing, so that their names outlive a power cut.
fn make(dir: &Path) -> io::Result<()> {
    let missing = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing: Vec<&Path> = missing.collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// What a store held at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) revision: Revision,
    /// How many keys there were at that revision.
    pub(super) keys: usize,
}

impl Known {
    /// What a state holds now.
    pub(super) fn of(state: &State) -> Self {
        Self {
            revision: state.revision(),
            keys: state.len(),
        }
    }

    /// What is missing from a state that is to hold this at least, for people.
    pub(super) fn missing_from(self, state: &State) -> Option<String> {
        let Known { revision, keys } = self;
        let found = Self::of(state);
        if found.revision < revision {
            return Some(format!(
                "it ends at revision {}, but was closed at revision {revision}: the last transactions are missing",
                found.revision
            ));
        }
        (found.revision == revision && found.keys != keys)
            .then(|| format!("it holds {} keys, but was closed with {keys}", found.keys))
    }
}

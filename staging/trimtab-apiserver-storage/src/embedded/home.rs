//! The directory of a store: who may open it, one process at a time, and what is known of how it was closed.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::disk::private;
use super::engine::io_error;
use crate::contract::{Error, Result, Revision};

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
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| io_error(&shown(dir), &e))?;
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

    /// The revision that the store is known to have reached, from when it was last closed in peace. Nothing where that
    /// is not known or cannot be read: it only guards against loss.
    pub(super) fn known(&self) -> Option<Revision> {
        let mut text = String::new();
        let mut file = File::open(self.dir.join(CLOSED_FILE)).ok()?.take(64);
        file.read_to_string(&mut text).ok()?;
        let (revision, sum) = text.trim_end().split_once(' ')?;
        (format!("{:08x}", crc32fast::hash(revision.as_bytes())) == sum)
            .then(|| revision.parse().ok())
            .flatten()
    }

    /// Records the revision at which the store was closed.
    pub(super) fn closed_at(&self, revision: Revision) -> io::Result<()> {
        let revision = revision.to_string();
        let sum = crc32fast::hash(revision.as_bytes());
        let mut file = private().truncate(true).open(self.dir.join(CLOSED_FILE))?;
        writeln!(file, "{revision} {sum:08x}")?;
        file.sync_data()
    }
}

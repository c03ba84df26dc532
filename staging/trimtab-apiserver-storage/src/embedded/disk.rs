//! What the engine keeps its rows on: a file's worth of bytes. Tests put harsher disks in its place.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file's worth of bytes that can be synced. One store uses it at a time, from one thread.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// How many bytes it holds.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing, as when it has just been made.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` with what is at `offset`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or ends before that ([`io::ErrorKind::UnexpectedEof`]).
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes `data` at `offset`, within the length.
    ///
    /// # Errors
    ///
    /// When it cannot be written; any part of it may have been.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes it longer, with zeros, or shorter.
    ///
    /// # Errors
    ///
    /// When it cannot be.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written since the last sync is safe from a power cut.
    ///
    /// # Errors
    ///
    /// When it may not be. What was written since the last sync may then be read back and yet never reach the
    /// disk, even if a later sync succeeds, unless it is written again: Linux forgets what it could not write.
    fn sync(&self) -> io::Result<()>;

    /// Whether [`Disk::set_doubtful`] says so, in this process or one before it on the same machine.
    fn is_doubtful(&self) -> bool;

    /// Remembers that a sync has failed, for a process that comes after this one, or that this was made good. It need
    /// not outlive the machine: what was not synced does not either. Best effort, since the disk may be failing.
    fn set_doubtful(&self, doubtful: bool);
}

/// A file.
#[derive(Debug)]
pub(super) struct FileDisk {
    file: File,
    /// Is there while a failed sync has not been made good.
    doubt: PathBuf,
}

impl FileDisk {
    /// Opens a file, which only its owner may read when this makes it. A file called `doubt` is there while a failed
    /// sync has not been made good.
    pub(super) fn open(path: &Path, doubt: PathBuf) -> io::Result<Self> {
        let file = private().read(true).open(path)?;
        if file.metadata()?.len() == 0
            && let Some(dir) = path.parent()
        {
            // Without this the name of a new file may not outlive a power cut, whatever was synced in it.
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { file, doubt })
    }
}

/// How files are made that hold what only their owner may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_doubtful(&self) -> bool {
        self.doubt.exists()
    }

    fn set_doubtful(&self, doubtful: bool) {
        let done = if doubtful {
            private().open(&self.doubt).map(drop)
        } else {
            std::fs::remove_file(&self.doubt)
        };
        if let Err(error) = done {
            tracing::debug!(%error, path = %self.doubt.display(), "cannot note the state of the disk");
        }
    }
}

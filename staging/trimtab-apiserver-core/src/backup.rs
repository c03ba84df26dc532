//! Backups as files, and the command line of saving and restoring them.
//!
//! A backup's file has its name only once it is whole: it is written beside it, synced, read again from the first byte to
//! the last, and renamed. Only its owner may read it, since it holds every Secret.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use trimtab_apiserver_storage::backup::{self, BUMP, Summary};
use trimtab_apiserver_storage::embedded::{Phase, Stopped};
use trimtab_apiserver_storage::{EmbeddedStore, Revision, Snapshot};

use crate::cli::Progress;

/// Where a server answers with a backup of what it stores. `get` on it is what RBAC has to allow, as
/// `nonResourceURLs`; members of `system:masters` may.
pub const SNAPSHOT_PATH: &str = "/trimtab/snapshot";

/// The command line of saving a backup.
#[derive(Clone, Debug, Args)]
pub struct BackupOptions {
    /// Where the backup is saved; a file that is there is replaced once the new one is whole
    pub file: PathBuf,

    /// What is saved
    #[command(flatten)]
    pub of: SourceOptions,
}

/// The part of command lines that says what store or server they are about.
#[derive(Clone, Debug, Args)]
pub struct SourceOptions {
    /// Where the embedded store keeps its files; a server may be running on it
    #[arg(long, default_value = "trimtab/data")]
    pub data_dir: PathBuf,

    /// How to reach a running server, whatever it stores in [default: admin.kubeconfig beside the data dir, when a
    /// server is running on it]
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// The command line of restoring a backup.
#[derive(Clone, Debug, Args)]
pub struct RestoreOptions {
    /// The backup
    pub file: PathBuf,

    /// Where the new store is made; nothing may be there
    #[arg(long, default_value = "trimtab/data")]
    pub data_dir: PathBuf,

    /// Only say whether the backup is whole, and make nothing
    #[arg(long)]
    pub check: bool,

    /// By how many revisions the new store begins after the backup: more than the old one can have made since, so that
    /// clients never see a resource version again
    #[arg(long, default_value_t = BUMP, value_name = "REVISIONS")]
    pub bump_revision: u64,
}

/// A backup that cannot be saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be read or written, or is no whole backup.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: backup::Error,
    },
    /// There is nothing to save.
    #[error(
        "there is no store in {0}: name it with --data-dir, or a running server by its kubeconfig with --kubeconfig"
    )]
    NoStore(String),
    /// A server is running on the store, and how to reach it is not known.
    #[error("a server is running on {0}: name its kubeconfig with --kubeconfig")]
    NoKubeconfig(String),
    /// The store cannot be read or written.
    #[error("--data-dir {path}: {source}")]
    DataDir {
        /// The directory.
        path: String,
        /// Why.
        source: backup::Error,
    },
    /// The server does not answer with a backup.
    #[error("the server refuses with {code}: {message}")]
    Refused {
        /// The status code.
        code: u16,
        /// What it says.
        message: String,
    },
}

/// Where a backup comes from.
#[derive(Debug)]
pub enum Source {
    /// A store that no server has open.
    Store(Box<Stopped>),
    /// A running server, which this kubeconfig leads to.
    Server(PathBuf),
}

/// What a backup holds, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report(Summary);

/// What a restore has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: Report,
    /// The revision that the new store begins at; `None` when the backup was only checked.
    pub begins: Option<Revision>,
}

impl SourceOptions {
    /// Finds out what is meant, and opens it, to the exclusion of others, when it is a store that no server has open.
    ///
    /// # Errors
    ///
    /// When there is neither a store nor a server, or the store cannot be read.
    pub fn source(&self) -> Result<Source, BackupError> {
        if let Some(kubeconfig) = &self.kubeconfig {
            return Ok(Source::Server(kubeconfig.clone()));
        }
        let path = self.data_dir.display().to_string();
        if EmbeddedStore::is_open(&self.data_dir) {
            let beside = self.data_dir.parent().unwrap_or(Path::new(""));
            let kubeconfig = beside.join("admin.kubeconfig");
            return match kubeconfig.exists() {
                true => Ok(Source::Server(kubeconfig)),
                false => Err(BackupError::NoKubeconfig(path)),
            };
        }
        if !EmbeddedStore::exists(&self.data_dir) {
            return Err(BackupError::NoStore(path));
        }
        let held = Stopped::hold(&self.data_dir).map_err(backup::Error::Store);
        let held = held.map_err(|source| BackupError::DataDir { path, source })?;
        Ok(Source::Store(Box::new(held)))
    }
}

impl BackupOptions {
    /// Saves a snapshot.
    ///
    /// # Errors
    ///
    /// When the snapshot cannot be read, or the file not be written; a file that was there is then still there.
    pub async fn save(&self, snapshot: Snapshot, progress: &mut Progress) -> Result<Report, BackupError> {
        let mut file = BackupFile::create(&self.file)?;
        let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = u64::try_from(made.as_millis()).unwrap_or(u64::MAX);
        let saved = backup::save(snapshot, made, &mut file.to, |keys, of| {
            progress.show(|| format!("saving: {keys} of {of} keys"));
        });
        saved.await.map_err(|e| file.failed(e))?;
        file.finish(progress)
    }
}

impl BackupError {
    /// The error for a server that has answered with a status instead of a backup.
    pub fn refused(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = match status["message"].as_str() {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(body).trim().to_owned(),
        };
        Self::Refused { code, message }
    }
}

impl RestoreOptions {
    /// Restores, or checks. It blocks.
    ///
    /// # Errors
    ///
    /// When the backup is not whole, before anything is touched; when there is something in the data dir, or it cannot be
    /// written, and then nothing is there that a server would open.
    pub fn run(&self, progress: &mut Progress) -> Result<Restored, BackupError> {
        let path = self.file.display().to_string();
        let named = |source: backup::Error| BackupError::File {
            path: path.clone(),
            source,
        };
        let file = File::open(&self.file).map_err(|e| named(e.into()))?;
        if self.check {
            let checked = backup::verify(BufReader::new(file), |keys, of| checking(progress, keys, of));
            let backup = Report(checked.map_err(named)?);
            return Ok(Restored { backup, begins: None });
        }
        let shown = |phase: Phase, keys, of| match phase {
            Phase::Checking => checking(progress, keys, of),
            Phase::Writing => progress.show(|| format!("restoring: {keys} of {of} keys")),
        };
        let (summary, begins) = EmbeddedStore::restore(&self.data_dir, file, self.bump_revision, shown)
            .map_err(|source| match source {
                backup::Error::Store(_) | backup::Error::NotEmpty(_) => BackupError::DataDir {
                    path: self.data_dir.display().to_string(),
                    source,
                },
                source => named(source),
            })?;
        Ok(Restored {
            backup: Report(summary),
            begins: Some(begins),
        })
    }
}

fn checking(progress: &mut Progress, keys: u64, of: u64) {
    progress.show(|| format!("checking: {keys} of {of} keys"));
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            revision,
            keys,
            bytes,
            made,
        } = self.0;
        let made = Timestamp::from_millisecond(i64::try_from(made).unwrap_or(0)).unwrap_or_default();
        let made = made.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(
            f,
            "         {keys} keys at revision {revision}, {bytes} bytes, made {made}"
        )
    }
}

/// A backup that is being written beside the name that it will have. What was not finished is removed when dropped.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    unfinished: PathBuf,
    to: BufWriter<File>,
    bytes: u64,
    finished: bool,
}

impl BackupFile {
    /// Begins to write the backup that will be called `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be made there.
    pub fn create(path: &Path) -> Result<Self, BackupError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = path.with_file_name(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished);
        let file = file.map_err(|e| named(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            unfinished,
            to: BufWriter::new(file),
            bytes: 0,
            finished: false,
        })
    }

    /// Writes a piece of a backup that was made elsewhere.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, piece: &[u8], progress: &mut Progress) -> Result<(), BackupError> {
        self.to.write_all(piece).map_err(|e| self.failed(e.into()))?;
        self.bytes += piece.len() as u64;
        progress.show(|| format!("saving: {} KiB", self.bytes >> 10));
        Ok(())
    }

    /// Syncs what was written, reads all of it again, and gives it its name.
    ///
    /// # Errors
    ///
    /// When it cannot be synced or renamed, or is no whole backup.
    pub fn finish(mut self, progress: &mut Progress) -> Result<Report, BackupError> {
        let synced = self.to.flush().and_then(|()| self.to.get_ref().sync_all());
        synced.map_err(|e| self.failed(e.into()))?;
        let again = File::open(&self.unfinished).map_err(|e| self.failed(e.into()))?;
        let checked = backup::verify(BufReader::new(again), |keys, of| checking(progress, keys, of));
        let summary = checked.map_err(|e| self.failed(e))?;
        let dir = match self.path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        std::fs::rename(&self.unfinished, &self.path)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|e| self.failed(e.into()))?;
        self.finished = true;
        Ok(Report(summary))
    }

    fn failed(&self, source: backup::Error) -> BackupError {
        let path = self.path.display().to_string();
        BackupError::File { path, source }
    }
}

impl Drop for BackupFile {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.unfinished); // it may never have been there
        }
    }
}

fn named(path: &Path, error: io::Error) -> BackupError {
    BackupError::File {
        path: path.display().to_string(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("reads");
        entries
            .map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[tokio::test]
    async fn a_backup_that_is_not_whole_leaves_the_old_one() {
        let dir = std::env::temp_dir().join(format!("trimtab-backup-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("makes");
        let options = BackupOptions {
            file: dir.join("x.backup"),
            of: SourceOptions {
                data_dir: dir.join("none"),
                kubeconfig: None,
            },
        };
        let snapshot = Snapshot::new(7, Vec::new());
        let saved = options.save(snapshot, &mut Progress::new()).await.expect("saves");
        assert!(saved.to_string().contains("0 keys at revision 7"), "{saved}");
        let old = std::fs::read(&options.file).expect("reads");

        // A server that dies while it answers.
        let mut file = BackupFile::create(&options.file).expect("begins");
        file.write(&old[..old.len() - 5], &mut Progress::new())
            .expect("writes");
        let error = file
            .finish(&mut Progress::new())
            .expect_err("is not whole")
            .to_string();
        assert!(
            error.ends_with("x.backup: it is cut off after 45 bytes: 0 of 0 keys are there"),
            "{error}"
        );
        // A command that is stopped.
        drop(BackupFile::create(&options.file).expect("begins"));
        assert_eq!(
            (names(&dir), std::fs::read(&options.file).expect("reads")),
            (vec!["x.backup".to_owned()], old)
        );
        std::fs::remove_dir_all(&dir).expect("removes");
    }
}

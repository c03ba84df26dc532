//! The file that events are written to: private to its owner, and begun anew when it has become too large. What was is kept
//! beside it under its time, as many files and for as long as is wanted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How a file's name says when it was put aside.
const TIMES: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// When files are put aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file is not longer than this, in bytes; 0 for as long as it gets.
    pub max_size: u64,
    /// Files that were put aside longer ago are removed; zero for never.
    pub max_age: Duration,
    /// At most so many are kept; 0 for all.
    pub max_backups: usize,
}

impl Default for Rotation {
    /// kube-apiserver's: 100 MiB, 366 days, 100 files.
    fn default() -> Self {
        Self {
            max_size: 100 << 20,
            max_age: Duration::from_secs(366 * 24 * 3600),
            max_backups: 100,
        }
    }
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens the file to go on with it, or makes it.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            rotation,
            file,
            size,
        })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let most = self.rotation.max_size;
        let length = lines.len() as u64;
        if most > 0 && self.size > 0 && self.size + length > most {
            self.rotate(now)?;
        }
        self.file.write_all(lines)?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let (before, after) = self.name_parts();
        let name = |at: Timestamp| {
            let time = at.to_zoned(TimeZone::UTC).strftime(TIMES).to_string();
            self.path.with_file_name(format!("{before}-{time}{after}"))
        };
        // Two in the same millisecond are two.
        let mut at = now;
        while name(at).exists() {
            at += Duration::from_millis(1);
        }
        fs::rename(&self.path, name(at))?;
        self.file = open(&self.path)?;
        self.size = 0;
        if let Err(error) = self.clean(now) {
            tracing::warn!(%error, "old audit logs cannot be removed");
        }
        Ok(())
    }

    /// What the names of files put aside have before the time and after it.
    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
        let after = text(self.path.extension()).map_or_else(String::new, |e| format!(".{e}"));
        (text(self.path.file_stem()).unwrap_or_default(), after)
    }

    fn clean(&self, now: Timestamp) -> io::Result<()> {
        let Rotation {
            max_age, max_backups, ..
        } = self.rotation;
        let (before, after) = self.name_parts();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut aside: Vec<(Timestamp, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&before).and_then(|rest| rest.strip_prefix('-'));
            let time = time.and_then(|rest| rest.strip_suffix(&after));
            let time = time.and_then(|time| jiff::civil::DateTime::strptime(TIMES, time).ok());
            if let Some(at) = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok()) {
                aside.push((at.timestamp(), entry.path()));
            }
        }
        aside.sort();
        aside.reverse();
        for (i, (at, path)) in aside.iter().enumerate() {
            let age = Duration::try_from(now.duration_since(*at)).unwrap_or_default();
            let old = !max_age.is_zero() && age > max_age;
            if old || (max_backups > 0 && i >= max_backups) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // What is written may be secret.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_old_ones_go() {
        let folder = std::env::temp_dir().join(format!("trimtab-audit-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("audit.log");
        fs::write(folder.join("audit-of-others.log"), "x").expect("writes");
        let rotation = Rotation {
            max_size: 10,
            max_age: Duration::from_secs(3600),
            max_backups: 2,
        };
        let mut log = LogFile::open(&path, rotation).expect("opens");
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut write = |line: &str, minutes: u64| {
            let at = now + Duration::from_secs(60 * minutes);
            log.write(line.as_bytes(), at).expect("writes");
        };
        write("123456\n", 0);
        write("7\n", 0);
        write("89\n", 1);
        assert_eq!(
            names(&folder),
            [
                "audit-2026-01-01T00-01-00.000.log",
                "audit-of-others.log",
                "audit.log"
            ]
        );
        write("longer than ten\n", 1);
        write("next\n", 5);
        assert_eq!(
            names(&folder),
            [
                "audit-2026-01-01T00-01-00.001.log",
                "audit-2026-01-01T00-05-00.000.log",
                "audit-of-others.log",
                "audit.log"
            ],
            "two are kept"
        );
        write("much later\n", 100);
        assert_eq!(
            names(&folder),
            [
                "audit-2026-01-01T01-40-00.000.log",
                "audit-of-others.log",
                "audit.log"
            ]
        );
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(log);
        let mut again = LogFile::open(&path, rotation).expect("opens");
        again.write(b"\n", now).expect("writes");
        assert_eq!(names(&folder).len(), 4, "what it held counts");
        fs::remove_dir_all(&folder).expect("removes");
    }
}

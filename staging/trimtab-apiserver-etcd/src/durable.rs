//! Files that are there in full or not at all, also after a power cut.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file beside its place, syncs it and renames it. Without a mode it gets that of the file that it replaces, or
/// is its owner's alone.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<()> {
    let mode = mode.unwrap_or_else(|| match fs::metadata(path) {
        Ok(old) => old.permissions().mode() & 0o777,
        Err(_) => 0o600,
    });
    let beside = beside(path, ".new");
    let written = (|| {
        let _ = fs::remove_file(&beside); // what a crash has left may be of another mode
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(Error::file(path))?;
    sync_dir(path)
}

/// Gives a file or directory that is synced its name, and syncs the name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::file(to))?;
    sync_dir(to)
}

/// The name with something behind it.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Syncs the directory that holds a name.
fn sync_dir(path: &Path) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file(dir))
}

//! Snapshots of etcd as files, and members made of them.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use trimtab_apiserver_storage::EtcdAdmin;

use crate::bolt;
use crate::certificates::own_as;
use crate::durable;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::runner;

/// By how many revisions a restored cluster begins after its snapshot, unless it is told otherwise; what etcd's
/// documentation gives as an example.
pub const BUMP: u64 = 1_000_000_000;

/// Told of how far something long has come.
pub type Told<'a> = dyn FnMut(String) + Send + 'a;

/// Saves a member's snapshot under a name that it gets once it is whole: written, synced, and its hash checked.
///
/// # Errors
///
/// When it does not come in full or cannot be written; a file that was there is then still there.
pub async fn save(admin: &EtcdAdmin, path: &Path, told: &mut Told<'_>) -> Result<Inventory> {
    let unfinished = durable::beside(path, ".unfinished");
    let saved = save_to(admin, &unfinished, told).await;
    let held = saved.and_then(|()| {
        bolt::check_hash(&unfinished).map_err(Error::snapshot(path))?;
        bolt::inventory(&unfinished, |n| told(format!("checking: {n} revisions")))
            .map_err(Error::snapshot(path))
    });
    match held {
        Ok(held) => {
            durable::rename(&unfinished, path)?;
            Ok(held)
        }
        Err(error) => {
            let _ = fs::remove_file(&unfinished); // it may never have been there
            Err(error)
        }
    }
}

async fn save_to(admin: &EtcdAdmin, path: &Path, told: &mut Told<'_>) -> Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.map_err(Error::file(path))?;
    let mut snapshot = admin.snapshot().await?;
    let mut bytes = 0;
    while let Some((part, left)) = snapshot.next().await? {
        file.write_all(&part).map_err(Error::file(path))?;
        bytes += part.len() as u64;
        told(format!("saving: {} of {} KiB", bytes >> 10, (bytes + left) >> 10));
    }
    file.sync_all().map_err(Error::file(path))
}

/// Checks a file's hash, and answers what it holds. It blocks.
///
/// # Errors
///
/// When it is not a whole snapshot.
pub fn check(path: &Path, told: &mut Told<'_>) -> Result<Inventory> {
    bolt::check_hash(path).map_err(Error::snapshot(path))?;
    bolt::inventory(path, |n| told(format!("checking: {n} revisions"))).map_err(Error::snapshot(path))
}

/// The program of etcd's that restores snapshots: `etcdutl` from 3.5 on, `etcdctl` before 3.6.
#[derive(Clone, Debug)]
pub struct Restorer {
    program: PathBuf,
    bumps: bool,
}

/// A member that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Its name.
    pub name: String,
    /// Where its peers will find it.
    pub peer_urls: Vec<String>,
    /// The directory that is made for it.
    pub data_dir: PathBuf,
}

impl Restorer {
    /// Looks for it: what is named, else beside a program of etcd's, else on the path.
    ///
    /// # Errors
    ///
    /// When there is none, saying where it was looked for.
    pub async fn find(named: Option<&Path>, beside: Option<&Path>) -> Result<Self> {
        let mut places = Vec::new();
        match named {
            Some(named) => places.push(named.to_owned()),
            None => {
                let dir = beside
                    .and_then(Path::parent)
                    .filter(|dir| !dir.as_os_str().is_empty());
                for name in ["etcdutl", "etcdctl"] {
                    places.extend(dir.map(|dir| dir.join(name)));
                }
                places.extend(["etcdutl", "etcdctl"].map(PathBuf::from));
            }
        }
        for program in &places {
            let help = ["snapshot", "restore", "--help"].map(str::to_owned);
            let words = [vec![program.display().to_string()], help.to_vec()].concat();
            let Ok(output) = runner::run(&words).await else {
                continue;
            };
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            // An etcdctl that no longer can do it shows the help of something else.
            if text.contains("--initial-cluster-token") {
                return Ok(Self {
                    program: program.clone(),
                    bumps: text.contains("--bump-revision"),
                });
            }
        }
        let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        Err(Error::Usage(format!(
            "no program that restores snapshots was found ({}): install etcdutl (etcd 3.5 and later) or etcdctl (before 3.6), or \
             name it with --restore-with",
            places.join(", ")
        )))
    }

    /// Makes a member of a snapshot that holds `held`, beginning `bump` revisions after it, with everything from before marked as
    /// compacted if that is not 0. The directory has its name once what is in it was compared; one that is there already
    /// and holds the same is left as it is.
    ///
    /// # Errors
    ///
    /// When there is something else, the program fails, or what it made is not what was to be restored.
    pub async fn restore(
        &self,
        file: &Path,
        held: &Inventory,
        member: &NewMember,
        cluster: &[NewMember],
        bump: u64,
        like: Option<&Path>,
    ) -> Result<Inventory> {
        if bump > 0 && !self.bumps {
            return Err(Error::Usage(format!(
                "{} cannot raise revisions, so clients could see revisions again that they have seen with other contents: use \
                 etcdutl of 3.6 (--restore-with), or say --bump-revision=0 if all clients are started anew",
                self.program.display()
            )));
        }
        let dir = &member.data_dir;
        if dir.exists() {
            return checked(dir, held, bump).map_err(|error| {
                Error::Usage(format!(
                    "{} is not empty, and is not the snapshot restored: {error}",
                    dir.display()
                ))
            });
        }
        let beside = durable::beside(dir, ".restoring");
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(Error::file(&beside))?; // what a crash has left of ours
        }
        let urls = |member: &NewMember| {
            member
                .peer_urls
                .iter()
                .map(|url| format!("{}={url}", member.name))
                .collect::<Vec<_>>()
        };
        let all: Vec<String> = cluster.iter().flat_map(urls).collect();
        let mut words = vec![self.program.display().to_string()];
        words.extend(["snapshot", "restore"].map(str::to_owned));
        words.push(file.display().to_string());
        for (flag, value) in [
            ("--name", member.name.clone()),
            ("--data-dir", beside.display().to_string()),
            ("--initial-cluster", all.join(",")),
            ("--initial-cluster-token", token(cluster)),
            ("--initial-advertise-peer-urls", member.peer_urls.join(",")),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        if bump > 0 {
            words.extend([
                "--bump-revision".to_owned(),
                bump.to_string(),
                "--mark-compacted".to_owned(),
            ]);
        }
        runner::run(&words).await?;
        let made = checked(&beside, held, bump)?;
        if let Some(like) = like {
            own_as(&beside, like)?;
        }
        sync(&beside)?;
        durable::rename(&beside, dir)?;
        Ok(made)
    }
}

/// All members of a restored cluster have to name the same one, and no other cluster on these URLs.
fn token(cluster: &[NewMember]) -> String {
    let dirs = cluster.iter().map(|member| member.data_dir.display().to_string());
    format!(
        "restored-{}",
        dirs.collect::<Vec<_>>().join("+").replace('/', "-")
    )
}

/// Whether a directory holds what a snapshot held.
fn checked(dir: &Path, held: &Inventory, bump: u64) -> Result<Inventory> {
    let database = dir.join("member/snap/db");
    let made = bolt::inventory(&database, |_| {}).map_err(Error::snapshot(&database))?;
    held.check(&made, true)
        .map_err(|difference| Error::Differs(format!("{}: {difference}", dir.display())))?;
    if made.revision < held.revision + bump {
        return Err(Error::Differs(format!(
            "{}: it ends at revision {}, and should be at {}",
            dir.display(),
            made.revision,
            held.revision + bump
        )));
    }
    Ok(made)
}

/// Syncs all files below a directory, and their names.
fn sync(path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::file(path))? {
            sync(&entry.map_err(Error::file(path))?.path())?;
        }
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::file(path))
}

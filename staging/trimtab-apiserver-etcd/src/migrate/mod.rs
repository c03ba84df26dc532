//! Moving everything between the embedded store and etcd, both ways, and comparing at the end.
//!
//! What is moved is keys and values byte for byte, and until when keys live. Resource versions never go back: each way the
//! target begins after the last revision of the source, with nothing before it to be asked for.

mod follow;
mod from_etcd;
mod into_etcd;
mod raise;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use clap::Args;
use futures::TryStreamExt as _;
use trimtab_apiserver_storage::embedded::{Stopped, Vacant};
use trimtab_apiserver_storage::{
    EmbeddedStore, EtcdConfig, EtcdStore, MIGRATION, RangeRequest, Revision, Snapshot, Store,
};

use crate::access::Access;
use crate::backup::Told;
use crate::error::{Error, Result};
use crate::inventory::Inventory;

/// What keys of API servers begin with; `--etcd-prefix` says what stands in etcd in its place.
const OURS: &str = "/registry";

/// The command line of a migration.
#[derive(Clone, Debug, Args)]
pub struct MigrateOptions {
    /// Where everything is: the data dir of a stopped server, or the word etcd for the etcd of --etcd-servers
    #[arg(long, value_name = "DIR|etcd")]
    pub from: Place,

    /// Where it goes: a data dir that is not there yet, or the word etcd; nothing may be below --etcd-prefix then
    #[arg(long, value_name = "DIR|etcd")]
    pub to: Place,

    /// Client URLs of etcd's members, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd_servers: Vec<String>,

    /// What the keys of all objects in etcd begin with
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,

    /// How to reach etcd
    #[command(flatten)]
    pub access: Access,

    /// From etcd, while its API servers run: copy and follow what they write. Stop them, and then press Ctrl-C (or send
    /// SIGTERM): what came last is copied, compared, and the data dir is there
    #[arg(long)]
    pub follow: bool,

    /// From a data dir, while a server runs on it: copy what it holds now into etcd, and leave the rest, which is little, to the
    /// same command without this flag after the server was stopped
    #[arg(long, conflicts_with = "follow")]
    pub ahead: bool,
}

/// One end of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The etcd that the other flags name.
    Etcd,
    /// A data dir. One that is called `etcd` is `./etcd`.
    DataDir(PathBuf),
}

/// What is to be done, with what is kept from others meanwhile.
#[derive(Debug)]
pub enum Way {
    /// Into etcd, from a store that no server can open meanwhile.
    IntoEtcd(Box<Stopped>),
    /// Into etcd, ahead of the migration itself: from the server that runs on this data dir.
    Ahead(PathBuf),
    /// From etcd, into a data dir where nothing is.
    FromEtcd(Vacant),
}

/// What a migration has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// What the source held.
    pub source: Inventory,
    /// What the target holds.
    pub target: Inventory,
    /// The oldest revision that the target can be asked for.
    pub begins: Revision,
    /// Whether this was only done ahead of the migration.
    pub ahead: bool,
}

impl MigrateOptions {
    /// Finds out what is to be done, and keeps others from the data dir.
    ///
    /// # Errors
    ///
    /// When the flags do not fit each other, a server runs on the data dir, or there is nothing in the one that is to be
    /// copied, or something in the one that is to be made.
    pub fn way(&self) -> Result<Way> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        match (&self.from, &self.to) {
            (Place::Etcd, Place::Etcd) => {
                usage("from etcd to etcd: use `trimtab etcd backup` and `trimtab etcd restore`")
            }
            (Place::DataDir(_), Place::DataDir(_)) => {
                usage("from one data dir to another: use `trimtab backup` and `trimtab restore`")
            }
            (Place::DataDir(_), Place::Etcd) if self.follow => {
                usage("--follow is for etcd, whose changes can be watched; from a data dir there is --ahead")
            }
            (Place::Etcd, Place::DataDir(_)) if self.ahead => {
                usage("--ahead is for a data dir; from etcd there is --follow")
            }
            (Place::DataDir(dir), Place::Etcd) => {
                let shown = dir.display();
                if !EmbeddedStore::exists(dir) {
                    return usage(&format!("there is no store in {shown}"));
                }
                match (EmbeddedStore::is_open(dir), self.ahead) {
                    (true, true) => Ok(Way::Ahead(dir.clone())),
                    (true, false) => usage(&format!(
                        "a server is running on {shown}: stop it, so that nothing is written meanwhile, or copy with --ahead \
                         what it holds now"
                    )),
                    (false, true) => usage(&format!("no server is running on {shown}: leave out --ahead")),
                    (false, false) => Ok(Way::IntoEtcd(Box::new(Stopped::hold(dir)?))),
                }
            }
            (Place::Etcd, Place::DataDir(dir)) => Ok(Way::FromEtcd(Vacant::find(dir)?)),
        }
    }

    /// Copies from a store that is held.
    ///
    /// # Errors
    ///
    /// As [`MigrateOptions::ahead`].
    pub async fn into_etcd(&self, held: &Stopped, told: &mut Told<'_>) -> Result<Migrated> {
        into_etcd::run(&self.store().await?, held.snapshot(), &self.source(), 0, told).await
    }

    /// Copies what a running server holds.
    ///
    /// # Errors
    ///
    /// When there is something below the prefix that another has written, or somebody writes there meanwhile; when etcd does
    /// not take it; when at the end it does not hold the same. The same command goes on where this one has stopped.
    pub async fn ahead(&self, snapshot: Snapshot, told: &mut Told<'_>) -> Result<Migrated> {
        let store = self.store().await?;
        into_etcd::run(&store, snapshot, &self.source(), into_etcd::HEADROOM, told).await
    }

    /// Copies from etcd until nothing more comes; with [`MigrateOptions::follow`], until `stop` and nothing more comes.
    ///
    /// # Errors
    ///
    /// When etcd cannot be read, or is being written to for longer than a minute after it should end; when the store cannot be
    /// written, or at the end does not hold the same. Then there is no store in the directory, and the same command begins anew;
    /// but for [`Error::Differs`], which says what to do.
    pub async fn from_etcd(
        &self,
        vacant: Vacant,
        stop: impl Future<Output = ()> + Send,
        told: &mut Told<'_>,
    ) -> Result<Migrated> {
        let (Place::DataDir(dir), true) = (&self.to, self.from == Place::Etcd) else {
            return Err(Error::Usage("this goes from etcd to a data dir".to_owned()));
        };
        let store = self.store().await?;
        if mark(&store).await?.is_some() {
            return Err(Error::Usage(format!(
                "a migration into this etcd has not ended: what is below {} is not whole",
                self.etcd_prefix
            )));
        }
        from_etcd::run(&store, vacant, dir, self.follow, stop, told).await
    }

    async fn store(&self) -> Result<EtcdStore> {
        Ok(EtcdStore::connect(self.config()?).await?)
    }

    fn config(&self) -> Result<EtcdConfig> {
        Ok(self
            .access
            .config(&self.etcd_servers)?
            .below(OURS, &self.etcd_prefix))
    }

    /// The source as the mark in etcd names it.
    fn source(&self) -> String {
        match &self.from {
            Place::Etcd => "etcd".to_owned(),
            Place::DataDir(dir) => {
                let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                dir.display().to_string()
            }
        }
    }
}

/// The mark of a migration into an etcd, if one has not ended, with its revision.
async fn mark(store: &EtcdStore) -> Result<Option<(Bytes, Revision)>> {
    let found = store.range(RangeRequest::key(MIGRATION)).await?.kvs.pop();
    Ok(found.map(|kv| (kv.value, kv.mod_revision)))
}

/// All of a snapshot.
async fn entries_of(
    snapshot: Snapshot,
    what: &str,
    told: &mut Told<'_>,
) -> Result<Vec<trimtab_apiserver_storage::SnapshotEntry>> {
    let Snapshot {
        count, mut entries, ..
    } = snapshot;
    let mut all = Vec::new();
    while let Some(part) = entries.try_next().await? {
        all.extend(part);
        told(format!("{what}: {} of {count} keys", all.len()));
    }
    Ok(all)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "etcd" => Self::Etcd,
            dir => Self::DataDir(Path::new(dir).to_owned()),
        })
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source   {}", self.source)?;
        write!(f, "target   {}", self.target)?;
        if self.ahead {
            write!(
                f,
                "\nahead    the same holds after the server was stopped and this has run without --ahead"
            )
        } else {
            write!(
                f,
                "\nthe same; older revisions than {} are answered with 410 Expired",
                self.begins
            )
        }
    }
}

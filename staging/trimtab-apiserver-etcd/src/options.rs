//! The command lines of `trimtab etcd status`, `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use crate::access::Access;
use crate::backup::{self, BUMP, NewMember, Restorer, Told};
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::status::ClusterStatus;

/// The command line of looking at a cluster.
#[derive(Clone, Debug, Args)]
pub struct StatusOptions {
    /// Client URLs of members, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd_servers: Vec<String>,

    /// How to reach etcd
    #[command(flatten)]
    pub access: Access,
}

/// The command line of saving a snapshot of etcd.
#[derive(Clone, Debug, Args)]
pub struct SaveOptions {
    /// Where the snapshot is saved; a file that is there is replaced once the new one is whole
    pub file: PathBuf,

    /// Client URLs of members, with commas between them: the first that answers is saved
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd_servers: Vec<String>,

    /// How to reach etcd
    #[command(flatten)]
    pub access: Access,
}

/// The command line of making members of a snapshot.
#[derive(Clone, Debug, Args)]
pub struct MakeOptions {
    /// The snapshot, of `trimtab etcd backup` or `etcdctl snapshot save`
    pub file: PathBuf,

    /// A member of the new cluster, once for each: name=NAME,peer=URL,data-dir=DIR; nothing may be in DIR
    #[arg(long, value_name = "SETTINGS", required_unless_present = "check")]
    pub member: Vec<String>,

    /// Only say whether the snapshot is whole, and what it holds
    #[arg(long)]
    pub check: bool,

    /// By how many revisions the new cluster begins after the snapshot, with everything before marked as compacted: more than
    /// the old one can have made since, so that clients never see a revision again. 0 keeps revisions and history
    #[arg(long, default_value_t = BUMP, value_name = "REVISIONS")]
    pub bump_revision: u64,

    /// The program that restores snapshots [default: etcdutl or etcdctl on the path]
    #[arg(long, value_name = "PROGRAM")]
    pub restore_with: Option<PathBuf>,
}

impl StatusOptions {
    /// Asks.
    ///
    /// # Errors
    ///
    /// When no member answers.
    pub async fn run(&self) -> Result<ClusterStatus> {
        ClusterStatus::of(&self.etcd_servers, &self.access).await
    }
}

impl SaveOptions {
    /// Saves a snapshot of the first member that answers.
    ///
    /// # Errors
    ///
    /// When none does, or the snapshot does not come in full.
    pub async fn run(&self, told: &mut Told<'_>) -> Result<Inventory> {
        let mut failed = Error::Usage("no servers are given".to_owned());
        for url in &self.etcd_servers {
            let admin = self.access.admin(url)?;
            // It has a majority, so it is not behind.
            match admin.health().await {
                Ok(_) => return backup::save(&admin, &self.file, told).await,
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

impl MakeOptions {
    /// Checks the snapshot and makes the members. Answers with what the snapshot holds, and the members with what they hold.
    ///
    /// # Errors
    ///
    /// When the snapshot is not whole, before anything is made; when a directory is there already, or a member that was made
    /// does not hold what the snapshot does.
    pub async fn run(&self, told: &mut Told<'_>) -> Result<(Inventory, Vec<(NewMember, Inventory)>)> {
        let held = backup::check(&self.file, told)?;
        let cluster = self
            .member
            .iter()
            .map(|flag| new_member(flag))
            .collect::<Result<Vec<_>>>()?;
        let mut made = Vec::new();
        if self.check {
            return Ok((held, made));
        }
        let restorer = Restorer::find(self.restore_with.as_deref(), None).await?;
        for member in &cluster {
            told(format!("restoring: {}", member.name));
            let holds = restorer
                .restore(&self.file, &held, member, &cluster, self.bump_revision, None)
                .await?;
            made.push((member.clone(), holds));
        }
        Ok((held, made))
    }
}

fn new_member(flag: &str) -> Result<NewMember> {
    let mut member = NewMember {
        name: String::new(),
        peer_urls: Vec::new(),
        data_dir: PathBuf::new(),
    };
    for part in flag.split(',') {
        match part.split_once('=') {
            Some(("name", name)) => name.clone_into(&mut member.name),
            Some(("peer", url)) => member.peer_urls.push(url.to_owned()),
            Some(("data-dir", dir)) => member.data_dir = dir.into(),
            _ => {
                return Err(Error::Usage(format!(
                    "--member {flag}: it takes name, peer and data-dir"
                )));
            }
        }
    }
    if member.name.is_empty() || member.peer_urls.is_empty() || member.data_dir.as_os_str().is_empty() {
        return Err(Error::Usage(format!(
            "--member {flag}: it needs name, peer and data-dir"
        )));
    }
    Ok(member)
}

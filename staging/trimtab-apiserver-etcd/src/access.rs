//! How members are reached: the flags for it, and who is asked.

use std::path::{Path, PathBuf};

use clap::Args;
use trimtab_apiserver_storage::{EtcdAdmin, EtcdConfig, EtcdCredentials, EtcdTls};

use crate::error::{Error, Result};

/// How the members of etcd are recognised, and told who we are; named as an API server's flags.
#[derive(Clone, Debug, Default, Args)]
pub struct Access {
    /// The authority of the members' certificates [default: ca.crt in --certificates, or those that the machine trusts]
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,

    /// The certificate to show to etcd (PEM, with its chain) [default: client.crt in --certificates]
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,

    /// The key of --etcd-certfile (PEM) [default: client.key in --certificates]
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,

    /// The user of etcd, where its authentication is on; snapshots and members are for root
    #[arg(long, requires = "etcd_password_file")]
    pub etcd_username: Option<String>,

    /// A file whose first line is the password of --etcd-username
    #[arg(long, requires = "etcd_username")]
    pub etcd_password_file: Option<PathBuf>,

    /// The directory of certificates: ca.crt and ca.key, NAME.crt and NAME.key of each member, client.crt and client.key
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
}

impl Access {
    /// What a store needs to reach these servers. Nothing compacts it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn config(&self, servers: &[String]) -> Result<EtcdConfig> {
        let mut config = EtcdConfig::new(servers);
        config.compaction_interval = None;
        if servers.iter().any(|url| url.starts_with("https://")) {
            config.tls = self.tls()?;
        }
        if let (Some(user), Some(file)) = (&self.etcd_username, &self.etcd_password_file) {
            config.credentials = Some(EtcdCredentials::of_file(user, &read(file)?));
        }
        Ok(config)
    }

    /// One member.
    pub(crate) fn admin(&self, url: &str) -> Result<EtcdAdmin> {
        Ok(EtcdAdmin::new(&self.config(&[url.to_owned()])?)?)
    }

    fn tls(&self) -> Result<EtcdTls> {
        let dir = self.certificates.as_deref();
        let kept = |name: &str| dir.map(|dir| dir.join(name)).filter(|path| path.exists());
        let ca = self.etcd_cafile.clone().or_else(|| kept("ca.crt"));
        let own = self.etcd_certfile.clone().zip(self.etcd_keyfile.clone());
        let own = own.or_else(|| kept("client.crt").zip(kept("client.key")));
        Ok(EtcdTls {
            ca: ca.as_deref().map(read).transpose()?,
            identity: match own {
                Some((certificate, key)) => Some((read(&certificate)?, read(&key)?)),
                None => None,
            },
        })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::file(path))
}

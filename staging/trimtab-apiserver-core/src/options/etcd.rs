//! The flags that say where etcd is, named as kube-apiserver's where that has the flag.

use std::path::PathBuf;

use clap::Args;
use trimtab_apiserver_storage::{EtcdConfig, EtcdCredentials, EtcdTls};

use super::{DEFAULT_WINDOW, OptionsError, Window, read, window};
use crate::registry::keys;

/// The flags of a store in etcd.
#[derive(Clone, Debug, Args)]
pub struct EtcdOptions {
    /// The etcd servers, as http:// or https:// URLs with commas between them; makes etcd the storage
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,

    /// What the keys of all objects in etcd begin with
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,

    /// The authority of the etcd servers' certificates [default: those that the machine trusts] (PEM)
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,

    /// The certificate to show to etcd (PEM, with its chain)
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,

    /// The key of --etcd-certfile (PEM)
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,

    /// The user of etcd, where its authentication is on and the certificate does not say who we are
    #[arg(long, requires = "etcd_password_file")]
    pub etcd_username: Option<String>,

    /// A file whose first line is the password of --etcd-username
    #[arg(long, requires = "etcd_username")]
    pub etcd_password_file: Option<PathBuf>,

    /// How often etcd is compacted, as Go writes durations; 0 leaves it to others [default: 5m0s]
    #[arg(long, value_parser = window, value_name = "DURATION")]
    pub etcd_compaction_interval: Option<Window>,
}

impl EtcdOptions {
    /// How to reach etcd.
    pub(super) fn config(&self) -> Result<EtcdConfig, OptionsError> {
        let ours = keys::ROOT.trim_end_matches('/');
        let mut config = EtcdConfig::new(&self.etcd_servers).below(ours, &self.etcd_prefix);
        config.compaction_interval = self.etcd_compaction_interval.unwrap_or(DEFAULT_WINDOW).0;
        let ca = self.etcd_cafile.as_deref();
        config.tls = EtcdTls {
            ca: ca.map(|path| read("--etcd-cafile", path)).transpose()?,
            identity: None,
        };
        if let (Some(certificate), Some(key)) = (&self.etcd_certfile, &self.etcd_keyfile) {
            let certificate = read("--etcd-certfile", certificate)?;
            config.tls.identity = Some((certificate, read("--etcd-keyfile", key)?));
        }
        if let (Some(user), Some(file)) = (&self.etcd_username, &self.etcd_password_file) {
            let text = read("--etcd-password-file", file)?;
            config.credentials = Some(EtcdCredentials::of_file(user, &text));
        }
        Ok(config)
    }
}

//! The command line of an API server, named as kube-apiserver's where that has the flag.

mod audit;
mod authentication;
mod etcd;
mod limits;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use trimtab_apiserver_auth::certs;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_storage::{self as storage, EmbeddedStore, EtcdStore, MemoryStore, Store};

pub use audit::{AuditMode, AuditOptions};
pub use authentication::AuthenticationOptions;
pub use etcd::EtcdOptions;
pub use limits::LimitOptions;

use crate::admission::{PluginError, Plugins};
use crate::allocators::IpRange;
use crate::audit::PolicyError;
use crate::auth::Mode;
use crate::registry::duration;
use crate::server::{ApiServer, Builder, StartError};

/// Where objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// In a file below the data dir, durable at every acknowledgement.
    Embedded,
    /// In memory: gone when the process ends.
    Memory,
    /// In etcd, which other API servers may use as well.
    Etcd,
}

/// How it is decided what a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthorizationMode {
    /// By roles and bindings.
    #[value(name = "RBAC")]
    Rbac,
    /// Everyone may do everything.
    #[value(name = "AlwaysAllow")]
    AlwaysAllow,
}

/// The flags of an API server.
#[derive(Clone, Debug, Args)]
pub struct ServerOptions {
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind_address: IpAddr,

    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,

    /// Where the generated authority, certificates and keys are kept [default: certs beside the data dir]. Servers that
    /// share an etcd need the same
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,

    /// The certificate to show instead of a generated one (PEM, with its chain)
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// The key of --tls-cert-file (PEM)
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,

    /// An authority whose client certificates are believed too (PEM)
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,

    /// Bearer tokens: lines of token,user,uid,"group1,group2"
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,

    /// Who sends a request
    #[command(flatten)]
    pub authentication: AuthenticationOptions,

    /// How it is decided what a user may do
    #[arg(long, value_enum, default_value = "RBAC")]
    pub authorization_mode: AuthorizationMode,

    /// Admission plugins to turn on beside those that are on by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub enable_admission_plugins: Vec<String>,

    /// Admission plugins to turn off
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub disable_admission_plugins: Vec<String>,

    /// Configurations of admission plugins: an AdmissionConfiguration of apiserver.config.k8s.io/v1
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,

    /// Whether requests without credentials are served, as system:anonymous
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: bool,

    /// Where objects are kept [default: etcd if --etcd-servers is given, else embedded]
    #[arg(long, value_enum)]
    pub storage: Option<Storage>,

    /// Where etcd is
    #[command(flatten)]
    pub etcd: EtcdOptions,

    /// Where the embedded store keeps its files
    #[arg(long, default_value = "trimtab/data")]
    pub data_dir: PathBuf,

    /// How long revisions can be watched and listed from, as 90s or 5m, before they are compacted; with 0 they are kept for
    /// ever, in memory too. Of the embedded store and of memory [default: 5m]
    #[arg(long, value_parser = window, value_name = "DURATION")]
    pub compaction_window: Option<Window>,

    /// Where the administrator's kubeconfig is written
    #[arg(long, default_value = "trimtab/admin.kubeconfig")]
    pub kubeconfig_out: PathBuf,

    /// The range of Service cluster IPs
    #[arg(long, default_value = "10.0.0.0/16")]
    pub service_cluster_ip_range: IpRange,

    /// What clients are allowed
    #[command(flatten)]
    pub limits: LimitOptions,

    /// What is written of requests
    #[command(flatten)]
    pub audit: AuditOptions,

    /// How much is logged: 0 warnings, 2 more, 4 everything worth debugging
    #[arg(short, long = "v", default_value_t = 0)]
    pub verbosity: u8,

    /// All flags of the command line as they are in force, which `/flagz` tells; see [`cli::parse`](crate::cli::parse)
    #[arg(skip)]
    pub flags: BTreeMap<String, String>,
}

/// For how long revisions are kept; `None` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(pub Option<Duration>);

/// For how long revisions are kept unless something else is said, in every store: kube-apiserver's.
const DEFAULT_WINDOW: Window = Window(Some(Duration::from_secs(5 * 60)));

fn window(text: &str) -> Result<Window, String> {
    let window = duration(text).filter(|_| !text.starts_with('-'));
    let window = window.ok_or("a duration is wanted, as 90s, 5m or 1h30m")?;
    Ok(Window(Some(window).filter(|window| !window.is_zero())))
}

/// Options that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A file cannot be read.
    #[error("{flag} {path}: {source}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The token file makes no sense.
    #[error("--token-auth-file: {0}")]
    Tokens(#[from] trimtab_apiserver_auth::tokens::TokenFileError),
    /// Flags about who sends a request make no sense.
    #[error("{0}")]
    Authentication(String),
    /// etcd is asked for, but not where it is.
    #[error("--storage=etcd needs --etcd-servers, such as --etcd-servers=http://127.0.0.1:2379")]
    NoEtcdServers,
    /// etcd is given, but something else asked for.
    #[error("--etcd-servers is given, but --storage is not etcd: leave one of them out")]
    UnusedEtcdServers,
    /// It is said when a store is compacted that is not the one that is used.
    #[error("{flag} is given, but has nothing to do with the storage ({storage}): leave it out")]
    UnusedCompaction {
        /// The flag.
        flag: &'static str,
        /// What the storage is.
        storage: String,
    },
    /// etcd cannot be used.
    #[error("--etcd-servers: {0}")]
    Etcd(#[source] storage::Error),
    /// The store cannot be opened.
    #[error("--data-dir {path}: {source}")]
    Storage {
        /// The data dir.
        path: String,
        /// Why.
        source: storage::Error,
    },
    /// The admission plugins cannot be had.
    #[error(transparent)]
    Admission(#[from] PluginError),
    /// The audit policy cannot be used.
    #[error(transparent)]
    Audit(#[from] PolicyError),
    /// There is an audit policy, but nobody to be told.
    #[error(
        "--audit-policy-file is given, but neither --audit-log-path nor --audit-webhook-config-file: give one of them"
    )]
    UnusedAuditPolicy,
    /// Audit events cannot be sent.
    #[error("--audit-webhook-config-file {path}: {why}")]
    AuditWebhook {
        /// The kubeconfig.
        path: String,
        /// Why.
        why: String,
    },
    /// Audit events may be of no length, or longer than batches of them.
    #[error(
        "--audit-{plugin}-truncate-max-event-size has to be positive, and --audit-{plugin}-truncate-max-batch-size no less"
    )]
    AuditTruncation {
        /// `log` or `webhook`.
        plugin: &'static str,
    },
    /// The server cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The kubeconfig cannot be written.
    #[error("--kubeconfig-out: {0}")]
    Kubeconfig(#[from] certs::CertError),
}

impl ServerOptions {
    /// Starts the server that the options describe, and writes the administrator's kubeconfig.
    ///
    /// # Errors
    ///
    /// [`OptionsError`], one line that names the flag; nothing is left running.
    pub async fn start(&self) -> Result<ApiServer, OptionsError> {
        self.start_with(Ok::<_, OptionsError>).await
    }

    /// As [`ServerOptions::start`], with what `change` does to it as well, once the data directory is this process' own.
    ///
    /// # Errors
    ///
    /// As of [`ServerOptions::start`], and those of `change`.
    pub async fn start_with<E: From<OptionsError>>(
        &self,
        change: impl FnOnce(Builder) -> Result<Builder, E>,
    ) -> Result<ApiServer, E> {
        let builder = change(self.builder().await?)?;
        let server = builder.start().await.map_err(OptionsError::from)?;
        let written = certs::write(&self.kubeconfig_out, &server.kubeconfig(), 0o600);
        written.map_err(OptionsError::from)?;
        Ok(server)
    }

    async fn builder(&self) -> Result<Builder, OptionsError> {
        let plugins = self.admission_plugins()?;
        let client_ca = self.client_ca_file.as_ref();
        let client_ca = client_ca.map(|file| read("--client-ca-file", file)).transpose()?;
        let issuer = self.authentication.issuer(self.cert_dir().as_deref())?;
        let front_proxy = self.authentication.front_proxy(client_ca.as_deref())?;
        let store = self.open_store().await?;
        let mut builder = ApiServer::builder(store)
            .bind(SocketAddr::new(self.bind_address, self.secure_port))
            .anonymous(self.anonymous_auth)
            .admission_plugins(plugins)
            .bootstrap_tokens(self.authentication.enable_bootstrap_token_auth)
            .limits(self.limits.limits())
            .flags(self.flags.clone())
            .service_cluster_ip_range(self.service_cluster_ip_range)
            .authorization(match self.authorization_mode {
                AuthorizationMode::Rbac => Mode::Rbac,
                AuthorizationMode::AlwaysAllow => Mode::AlwaysAllow,
            });
        if let Some(dir) = self.cert_dir() {
            builder = builder.cert_dir(dir);
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            let certificate = read("--tls-cert-file", certificate)?;
            builder = builder.serving_certificate(certificate, read("--tls-private-key-file", key)?);
        }
        if let Some(ca) = client_ca {
            builder = builder.client_ca(ca);
        }
        builder = builder.authority_files(
            self.client_ca_file.clone(),
            self.authentication.requestheader_client_ca_file.clone(),
        );
        if let Some(issuer) = issuer {
            builder = builder.issuer(issuer);
        }
        if let Some(proxy) = front_proxy {
            builder = builder.front_proxy(proxy);
        }
        if let Some(file) = &self.token_auth_file {
            builder = builder.tokens(StaticTokens::from_file(file)?);
        }
        if let Some(audit) = self.audit.open()? {
            builder = builder.audit(audit);
        }
        Ok(builder)
    }

    fn admission_plugins(&self) -> Result<Plugins, PluginError> {
        let plugins = Plugins::choose(&self.enable_admission_plugins, &self.disable_admission_plugins)?;
        match &self.admission_control_config_file {
            Some(file) => plugins.configured(file),
            None => Ok(plugins),
        }
    }

    /// Where objects are kept.
    pub fn storage(&self) -> Storage {
        self.storage.unwrap_or(if self.etcd.etcd_servers.is_empty() {
            Storage::Embedded
        } else {
            Storage::Etcd
        })
    }

    /// What the storage is, in words.
    pub fn storage_text(&self) -> String {
        match self.storage() {
            Storage::Embedded => format!("embedded, in {}", self.data_dir.display()),
            Storage::Memory => "memory, gone when this process ends".to_owned(),
            Storage::Etcd => format!("etcd, at {}", self.etcd.etcd_servers.join(", ")),
        }
    }

    async fn open_store(&self) -> Result<Arc<dyn Store>, OptionsError> {
        let config = storage::Config {
            compaction_window: self.compaction_window.unwrap_or(DEFAULT_WINDOW).0,
            ..storage::Config::default()
        };
        let (flag, other) = match self.storage() {
            Storage::Etcd => ("--compaction-window", self.compaction_window),
            _ => ("--etcd-compaction-interval", self.etcd.etcd_compaction_interval),
        };
        if other.is_some() {
            return Err(OptionsError::UnusedCompaction {
                flag,
                storage: self.storage_text(),
            });
        }
        let servers = !self.etcd.etcd_servers.is_empty();
        match self.storage() {
            Storage::Etcd if !servers => Err(OptionsError::NoEtcdServers),
            Storage::Etcd => {
                let store = EtcdStore::connect(self.etcd.config()?).await;
                Ok(Arc::new(store.map_err(OptionsError::Etcd)?))
            }
            Storage::Embedded | Storage::Memory if servers => Err(OptionsError::UnusedEtcdServers),
            Storage::Memory => Ok(Arc::new(MemoryStore::new(config))),
            Storage::Embedded => {
                let store = EmbeddedStore::open(&self.data_dir, config);
                let path = self.data_dir.display().to_string();
                Ok(Arc::new(
                    store.map_err(|source| OptionsError::Storage { path, source })?,
                ))
            }
        }
    }

    /// Where keys are kept: as durable as the objects are; `None` for nowhere.
    pub fn cert_dir(&self) -> Option<PathBuf> {
        let beside = || Some(self.data_dir.parent().unwrap_or(Path::new("")).join("certs"));
        self.cert_dir
            .clone()
            .or_else(|| (self.storage() != Storage::Memory).then(beside).flatten())
    }
}

fn read(flag: &'static str, path: &Path) -> Result<String, OptionsError> {
    let shown = path.display().to_string();
    std::fs::read_to_string(path).map_err(|source| OptionsError::File {
        flag,
        path: shown,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        server: ServerOptions,
    }

    #[tokio::test]
    async fn what_has_nothing_to_do_with_the_storage_is_refused() {
        for (flags, wanted) in [
            (["--storage=memory", "--compaction-window=1m"], ""),
            (
                ["--storage=memory", "--etcd-compaction-interval=1m"],
                "--etcd-compaction-interval is given, but has nothing to do with the storage (memory, gone when this \
                 process ends): leave it out",
            ),
            (
                ["--etcd-servers=http://127.0.0.1:1", "--compaction-window=0"],
                "--compaction-window is given, but has nothing to do with the storage (etcd, at http://127.0.0.1:1): leave \
                 it out",
            ),
        ] {
            let cli: Cli = clap::Parser::parse_from(["x"].iter().chain(&flags));
            let error = cli.server.open_store().await.err();
            assert_eq!(
                error.map(|error| error.to_string()).unwrap_or_default(),
                wanted,
                "{flags:?}"
            );
        }
        let cli: Cli = clap::Parser::parse_from(["x", "--audit-policy-file=/nowhere"]);
        let error = cli.server.audit.open().err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("give one of them")));
        let flags = [
            "x",
            "--audit-policy-file=/nowhere",
            "--audit-log-path=-",
            "--audit-log-truncate-enabled",
            "--audit-log-truncate-max-batch-size=1",
        ];
        let cli: Cli = clap::Parser::parse_from(flags);
        let error = cli.server.audit.open().err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("--audit-log-truncate-max-batch-size no less")));
    }

    #[test]
    fn a_window_is_a_duration_or_for_ever() {
        let minutes = |n: u64| Ok(Window(Some(Duration::from_secs(n * 60))));
        for (text, wanted) in [
            ("5m", minutes(5)),
            ("1h30m", minutes(90)),
            ("0", Ok(Window(None))),
            ("0s", Ok(Window(None))),
        ] {
            assert_eq!(window(text), wanted, "{text}");
        }
        for text in ["", "5", "-5m", "five"] {
            assert!(window(text).is_err(), "{text}");
        }
    }
}

//! The command line of an API server, named as kube-apiserver's where that has the flag.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use trimtab_apiserver_auth::certs;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_storage::{self as storage, EmbeddedStore, MemoryStore, Store};

use crate::allocators::IpRange;
use crate::auth::Mode;
use crate::server::{ApiServer, StartError};

/// Where objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// In a file below the data dir, durable at every acknowledgement.
    Embedded,
    /// In memory: gone when the process ends.
    Memory,
    /// In etcd; not available in this version.
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

    /// Where the generated authority, certificates and keys are kept [default: certs beside the data dir]
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

    /// How it is decided what a user may do
    #[arg(long, value_enum, default_value = "RBAC")]
    pub authorization_mode: AuthorizationMode,

    /// Whether requests without credentials are served, as system:anonymous
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: bool,

    /// etcd servers; not available in this version
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,

    /// Where objects are kept
    #[arg(long, value_enum, default_value = "embedded")]
    pub storage: Storage,

    /// Where the embedded store keeps its files
    #[arg(long, default_value = "trimtab/data")]
    pub data_dir: PathBuf,

    /// Where the administrator's kubeconfig is written
    #[arg(long, default_value = "trimtab/admin.kubeconfig")]
    pub kubeconfig_out: PathBuf,

    /// The range of Service cluster IPs
    #[arg(long, default_value = "10.0.0.0/16")]
    pub service_cluster_ip_range: IpRange,

    /// How much is logged: 0 warnings, 2 more, 4 everything worth debugging
    #[arg(short, long = "v", default_value_t = 0)]
    pub verbosity: u8,
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
    /// etcd is asked for.
    #[error("storage in etcd is not available in this version: use --storage=embedded or --storage=memory")]
    Etcd,
    /// The store cannot be opened.
    #[error("--data-dir {path}: {source}")]
    Storage {
        /// The data dir.
        path: String,
        /// Why.
        source: storage::Error,
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
        let store = self.open_store()?;
        let mut builder = ApiServer::builder(store)
            .bind(SocketAddr::new(self.bind_address, self.secure_port))
            .anonymous(self.anonymous_auth)
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
        if let Some(ca) = &self.client_ca_file {
            builder = builder.client_ca(read("--client-ca-file", ca)?);
        }
        if let Some(file) = &self.token_auth_file {
            builder = builder.tokens(StaticTokens::from_file(file)?);
        }
        let server = builder.start().await?;
        certs::write(&self.kubeconfig_out, &server.kubeconfig(), 0o600)?;
        Ok(server)
    }

    /// What the storage is, in words.
    pub fn storage_text(&self) -> String {
        match self.storage {
            Storage::Embedded => format!("embedded, in {}", self.data_dir.display()),
            Storage::Memory => "memory, gone when this process ends".to_owned(),
            Storage::Etcd => "etcd".to_owned(),
        }
    }

    fn open_store(&self) -> Result<Arc<dyn Store>, OptionsError> {
        if self.storage == Storage::Etcd || !self.etcd_servers.is_empty() {
            return Err(OptionsError::Etcd);
        }
        let config = storage::Config::default();
        if self.storage == Storage::Memory {
            return Ok(Arc::new(MemoryStore::new(config)));
        }
        let store = EmbeddedStore::open(&self.data_dir, config);
        let path = self.data_dir.display().to_string();
        Ok(Arc::new(
            store.map_err(|source| OptionsError::Storage { path, source })?,
        ))
    }

    /// Where keys are kept: as durable as the objects are.
    fn cert_dir(&self) -> Option<PathBuf> {
        let beside = || Some(self.data_dir.parent().unwrap_or(Path::new("")).join("certs"));
        self.cert_dir
            .clone()
            .or_else(|| (self.storage == Storage::Embedded).then(beside).flatten())
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

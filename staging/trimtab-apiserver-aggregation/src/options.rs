//! The command line of an API server with an aggregator, named as kube-apiserver's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use trimtab_apiserver_auth::certs::{Authority, CertError, Pair};
use trimtab_apiserver_core::ApiServer;
use trimtab_apiserver_core::auth::FrontProxy;
use trimtab_apiserver_core::options::{OptionsError, ServerOptions};

use crate::aggregator::{Aggregator, Config};

/// The name of the front proxy, as kubeadm's certificates have it.
const CLIENT: &str = "front-proxy-client";

/// The flags of an aggregator.
#[derive(Clone, Debug, Args)]
pub struct AggregatorOptions {
    /// The certificate by which extension API servers know this server (PEM) [default: one that is made, unless
    /// --requestheader-client-ca-file is given]
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,

    /// The key of --proxy-client-cert-file (PEM)
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,

    /// Whether a redirect by an extension API server is refused with 502, instead of being passed on to the client
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub aggregator_reject_forwarding_redirect: bool,
}

impl Default for AggregatorOptions {
    fn default() -> Self {
        Self {
            proxy_client_cert_file: None,
            proxy_client_key_file: None,
            aggregator_reject_forwarding_redirect: true,
        }
    }
}

/// Options that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AggregatorError {
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
    /// The certificate or the key makes no sense.
    #[error("--proxy-client-cert-file and --proxy-client-key-file: {0}")]
    Unusable(String),
    /// No certificate can be made or kept.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// The server cannot be started.
    #[error(transparent)]
    Server(#[from] OptionsError),
}

impl AggregatorOptions {
    /// Starts the server that `server` describes, with an aggregator.
    ///
    /// # Errors
    ///
    /// [`AggregatorError`], one line that names the flag; nothing is left running.
    pub async fn start(&self, server: &ServerOptions) -> Result<ApiServer, AggregatorError> {
        let named = match (&self.proxy_client_cert_file, &self.proxy_client_key_file) {
            (Some(certificate), Some(key)) => Some(Pair {
                certificate: read("--proxy-client-cert-file", certificate)?,
                key: read("--proxy-client-key-file", key)?,
            }),
            _ => None,
        };
        let is_set = server.authentication.requestheader_client_ca_file.is_some();
        let dir = server.cert_dir();
        let started = server.start_with(|mut builder| {
            let client = match named {
                Some(pair) => Some(pair),
                // Whose proxies are believed is somebody else's business then.
                None if is_set => None,
                None => {
                    let (proxy, pair) = front_proxy(dir.as_deref())?;
                    builder = builder.front_proxy(proxy);
                    Some(pair)
                }
            };
            let config = Config {
                proxy_client: client.map(|pair| (pair.certificate, pair.key)),
                proxy_client_files: self
                    .proxy_client_cert_file
                    .clone()
                    .zip(self.proxy_client_key_file.clone()),
                rejects_redirects: self.aggregator_reject_forwarding_redirect,
                ..Config::default()
            };
            let aggregator = Aggregator::new(config).map_err(AggregatorError::Unusable)?;
            Ok::<_, AggregatorError>(builder.extensions(Arc::new(aggregator)))
        });
        started.await
    }
}

/// An authority for front proxies, and the certificate of one, as kubeadm makes them; kept in `dir` if there is one.
fn front_proxy(dir: Option<&Path>) -> Result<(FrontProxy, Pair), CertError> {
    let (authority, pair) = match dir {
        Some(dir) => {
            let authority = Authority::open_named(dir, "front-proxy-ca")?;
            let pair = authority.open_client(dir, CLIENT)?;
            (authority, pair)
        }
        None => {
            let authority = Authority::generate()?;
            let pair = authority.client(CLIENT, "")?;
            (authority, pair)
        }
    };
    let one = |text: &str| vec![text.to_owned()];
    let proxy = FrontProxy {
        authorities: authority.certificate().to_owned(),
        allowed_names: one(CLIENT),
        username_headers: one("X-Remote-User"),
        uid_headers: one("X-Remote-Uid"),
        group_headers: one("X-Remote-Group"),
        extra_prefixes: one("X-Remote-Extra-"),
    };
    Ok((proxy, pair))
}

fn read(flag: &'static str, path: &Path) -> Result<String, AggregatorError> {
    std::fs::read_to_string(path).map_err(|source| AggregatorError::File {
        flag,
        path: path.display().to_string(),
        source,
    })
}

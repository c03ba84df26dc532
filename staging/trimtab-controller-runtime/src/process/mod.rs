//! What the processes that run controllers share: flags, connecting, logging, stopping.

mod options;

use std::path::{Path, PathBuf};

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use options::{Options, OptionsError, main};

/// A cluster that cannot be connected to; one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The kubeconfig cannot be read, or makes no sense.
    #[error("--kubeconfig {}: {}", file.display(), one_line(source))]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a pod's service account.
    #[error("no --kubeconfig, and not in a pod: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The configuration makes no client.
    #[error("no client can be made of the configuration: {0}")]
    Client(#[from] kube::Error),
}

/// A client by the configuration of [`config`]. No request is made.
///
/// # Errors
///
/// [`ConnectError`].
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    Ok(Client::try_from(config(kubeconfig).await?)?)
}

/// How to reach the cluster that the kubeconfig's current context names, or without one the cluster in whose pod this
/// process runs.
///
/// # Errors
///
/// [`ConnectError`].
pub async fn config(kubeconfig: Option<&Path>) -> Result<Config, ConnectError> {
    match kubeconfig {
        Some(file) => read(file).await.map_err(|source| ConnectError::Kubeconfig {
            file: file.to_owned(),
            source: Box::new(source),
        }),
        None => Ok(Config::incluster()?),
    }
}

async fn read(file: &Path) -> Result<Config, kube::config::KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &KubeConfigOptions::default()).await
}

/// A token that is cancelled by Ctrl-C or a request to terminate. A second one ends the process at once, with exit code
/// 130.
///
/// # Errors
///
/// When signals cannot be listened for.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        stopping.cancel();
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(130);
    });
    Ok(stop)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Logs to standard error: warnings at 0, what happens at 1 and 2, everything at 5. `RUST_LOG` overrides it. Does
/// nothing if logging has been set up.
pub fn log_to_stderr(verbosity: u8) {
    let level = ["warn", "info", "info", "debug", "debug"];
    let level = level.get(usize::from(verbosity)).unwrap_or(&"trace");
    // The client logs every failed connection as an error; informers say it once, in their own words.
    let quiet = if verbosity < 2 { ",kube_client=off" } else { "" };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{level}{quiet}")));
    let _set_up_before = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Parsers draw pictures of what is wrong; a command line has one line for it.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

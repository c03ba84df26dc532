//! What the processes that run controllers share: flags, connecting, logging, stopping.
//!
//! # Logs and traces
//!
//! What happens is told by [`tracing`]: [`log_to_stderr`] shows it as lines. Each turn of a key is a trace of its own:
//!
//! | span | is | fields |
//! |---|---|---|
//! | `turn` | a key's way from the queue until its writes are seen; the root of the trace | `controller`, `key`, `reasons` (what triggered it: `Widget default/a added`), `waited_seconds` (in the queue, being ready), `attempt`, `outcome`, `again_seconds` (when it is tried again) |
//! | `reconcile` | the author's function; its own spans are below | |
//! | `request` | a request of the turn; that of the status has `part="status"` | `verb`, `kind`, `object`, `part`, `otel.kind` |
//! | `settle` | the wait until the caches show what was written, if there is one | `seen` |
//!
//! All are of the level INFO and of targets below `trimtab_controller`. `outcome` is one of `success`, `requeue_after`, `conflict`,
//! `error`, `terminal`, `panic`, `timed_out`; `postponed` for a key that failed and was triggered without any change, `left` for
//! one that is another replica's. Failed turns and requests have `otel.status_code` and `otel.status_description`; a conflict, and
//! what is not found, is no failure of a request.
//!
//! OpenTelemetry is a layer in your own `main`, in place of [`log_to_stderr`]; trimtab does not depend on it. With `opentelemetry`,
//! `opentelemetry_sdk` and `opentelemetry-otlp` 0.33, `tracing-opentelemetry` 0.34, and `tracing-subscriber` 0.3 with its feature
//! `env-filter`:
//!
//! ```ignore
//! use opentelemetry::trace::TracerProvider as _;
//! use opentelemetry_otlp::SpanExporter;
//! use opentelemetry_sdk::Resource;
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};
//!
//! let traces = SdkTracerProvider::builder()
//!     .with_batch_exporter(SpanExporter::builder().with_http().build()?)    // to OTEL_EXPORTER_OTLP_ENDPOINT
//!     .with_resource(Resource::builder().with_service_name("website-controller").build())
//!     .build();
//! let spans = tracing_opentelemetry::layer()
//!     .with_tracer(traces.tracer("website-controller"))
//!     .with_filter(EnvFilter::new("trimtab_controller=info,website_controller=info"));
//! let lines = fmt::layer().with_writer(std::io::stderr).with_filter(EnvFilter::from_default_env());
//! tracing_subscriber::registry().with(lines).with(spans).init();
//!
//! manager.run(stop).await?;
//! traces.shutdown()?;                                                       // the last spans are sent
//! ```

mod options;
mod transport;

use std::io::IsTerminal as _;
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
    client(config(kubeconfig).await?)
}

/// A client of the server that `config` tells of. No request is made.
///
/// Its requests and watches share connections of HTTP/2, as many each as the server allows, as those of client-go do: one is enough for most
/// processes, where [`Client::try_from`] takes one for each watch and for each request that is made meanwhile. A server that says nothing for 30 seconds
/// is asked whether it is there, and its connections are given up if it does not answer for 15 (client-go's figures). A server without
/// HTTP/2 is spoken to in HTTP/1.1, and so is any server through a proxy, with credentials that a command prints, without TLS, and when a
/// connection becomes something else (`exec`, `attach`, `port-forward`).
///
/// # Errors
///
/// [`ConnectError::Client`] if certificates, names or headers of `config` make no sense, or its proxy needs a feature of kube.
pub fn client(config: Config) -> Result<Client, ConnectError> {
    Ok(transport::client(config)?)
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
        biased;
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
        // A file is not to be full of colours.
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Parsers draw pictures of what is wrong; a command line has one line for it.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

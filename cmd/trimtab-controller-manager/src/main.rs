//! The `trimtab-controller-manager` binary: the built-in controllers beside any API server.
#![allow(clippy::print_stderr)] // a command line's output is its purpose

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use trimtab_workloads::Options;

/// Garbage collection, namespace deletion and default service accounts for any Kubernetes API server
#[derive(Debug, Parser)]
#[command(name = "trimtab-controller-manager", version)]
struct Cli {
    /// The kubeconfig of the server; without it, the service account of the pod that this runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Which controllers to run: '*' for all, 'foo' for the one named foo, '-foo' for all but that one
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    controllers: Vec<String>,

    /// Seconds for which a namespace is left alone when its deletion begins; 0 will do where there is one API server
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    namespace_deletion_delay: u64,

    /// How much to log, from 0 to 5; RUST_LOG overrides it
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let config = match &cli.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster().map_err(|error| format!("no --kubeconfig, and not in a pod: {error}"))?,
    };
    let mut options = Options::for_server(&config);
    options.controllers = cli.controllers;
    options.namespace_delay = Duration::from_secs(cli.namespace_deletion_delay);

    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    let signals = tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        stopping.cancel();
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(130);
    });
    let ended = trimtab_workloads::run(config.try_into()?, options, stop).await;
    signals.abort();
    Ok(ended?)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn log_to_stderr(verbosity: u8) {
    let level = [
        "warn,kube_client=off",
        "info,kube_client=off",
        "info",
        "debug",
        "debug",
    ]
    .get(usize::from(verbosity))
    .unwrap_or(&"trace");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbosity);
    let Err(error) = run(cli).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab-controller-manager: {error}");
    ExitCode::FAILURE
}

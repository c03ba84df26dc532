//! The `trimtab-controller-manager` binary: the built-in controllers beside any API server.
#![allow(clippy::print_stderr)] // a command line's output is its purpose

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use trimtab::controller::process;
use trimtab_workloads::Options;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The built-in controllers for any Kubernetes API server
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

    /// Seconds for which a namespace is kept after its deletion began, even if it is empty: servers that do not know of it yet may let
    /// more into it. 0 will do where there is one API server
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    namespace_deletion_delay: u64,

    /// Certificates in PEM form by which pods know the server, to be published in every namespace [default: those of the kubeconfig]
    #[arg(long, value_name = "FILE")]
    root_ca_file: Option<PathBuf>,

    /// How much to log, from 0 to 5; RUST_LOG overrides it
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let config = process::config(cli.kubeconfig.as_deref()).await?;
    let mut options = Options::for_server(&config);
    options.controllers = cli.controllers;
    options.namespace_delay = Duration::from_secs(cli.namespace_deletion_delay);
    if let Some(file) = cli.root_ca_file {
        let read = std::fs::read_to_string(&file);
        options.root_ca = Some(read.map_err(|error| format!("--root-ca-file {}: {error}", file.display()))?);
    }
    Ok(trimtab_workloads::run(process::client(config)?, options, process::stop_on_signals()?).await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    process::log_to_stderr(cli.verbosity);
    let Err(error) = run(cli).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab-controller-manager: {error}");
    ExitCode::FAILURE
}

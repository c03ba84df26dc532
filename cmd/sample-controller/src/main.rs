//! The `sample-controller` binary: Websites on any cluster.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use trimtab::controller::process;

/// Keeps a ConfigMap, a Deployment and a Service for every Website
#[derive(Debug, Parser)]
#[command(name = "sample-controller", version)]
struct Cli {
    /// The kubeconfig of the cluster; without it, the service account of the pod that this runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Make the kind known to the cluster first
    #[arg(long)]
    install: bool,

    /// How much to log, from 0 to 5; RUST_LOG overrides it
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 1)]
    verbosity: u8,
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let client = process::connect(cli.kubeconfig.as_deref()).await?;
    if cli.install {
        sample_controller::install(&client).await?;
    }
    Ok(sample_controller::run(client, process::stop_on_signals()?).await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    process::log_to_stderr(cli.verbosity);
    let Err(error) = run(cli).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("sample-controller: {error}");
    ExitCode::FAILURE
}

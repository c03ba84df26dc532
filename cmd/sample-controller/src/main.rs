//! The `sample-controller` binary: Websites on any cluster.

use std::process::ExitCode;

use clap::Parser;
use trimtab::controller::process;

/// Keeps a ConfigMap, a Deployment and a Service for every Website
#[derive(Debug, Parser)]
#[command(name = "sample-controller", version)]
struct Cli {
    #[command(flatten)]
    process: process::Options,

    /// Make the kind known to the cluster first
    #[arg(long)]
    install: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    process::main(async {
        let manager = cli.process.manager(sample_controller::NAME).await?;
        if cli.install {
            sample_controller::install(manager.client()).await?;
        }
        sample_controller::add_to(&manager)?;
        cli.process.run(&manager).await
    })
    .await
}

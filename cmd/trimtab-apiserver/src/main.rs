//! The `trimtab-apiserver` binary: the Kubernetes API alone, without controllers.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use trimtab_apiserver::aggregation::AggregatorOptions;
use trimtab_apiserver::cli;
use trimtab_apiserver::options::ServerOptions;

/// A third of an API server's time goes into memory with the C library's allocator, and a fifth with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Kubernetes API over an embedded store or etcd, without controllers
#[derive(Debug, Parser)]
#[command(name = "trimtab-apiserver", version)]
struct Cli {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    aggregator: AggregatorOptions,
}

async fn run(options: &ServerOptions, aggregator: &AggregatorOptions) -> Result<(), Box<dyn Error>> {
    let server = aggregator.start(options).await?;
    println!(
        "ready: {} (kubeconfig {})",
        server.url(),
        options.kubeconfig_out.display()
    );
    cli::interrupted().await?;
    Ok(server.shutdown().await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli {
        server: options,
        aggregator,
    } = Cli::parse();
    cli::log_to_stderr(options.verbosity);
    let Err(error) = run(&options, &aggregator).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab-apiserver: {error}");
    ExitCode::FAILURE
}

//! The `trimtab-apiserver` binary: the Kubernetes API alone, without controllers.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
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
}

async fn run(options: &ServerOptions) -> Result<(), Box<dyn Error>> {
    let server = options.start().await?;
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
    let (cli, flags) = cli::parse::<Cli>();
    let mut options = cli.server;
    options.flags = flags;
    cli::log_to_stderr(options.verbosity);
    let Err(error) = run(&options).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab-apiserver: {error}");
    ExitCode::FAILURE
}

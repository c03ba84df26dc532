//! The `trimtab` binary: the everyday command line.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

mod narrate;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trimtab_apiserver::cli;
use trimtab_apiserver::options::ServerOptions;

/// A Kubernetes control plane in one process
#[derive(Debug, Parser)]
#[command(name = "trimtab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the API server, the built-in controllers and the sample controller until Ctrl-C
    Up {
        #[command(flatten)]
        server: ServerOptions,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Up { server } = Cli::parse().command;
    cli::log_to_stderr(server.verbosity);
    let Err(error) = up::run(&server).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab: {error}");
    ExitCode::FAILURE
}

//! The `trimtab` binary: the everyday command line.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

mod backup;
mod etcd;
mod migrate;
mod narrate;
mod nodes;
mod status;
mod testenv;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trimtab_apiserver::aggregation::AggregatorOptions;
use trimtab_apiserver::backup::{BackupOptions, RestoreOptions};
use trimtab_apiserver::cli;
use trimtab_apiserver::etcd::migrate::MigrateOptions;
use trimtab_apiserver::options::ServerOptions;
use trimtab_apiserver::status::StatusOptions;

use crate::nodes::{AddedNodes, NodeOptions};

/// As `trimtab-apiserver` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kubernetes control plane in one process
#[derive(Debug, Parser)]
#[command(name = "trimtab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the API server, the built-in controllers, simulated nodes and the sample controller until Ctrl-C
    Up {
        #[command(flatten)]
        server: Box<ServerOptions>,
        #[command(flatten)]
        aggregator: Box<AggregatorOptions>,
        #[command(flatten)]
        nodes: Box<NodeOptions>,
    },
    /// Simulate nodes on a cluster that runs elsewhere, and schedule its pods to them, until Ctrl-C
    Nodes(Box<AddedNodes>),
    /// Run a command with a control plane of its own, in memory, and exit as it does: `trimtab testenv -- pytest`
    Testenv(testenv::TestEnvOptions),
    /// Say how much a server stores, and of what, while it runs or when it is stopped
    Status(StatusOptions),
    /// Save everything that a server stores in a file, while it runs or when it is stopped
    Backup(BackupOptions),
    /// Make a new data dir of a backup, or check one
    Restore(RestoreOptions),
    /// Move everything that a server stores from a data dir into etcd, or from etcd into a data dir, and compare
    Migrate(Box<MigrateOptions>),
    /// Operate the etcd behind an API server: status, snapshots, and from http to https or back
    #[command(subcommand)]
    Etcd(etcd::EtcdCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    let (Cli { mut command }, flags) = cli::parse::<Cli>();
    if let Command::Up { server, .. } = &mut command {
        server.flags = flags;
    }
    cli::log_to_stderr(match &command {
        Command::Up { server, .. } => server.verbosity,
        Command::Nodes(options) => options.verbosity,
        _ => 0,
    });
    let done = match command {
        Command::Up {
            server,
            aggregator,
            nodes,
        } => up::run(&server, &aggregator, &nodes).await,
        Command::Nodes(options) => nodes::add(&options).await,
        Command::Testenv(options) => match testenv::run(&options).await {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Status(options) => status::run(&options).await,
        Command::Backup(options) => backup::save(&options).await,
        Command::Restore(options) => backup::restore(options).await,
        Command::Migrate(options) => migrate::run(&options).await,
        Command::Etcd(command) => etcd::run(command).await,
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    eprintln!("trimtab: {error}");
    ExitCode::FAILURE
}

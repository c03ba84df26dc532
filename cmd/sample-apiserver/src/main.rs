//! The `sample-apiserver` binary: an API that custom resources could not have, beside one that they could, in a server of its own.
//!
//! A whole server, to be copied: `usage.rs` computes what nobody keeps, `note.rs` says what is kept, and this file serves both.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line's output is its purpose

mod note;
mod usage;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde_json::{Value, json};
use trimtab_apiserver::cli;
use trimtab_apiserver::extension::{Delegation, ExtensionServer};
use trimtab_apiserver::storage::{Config, EmbeddedStore};

/// The group of all that it serves.
const GROUP: &str = "samples.trimtab.dev";

/// An extension API server: usage of namespaces, and notes
#[derive(Debug, Parser)]
#[command(name = "sample-apiserver", version)]
struct Cli {
    /// How to reach the API server in front [default: as a pod does]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind_address: IpAddr,

    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 7443)]
    secure_port: u16,

    /// Where notes are kept
    #[arg(long, default_value = "sample-apiserver/data")]
    data_dir: PathBuf,

    /// Where its authority, certificate and key are kept
    #[arg(long, default_value = "sample-apiserver/certs")]
    cert_dir: PathBuf,

    /// The namespace of its Service
    #[arg(long, default_value = "default")]
    service_namespace: String,

    /// The name of its Service
    #[arg(long, default_value = "sample-apiserver")]
    service_name: String,

    /// Where the objects are written that make it known to a cluster on this machine, for kubectl apply
    #[arg(long, default_value = "sample-apiserver/manifests.json")]
    manifests_out: PathBuf,

    /// How much is logged: 0 warnings, 2 more, 4 everything worth debugging
    #[arg(short, long = "v", default_value_t = 0)]
    verbosity: u8,
}

/// A Service that leads to this machine, and the APIService behind it.
fn manifests(cli: &Cli, server: &ExtensionServer) -> Option<Value> {
    let mut list = server.api_services(server.address()?.port())?;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": cli.service_namespace, "name": cli.service_name},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    list["items"].as_array_mut()?.insert(0, service);
    Some(list)
}

async fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let delegation = match &cli.kubeconfig {
        Some(file) => Delegation::kubeconfig(file)?,
        None => Delegation::in_cluster()?,
    };
    let notes = EmbeddedStore::open(&cli.data_dir, Config::default())?;
    let server = ExtensionServer::builder(delegation.clone())
        .computed(usage::definition()?, usage::Usage(delegation))
        .stored(note::definition()?, Arc::new(notes))
        .service(&cli.service_namespace, &cli.service_name)
        .cert_dir(&cli.cert_dir)
        .bind(SocketAddr::new(cli.bind_address, cli.secure_port))
        .start()
        .await?;
    if let Some(folder) = cli.manifests_out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let manifests = manifests(cli, &server).ok_or("it does not listen")?;
    std::fs::write(&cli.manifests_out, manifests.to_string())?;
    let port = server.address().map_or(0, |address| address.port());
    println!(
        "ready: https://{}:{port} (kubectl apply -f {})",
        cli.bind_address,
        cli.manifests_out.display()
    );
    cli::interrupted().await?;
    Ok(server.shutdown().await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::log_to_stderr(cli.verbosity);
    let Err(error) = run(&cli).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("sample-apiserver: {error}");
    ExitCode::FAILURE
}

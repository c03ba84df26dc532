//! Simulated nodes: the flags of `trimtab up` about them, and `trimtab nodes`, which adds them to a cluster that runs elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trimtab::client::cache::InformerFactory;
use trimtab::controller::process;
use trimtab_workloads::nodes::{Options, Stages};

use crate::up::{Outcome, drain, start_dns, until_stopped};

/// Which nodes to simulate.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// How many nodes to simulate: pods are given to them and run there, as their annotations say; 0 for none. One is what it
    /// takes for everything that is made to come to life
    #[arg(long, default_value_t = 1, help_heading = "Simulated nodes")]
    nodes: usize,

    /// Have pods and nodes go through the stages of this file instead of what they do by themselves; as KWOK has them (kind: Stage)
    #[arg(long, value_name = "FILE", help_heading = "Simulated nodes")]
    node_stages: Option<PathBuf>,

    /// Serve the cluster's names below cluster.local there, by UDP and TCP, such as 127.0.0.1:5353; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", help_heading = "Simulated nodes")]
    pub(crate) dns: Option<SocketAddr>,
}

/// To which cluster nodes are added.
#[derive(Debug, Args)]
pub(crate) struct AddedNodes {
    /// The kubeconfig of the cluster; without it, the service account of the pod that this runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    #[command(flatten)]
    nodes: NodeOptions,

    /// How much to log, from 0 to 5; RUST_LOG overrides it
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub(crate) verbosity: u8,
}

/// Simulates nodes on a cluster, with the scheduler that gives pods to them, until Ctrl-C. They stay registered, and fall silent.
///
/// # Errors
///
/// What kept it from starting, or what broke; one line.
pub(crate) async fn add(options: &AddedNodes) -> Outcome {
    let simulation = options.nodes.simulation()?;
    if simulation.is_none() && options.nodes.dns.is_none() {
        return Err("--nodes=0 without --dns: there is nothing to run".into());
    }
    let client = process::connect(options.kubeconfig.as_deref()).await?;
    // A server that cannot be reached is told of now, rather than tried for ever.
    client.apiserver_version().await?;
    let informers = InformerFactory::new(client);
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    if let Some(address) = options.nodes.dns {
        start_dns(informers.clone(), address, &stop, &mut running).await?;
    }
    if let Some(simulation) = simulation {
        println!("nodes         {}", options.nodes.text());
        start(informers, simulation, &stop, &mut running);
    }
    println!("ready; Ctrl-C stops it");
    let outcome = until_stopped(&mut running).await;
    stop.cancel();
    outcome.and(drain(&mut running).await)
}

/// Nodes, and the storage class of what runs on them: its volumes are simulated as well.
pub(crate) fn start(
    informers: InformerFactory,
    simulation: Options,
    stop: &CancellationToken,
    running: &mut JoinSet<Outcome>,
) {
    let token = stop.clone();
    running.spawn(async move {
        trimtab_workloads::install_storage_class(informers.client()).await?;
        Ok(trimtab_workloads::nodes::simulate(informers, simulation, token).await?)
    });
}

impl NodeOptions {
    /// What to simulate, if anything.
    ///
    /// # Errors
    /// Which flag is wrong, and why.
    pub(crate) fn simulation(&self) -> Result<Option<Options>, String> {
        if self.nodes == 0 {
            return Ok(None);
        }
        let mut options = Options::default();
        options.nodes = self.nodes;
        if let Some(file) = &self.node_stages {
            let told = |why: String| format!("--node-stages {}: {why}", file.display());
            let text = std::fs::read_to_string(file).map_err(|why| told(why.to_string()))?;
            options.stages = Stages::parse(&text).map_err(|why| told(why.to_string()))?;
        }
        Ok(Some(options))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self.nodes {
            1 => "node-0, simulated, and a scheduler".to_owned(),
            nodes => format!("node-0 to node-{}, simulated, and a scheduler", nodes - 1),
        }
    }
}

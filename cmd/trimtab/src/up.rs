//! `trimtab up`: everything in one process, started from the bottom up and stopped from the top down.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trimtab::client::cache::InformerFactory;
use trimtab_apiserver::aggregation::AggregatorOptions;
use trimtab_apiserver::options::ServerOptions;
use trimtab_apiserver::{ApiServer, cli};
use trimtab_workloads::Options;
use trimtab_workloads::dns::ClusterDns;

use crate::narrate;
use crate::nodes::{self, NodeOptions};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Starts everything, tells of what happens until Ctrl-C, and stops everything.
///
/// # Errors
///
/// What kept it from starting, or what broke; one line.
pub(crate) async fn run(
    options: &ServerOptions,
    aggregator: &AggregatorOptions,
    node_options: &NodeOptions,
) -> Outcome {
    let simulation = node_options.simulation()?;
    let server = aggregator.start(options).await?;
    println!(
        "API server    {} (storage: {})",
        server.url(),
        options.storage_text()
    );
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    // All parts talk to the server inside the process, as its administrator, without a socket; those of the cluster share
    // their watches.
    let informers = InformerFactory::new(Client::new(server.service(), "default"));
    let started = start_controllers(&server, &informers, &stop, &mut running).await;
    if let Some(simulation) = simulation {
        println!("nodes         {}", node_options.text());
        nodes::start(informers.clone(), simulation, &stop, &mut running);
    }
    let started = match (started, node_options.dns) {
        (Ok(()), Some(address)) => start_dns(informers, address, &stop, &mut running).await,
        (started, _) => started,
    };
    let outcome = match started {
        Ok(()) => {
            print_help(options);
            until_stopped(&mut running).await
        }
        Err(error) => Err(error),
    };
    stop.cancel();
    let stopped = drain(&mut running).await;
    server.shutdown().await?;
    println!("stopped");
    outcome.and(stopped)
}

async fn start_controllers(
    server: &ApiServer,
    informers: &InformerFactory,
    stop: &CancellationToken,
    running: &mut JoinSet<Outcome>,
) -> Outcome {
    let mut options = Options::default();
    options.namespace_delay = Duration::ZERO; // there is one server, which lets nothing more in
    options.root_ca = Some(server.certificate_authority().to_owned());
    let (built_in, token) = (informers.clone(), stop.clone());
    running.spawn(async move { Ok(trimtab_workloads::run(built_in, options, token).await?) });
    println!("controllers   {}", trimtab_workloads::known().join(", "));

    let client = informers.client().clone();
    sample_controller::install(&client).await?;
    println!("sample        websites.samples.example.com, and its controller");
    let (sample, token) = (client.clone(), stop.clone());
    running.spawn(async move { Ok(sample_controller::run(sample, token).await?) });

    let token = stop.clone();
    running.spawn(async move {
        narrate::run(client, token).await;
        Ok(())
    });
    Ok(())
}

/// The names of the cluster.
pub(crate) async fn start_dns(
    informers: InformerFactory,
    address: SocketAddr,
    stop: &CancellationToken,
    running: &mut JoinSet<Outcome>,
) -> Outcome {
    let dns = ClusterDns::start(informers, "cluster.local", address).await?;
    let address = dns.address();
    println!(
        "DNS           dig @{} -p {} kubernetes.default.svc.cluster.local",
        address.ip(),
        address.port()
    );
    let token = stop.clone();
    running.spawn(async move { Ok(dns.run(token).await?) });
    Ok(())
}

fn print_help(options: &ServerOptions) {
    let kubeconfig = options.kubeconfig_out.display();
    println!("kubeconfig    {kubeconfig}\n");
    println!("Try:");
    println!("  export KUBECONFIG={kubeconfig}");
    println!("  kubectl apply -f examples/website.yaml");
    println!("  kubectl get websites,deployments,services,configmaps");
    println!("  kubectl describe website hello");
    println!("  kubectl get nodes\n");
    println!("ready; Ctrl-C stops it");
}

/// Waits for Ctrl-C, or for something to end that should not.
pub(crate) async fn until_stopped(running: &mut JoinSet<Outcome>) -> Outcome {
    tokio::select! {
        biased;
        interrupted = cli::interrupted() => Ok(interrupted?),
        ended = running.join_next() => match ended {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(panicked)) => Err(panicked.into()),
            Some(Ok(Ok(()))) | None => Err("a controller stopped by itself".into()),
        },
    }
}

pub(crate) async fn drain(running: &mut JoinSet<Outcome>) -> Outcome {
    let mut outcome = Ok(());
    while let Some(ended) = running.join_next().await {
        outcome = outcome.and(ended.map_err(Into::into).and_then(|ended| ended));
    }
    outcome
}

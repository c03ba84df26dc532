//! Fills a server, and measures one controller on what is there: `controller-bench PEER SCENARIO …` prints JSON lines.

mod children;
mod kube_rs;
mod load;
mod ours;
mod overhead;
mod report;
mod site;
mod start;

use std::process::ExitCode;
use std::time::Duration;

use kube::Client;
use report::Heap;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const USAGE: &str = "controller-bench load keys|sites COUNT, controller-bench clear, controller-bench check SITES, \
                     controller-bench requests, controller-bench PEER overhead KEYS ROUNDS, \
                     controller-bench PEER start KEYS WORKERS, controller-bench PEER children SITES WORKERS, \
                     controller-bench ours failover LEASE; PEER is ours or kube-rs";

/// The longest wait for any one thing.
const PATIENCE: Duration = Duration::from_secs(600);

/// Does what the arguments say. `heap` is the allocator if it counts.
pub fn main(heap: Option<Heap>) -> ExitCode {
    let begun = std::time::Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&arguments, heap, begun)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str], heap: Option<Heap>, begun: std::time::Instant) -> Result<()> {
    let client = Client::try_default().await?;
    match arguments[..] {
        ["load", "keys", count] => load::keys(client, count.parse()?).await,
        ["load", "sites", count] => load::sites(client, count.parse()?).await,
        ["clear"] => load::clear(client).await,
        ["check", sites] => load::check(client, sites.parse()?).await,
        ["requests"] => load::requests(client).await,
        ["ours", "overhead", keys, rounds] => {
            ours::overhead(client, keys.parse()?, rounds.parse()?, heap).await
        }
        ["ours", "start", keys, workers] => ours::start(client, keys.parse()?, workers.parse()?).await,
        ["ours", "children", sites, workers] => {
            ours::children(client, sites.parse()?, workers.parse()?, begun).await
        }
        ["ours", "failover", lease] => ours::failover(client, lease).await,
        ["kube-rs", "overhead", keys, rounds] => {
            kube_rs::overhead(client, keys.parse()?, rounds.parse()?, heap).await
        }
        ["kube-rs", "start", keys, workers] => kube_rs::start(client, keys.parse()?, workers.parse()?).await,
        ["kube-rs", "children", sites, workers] => {
            kube_rs::children(client, sites.parse()?, workers.parse()?, begun).await
        }
        _ => Err(USAGE.into()),
    }
}

/// Waits for something, not for ever.
async fn within<T>(what: &str, wait: impl Future<Output = T>) -> Result<T> {
    let ended = tokio::time::timeout(PATIENCE, wait).await;
    ended.map_err(|_| format!("{what} took more than {PATIENCE:?}").into())
}

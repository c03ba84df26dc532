//! Fills a server, and measures one cache of what is there: `cache-bench load PODS DATA`, `cache-bench PEER PODS HANDLERS`,
//! `cache-bench patch PODS COUNT`, `cache-bench latency PODS COUNT`.

mod follow;
mod latency;
mod load;
mod pods;
mod report;

use kube::Client;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Client::try_default().await?;
    match arguments[..] {
        ["load", pods, data] => load::load(client, pods.parse()?, pods::Data::named(data)?).await,
        ["patch", pods, count] => load::patch(client, pods.parse()?, count.parse()?).await,
        ["latency", pods, count] => latency::latency(client, pods.parse()?, count.parse()?).await,
        [peer, pods, handlers] => follow::follow(client, peer, pods.parse()?, handlers.parse()?).await,
        _ => Err(
            "cache-bench load PODS templates|distinct, cache-bench PEER PODS HANDLERS, \
                  cache-bench patch PODS COUNT, cache-bench latency PODS COUNT"
                .into(),
        ),
    }
}

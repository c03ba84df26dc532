//! Many nodes with many pods in one process, API server included: how long it takes, what it costs, and how much memory it needs.
//! `hack/scale-nodes` runs it.
#![allow(clippy::print_stdout)] // figures are its purpose

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use trimtab_apiserver_core::ApiServer;
use trimtab_apiserver_storage::{Config, MemoryStore};
use trimtab_workloads_node::{Options, SimulatedNodes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many pods are created at once.
const AT_ONCE: usize = 32;
/// How long heartbeats are watched.
const HEARTBEATS: Duration = Duration::from_secs(30);
/// When to give up.
const PATIENCE: Duration = Duration::from_secs(1200);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What has happened up to now.
struct Meter {
    began: Instant,
    cpu: f64,
}

impl Meter {
    fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    fn tell(self, what: &str) {
        println!(
            "{what:<42} {:>7.1} s  {:>7.1} CPU s  {:>6} MiB",
            self.began.elapsed().as_secs_f64(),
            cpu_seconds() - self.cpu,
            resident_mib()
        );
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |usual: usize| -> Outcome<usize> { Ok(arguments.next().map_or(Ok(usual), |text| text.parse())?) };
    let (nodes, pods, limit) = (number(5000)?, number(100_000)?, number(2048)?);

    let meter = Meter::start();
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ApiServer::builder(store).start().await?;
    let client = Client::new(server.service(), "default");
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    meter.tell("server");

    let meter = Meter::start();
    let mut options = Options::default();
    options.nodes = nodes;
    let mut simulated = SimulatedNodes::start(client.clone(), options)?;
    simulated.ready().await;
    meter.tell(&format!("{nodes} nodes are ready"));

    let meter = Meter::start();
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let created = futures::stream::iter(0..pods).map(|number| {
        let api = api.clone();
        async move {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("pod-{number}"), "labels": {"app": format!("app-{}", number / 100)}},
                "spec": {"containers": [{"name": "c", "image": "image", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
            }))?;
            api.create(&PostParams::default(), &pod).await?;
            Outcome::Ok(())
        }
    });
    let mut created = created.buffer_unordered(AT_ONCE);
    while let Some(outcome) = created.next().await {
        outcome?;
        if resident_mib() > limit {
            return Err(format!("more than {limit} MiB of memory").into());
        }
    }
    meter.tell(&format!("{pods} pods are created"));

    let meter = Meter::start();
    let running = ListParams::default().fields("status.phase!=Running").limit(1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = api.list_metadata(&running).await?;
        if left.items.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            return Err("not all pods run in time".into());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    meter.tell("and all of them run");

    let meter = Meter::start();
    tokio::time::sleep(HEARTBEATS).await;
    meter.tell("heartbeats of all nodes for 30 s");
    let resident = resident_mib();
    simulated.shut_down().await;
    server.shutdown().await?;
    if resident > limit {
        return Err(format!("{resident} MiB are more than {limit}").into());
    }
    Ok(())
}

/// What the process has used of processors, from the system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| -> f64 {
        let field = after.split_whitespace().nth(at);
        field.and_then(|field| field.parse().ok()).unwrap_or_default()
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: Option<usize> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or_default() / 1024
}

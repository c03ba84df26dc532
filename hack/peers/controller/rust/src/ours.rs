//! Our controllers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;
use trimtab::client::leader::ElectionConfig;
use trimtab::controller::process::stop_on_signals;
use trimtab::prelude::*;

use crate::children::{self, Settled};
use crate::overhead::{self, Count};
use crate::report::Heap;
use crate::site::{self, Site};
use crate::start::{self, Seen};

type Outcome = crate::Result<()>;

/// The field manager.
const NAME: &str = "controller-bench";

/// Runs the manager for as long as something is measured.
async fn beside(manager: &Manager, measured: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        measured = measured => measured,
        ended = manager.run(Default::default()) => Ok(ended?),
    }
}

struct Nothing(Arc<Count>);

impl Reconcile<ConfigMap> for Nothing {
    async fn reconcile(&self, turn: &mut Turn<ConfigMap>) -> Result<Next> {
        if turn.latest().is_some() {
            self.0.one();
        }
        Ok(Next::Done)
    }
}

pub async fn overhead(client: Client, keys: usize, rounds: u64, heap: Option<Heap>) -> Outcome {
    let manager = Manager::new(client).name(NAME);
    let count = Arc::new(Count::default());
    let controller = manager.controller(Nothing(count.clone())).start()?;
    let trigger = || match controller.trigger_all("bench") {
        true => Ok(()),
        false => Err("the controller has stopped".into()),
    };
    beside(
        &manager,
        overhead::measure(&count, keys as u64, rounds, heap, trigger),
    )
    .await
}

struct Sleeps(Arc<Seen>);

impl Reconcile<ConfigMap> for Sleeps {
    async fn reconcile(&self, turn: &mut Turn<ConfigMap>) -> Result<Next> {
        if let Some(object) = turn.latest() {
            self.0.begins(&object);
            sleep(start::WORK).await;
        }
        Ok(Next::Done)
    }
}

pub async fn start(client: Client, keys: usize, workers: usize) -> Outcome {
    let manager = Manager::new(client.clone()).name(NAME);
    let seen = Arc::new(Seen::new(keys)?);
    manager
        .controller(Sleeps(seen.clone()))
        .workers(workers)
        .start()?;
    beside(&manager, start::measure(client, &seen)).await
}

struct Sites(Arc<Settled>);

impl Reconcile<Site> for Sites {
    async fn reconcile(&self, turn: &mut Turn<Site>) -> Result<Next> {
        let Some(site) = turn.latest() else {
            return Ok(Next::Done);
        };
        let published = publish(turn, &site).await;
        self.0.ended(&site.name_any(), published.is_ok());
        published
    }
}

async fn publish(turn: &mut Turn<Site>, site: &Site) -> Result<Next> {
    turn.apply(site::page(site)).await?;
    let servers = turn.apply(site::servers(site)).await?;
    turn.status(|status| *status = site::status(site, &servers));
    Ok(Next::Done)
}

pub async fn children(client: Client, sites: usize, workers: usize, begun: Instant) -> Outcome {
    let manager = Manager::new(client).name(NAME);
    let settled = Arc::new(Settled::new(sites));
    let controller = manager.controller(Sites(settled.clone()));
    let controller = controller.owns::<ConfigMap>().owns::<Deployment>();
    controller.workers(workers).start()?;
    beside(&manager, children::measure(&settled, begun)).await
}

/// Says when the first reconcile begins.
#[derive(Default)]
struct First(AtomicBool);

impl Reconcile<ConfigMap> for First {
    async fn reconcile(&self, _: &mut Turn<ConfigMap>) -> Result<Next> {
        if !self.0.swap(true, SeqCst) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_err(Error::other)?.as_nanos() as u64;
            println!("{}", json!({"reconciled_ns": now}));
        }
        Ok(Next::Done)
    }
}

/// A replica: says when it is ready, and when it reconciles. Until it is told to stop.
pub async fn failover(client: Client, lease: &str) -> Outcome {
    let election = ElectionConfig {
        namespace: Some("default".to_owned()),
        ..ElectionConfig::new(lease)
    };
    let manager = Manager::new(client).name(NAME).elected(election);
    manager.controller(First::default()).start()?;
    let told = async {
        while !manager.is_ready() {
            sleep(Duration::from_millis(10)).await;
        }
        println!("{}", json!({"ready": true}));
    };
    let (ran, ()) = tokio::join!(manager.run(stop_on_signals()?), told);
    Ok(ran?)
}

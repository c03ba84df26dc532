//! The controllers of kube-rs.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures::channel::mpsc;
use futures::{Stream, StreamExt, future};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::Result;
use crate::children::{self, Settled};
use crate::overhead::{self, Count};
use crate::report::Heap;
use crate::site::{self, Site};
use crate::start::{self, Seen};

/// The field manager.
const NAME: &str = "controller-bench";

/// Runs a controller for as long as something is measured. Its reconciles have their own way to report.
async fn beside<T, E: fmt::Display>(
    reconciles: impl Stream<Item = Result<T, E>> + Send + 'static,
    measured: impl Future<Output = Result<()>>,
) -> Result<()>
where
    T: Send,
    E: Send,
{
    let running = reconciles.for_each(|ended| {
        if let Err(error) = ended {
            eprintln!("{error}");
        }
        future::ready(())
    });
    let running = tokio::spawn(running);
    tokio::select! {
        biased;
        measured = measured => measured,
        ended = running => Err(format!("the controller ended: {ended:?}").into()),
    }
}

fn keys(client: &Client) -> Controller<ConfigMap> {
    Controller::new(Api::all(client.clone()), watcher::Config::default())
}

fn never<K, C>(_: Arc<K>, error: &Infallible, _: Arc<C>) -> Action {
    match *error {}
}

pub async fn overhead(client: Client, count_of_keys: usize, rounds: u64, heap: Option<Heap>) -> Result<()> {
    let count = Arc::new(Count::default());
    let (again, triggers) = mpsc::unbounded();
    let reconciles = keys(&client).reconcile_all_on(triggers).run(
        |_, count: Arc<Count>| {
            count.one();
            future::ok::<_, Infallible>(Action::await_change())
        },
        never,
        count.clone(),
    );
    let trigger = || Ok(again.unbounded_send(())?);
    let measured = overhead::measure(&count, count_of_keys as u64, rounds, heap, trigger);
    beside(reconciles, measured).await
}

pub async fn start(client: Client, count_of_keys: usize, workers: u16) -> Result<()> {
    let seen = Arc::new(Seen::new(count_of_keys)?);
    let config = Config::default().concurrency(workers);
    let reconciles = keys(&client).with_config(config).run(
        |object, seen: Arc<Seen>| async move {
            seen.begins(&object);
            sleep(start::WORK).await;
            Ok::<_, Infallible>(Action::await_change())
        },
        never,
        seen.clone(),
    );
    beside(reconciles, start::measure(client, &seen)).await
}

struct Context {
    client: Client,
    settled: Settled,
}

async fn reconcile(site: Arc<Site>, context: Arc<Context>) -> kube::Result<Action> {
    let published = publish(&site, &context.client).await;
    context.settled.ended(&site.name_any(), published.is_ok());
    published
}

/// As in the project's examples: what is wished for is applied each time.
async fn publish(site: &Site, client: &Client) -> kube::Result<Action> {
    let (name, namespace) = (site.name_any(), site.namespace().unwrap_or_default());
    let params = PatchParams::apply(NAME).force();
    let owners: Option<Vec<_>> = site.controller_owner_ref(&()).map(|owner| vec![owner]);

    let mut page = site::page(site);
    page.metadata.owner_references.clone_from(&owners);
    let pages = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    pages.patch(&name, &params, &Patch::Apply(&page)).await?;

    let mut servers = site::servers(site);
    servers.metadata.owner_references = owners;
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let servers = deployments.patch(&name, &params, &Patch::Apply(&servers)).await?;

    let status = json!({
        "apiVersion": Site::api_version(&()), "kind": Site::kind(&()),
        "status": site::status(site, &servers),
    });
    let sites = Api::<Site>::namespaced(client.clone(), &namespace);
    sites.patch_status(&name, &params, &Patch::Apply(&status)).await?;
    Ok(Action::await_change())
}

pub async fn children(client: Client, sites: usize, workers: u16, begun: Instant) -> Result<()> {
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<Site>::all(client.clone()), config())
        .owns(Api::<ConfigMap>::all(client.clone()), config())
        .owns(Api::<Deployment>::all(client.clone()), config())
        .with_config(Config::default().concurrency(workers));
    let settled = Settled::new(sites);
    let context = Arc::new(Context { client, settled });
    let again = |_: Arc<Site>, _: &kube::Error, _: Arc<Context>| Action::requeue(start::WORK);
    let reconciles = controller.run(reconcile, again, context.clone());
    beside(reconciles, children::measure(&context.settled, begun)).await
}

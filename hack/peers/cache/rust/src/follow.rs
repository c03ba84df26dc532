//! The peers: each keeps all Pods, and counts what its handlers are told.

use std::any::Any;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Resource};
use trimtab_client::cache::{Delta, Form, InformerFactory, Object, Selection};

use crate::Result;
use crate::report::report;

/// For each handler, of how many changes after the initial list it has been told.
type Told = Arc<[AtomicU64]>;

/// Runs a peer. Prints a line when every handler has the initial list, and one for each number on stdin, when every handler
/// has been told of that many changes in all.
pub async fn follow(client: Client, peer: &str, count: usize, handlers: usize) -> Result<()> {
    let told: Told = (0..handlers).map(|_| AtomicU64::new(0)).collect();
    let pods = Api::<Pod>::all(client.clone());
    let config = watcher::Config::default;
    let follower: Box<dyn Any> = match peer {
        "ours-compact" => ours::<Pod>(client, Selection::all(), count, &told).await?,
        "ours-typed" => {
            let which = Selection::all().without_bookkeeping().form(Form::Typed);
            ours::<Pod>(client, which, count, &told).await?
        }
        "ours-metadata" => ours::<PartialObjectMeta<Pod>>(client, Selection::all(), count, &told).await?,
        "kube-typed" => kube_rs(watcher(pods, config()), (), count, &told).await?,
        "kube-streaming" => kube_rs(watcher(pods, config().streaming_lists()), (), count, &told).await?,
        "kube-dynamic" => {
            let kind = ApiResource::erase::<Pod>(&());
            let api = Api::<DynamicObject>::all_with(client, &kind);
            kube_rs(watcher(api, config()), kind, count, &told).await?
        }
        "kube-metadata" => {
            let api = Api::<PartialObjectMeta<Pod>>::all(client);
            kube_rs(watcher(api, config()), (), count, &told).await?
        }
        _ => return Err(format!("no peer {peer}").into()),
    };
    let least = || {
        told.iter()
            .map(|told| told.load(Relaxed))
            .min()
            .unwrap_or_default()
    };
    report(peer, least()).await?;
    let mut lines = std::io::stdin().lines();
    while let Some(wanted) = tokio::task::block_in_place(|| lines.next()) {
        let wanted: u64 = wanted?.parse()?;
        while least() < wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        report(peer, least()).await?;
    }
    drop(follower);
    Ok(())
}

async fn ours<K: Object<DynamicType = ()>>(
    client: Client,
    which: Selection,
    count: usize,
    told: &Told,
) -> Result<Box<dyn Any>> {
    let informer = InformerFactory::new(client).informer::<K>(which);
    let handlers: Vec<_> = (0..told.len())
        .map(|handler| {
            let told = told.clone();
            informer.add_handler(move |delta| {
                if !matches!(delta, Delta::Added { initial: true, .. }) {
                    told[handler].fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for handler in &handlers {
        handler.synced().await;
    }
    let stored = informer.store().len();
    if stored != count {
        return Err(format!("{stored} objects are stored instead of {count}").into());
    }
    eprintln!("{} bytes of objects", informer.store().size());
    Ok(Box::new((informer, handlers)))
}

/// A reflector has one handler: streams that are shared are behind unstable features.
async fn kube_rs<K, S>(events: S, kind: K::DynamicType, count: usize, told: &Told) -> Result<Box<dyn Any>>
where
    K: Resource + Clone + fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone + Send + Sync + fmt::Debug,
    S: Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
{
    if told.len() != 1 {
        return Err("a reflector of kube-rs has one handler".into());
    }
    let writer = reflector::store::Writer::<K>::new(kind);
    let store = writer.as_reader();
    let counted = told.clone();
    let handler = events
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .for_each(move |_| {
            counted[0].fetch_add(1, Relaxed);
            future::ready(())
        });
    let task = tokio::spawn(handler);
    store.wait_until_ready().await?;
    // It is ready before the handler has been told of the list, which does not say that it is one.
    while told[0].load(Relaxed) < count as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if store.len() != count {
        return Err(format!("{} objects are stored instead of {count}", store.len()).into());
    }
    told[0].store(0, Relaxed);
    Ok(Box::new((store, task)))
}

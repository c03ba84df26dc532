//! As little as a controller needs: caches that are kept by lists and watches, and a queue of keys. Written for these tests,
//! so that what is found is of the controllers and not of a framework.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, CustomResource, KubeSchema, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::sleep;

pub(crate) type Result<T = (), E = kube::Error> = std::result::Result<T, E>;

#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Toy",
    namespaced,
    status = "ToyStatus"
)]
pub(crate) struct ToySpec {
    #[serde(default)]
    pub(crate) size: u32,
}

#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub(crate) struct ToyStatus {
    #[serde(default)]
    pub(crate) secret: Option<String>,
    #[serde(default)]
    pub(crate) size: Option<u32>,
}

/// What a controller's informers tell it.
pub(crate) enum Seen<K> {
    /// All there are.
    Listed(Vec<K>),
    Applied(K),
    Deleted(K),
}

/// What a watch that cannot be resumed is answered with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum AtExpiry {
    ListAnew,
    /// As if there had been nothing.
    GoOn,
}

pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

pub(crate) fn api<K: Kind>(client: &Client) -> Api<K> {
    Api::default_namespaced(client.clone())
}

/// Lists and watches, as client-go does: the first list need not be the latest.
pub(crate) async fn inform<K: Kind>(client: Client, at_expiry: AtExpiry, mut told: impl FnMut(Seen<K>)) {
    let api = api::<K>(&client);
    loop {
        let Ok(list) = api.list(&ListParams::default().match_any()).await else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let mut version = list.metadata.resource_version.unwrap_or_default();
        told(Seen::Listed(list.items));
        'watches: loop {
            let mut events = match api.watch(&WatchParams::default(), &version).await {
                Ok(events) => events.boxed(),
                Err(kube::Error::Api(status)) if status.code == 410 => break,
                Err(_) => {
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            while let Some(Ok(event)) = events.next().await {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.resource_version().unwrap_or_default();
                        told(Seen::Applied(object));
                    }
                    WatchEvent::Deleted(object) => {
                        version = object.resource_version().unwrap_or_default();
                        told(Seen::Deleted(object));
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(_) if at_expiry == AtExpiry::ListAnew => break 'watches,
                    WatchEvent::Error(_) => {
                        std::future::pending::<()>().await; // nobody looks any more
                    }
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A cache of all objects of a kind, by their names.
#[derive(Debug)]
pub(crate) struct Store<K>(Arc<Mutex<BTreeMap<String, K>>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> Store<K> {
    fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn get(&self, name: &str) -> Option<K> {
        self.0.lock().get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<K> {
        self.0.lock().values().cloned().collect()
    }

    fn see(&self, seen: Seen<K>) -> Vec<K> {
        let mut objects = self.0.lock();
        match seen {
            Seen::Listed(all) => {
                let new = all
                    .into_iter()
                    .map(|object| (object.name_any(), object))
                    .collect();
                let mut touched: Vec<K> = std::mem::replace(&mut *objects, new).into_values().collect();
                touched.extend(objects.values().cloned());
                touched
            }
            Seen::Applied(object) => {
                objects.insert(object.name_any(), object.clone());
                vec![object]
            }
            Seen::Deleted(object) => {
                objects.remove(&object.name_any());
                vec![object]
            }
        }
    }
}

/// What a controller of Toys has in its hands.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    pub(crate) client: Client0,
    pub(crate) toys: Store<Toy>,
    pub(crate) maps: Store<ConfigMap>,
    pub(crate) secrets: Store<Secret>,
}

/// A client, which has no debug form of its own.
#[derive(Clone)]
pub(crate) struct Client0(pub(crate) Client);

impl Debug for Client0 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Hands {
    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        api(&self.client.0)
    }
}

/// The label by which children say whose they are.
pub(crate) const OF: &str = "toy";

/// Runs a controller of Toys, ConfigMaps and Secrets of a Toy among what it looks at: it is called with a Toy's name when something
/// has changed, and again after a failure.
pub(crate) async fn control<F>(client: Client, again: bool, reconcile: impl Fn(Hands, String) -> F) -> Result
where
    F: Future<Output = Result>,
{
    let hands = Hands {
        client: Client0(client.clone()),
        toys: Store::new(),
        maps: Store::new(),
        secrets: Store::new(),
    };
    let (send, mut receive) = mpsc::unbounded_channel();
    let of_toys = informer(client.clone(), hands.toys.clone(), send.clone());
    let of_maps = informer(client.clone(), hands.maps.clone(), send.clone());
    let of_secrets = informer(client, hands.secrets.clone(), send.clone());
    let work = async {
        sleep(Duration::from_millis(100)).await; // for the caches
        while let Some(name) = receive.recv().await {
            if let (Err(_), true) = (reconcile(hands.clone(), String::clone(&name)).await, again) {
                let send = send.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_secs(5)).await;
                    let _closed = send.send(name);
                });
            }
        }
    };
    futures::join!(of_toys, of_maps, of_secrets, work);
    Ok(())
}

async fn informer<K: Kind>(client: Client, store: Store<K>, keys: mpsc::UnboundedSender<String>) {
    inform::<K>(client, AtExpiry::ListAnew, |seen| {
        for object in store.see(seen) {
            let of = object.labels().get(OF).cloned();
            let is_toy = K::kind(&()) == "Toy";
            if let Some(key) = of.or(is_toy.then(|| object.name_any())) {
                let _closed = keys.send(key);
            }
        }
    })
    .await;
}

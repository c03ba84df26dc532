//! Where a run takes place: an API server in this process on paused time, or a cluster.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use trimtab::apiserver::ApiServer;
use trimtab::apiserver::storage::{self, MemoryStore, Store as _};
use trimtab::client::cache::reflector::Config;

/// How many namespaces the traffic writes to.
const NAMESPACES: usize = 3;

/// A server, and the namespaces that are ours.
pub(crate) struct World {
    /// A client with nothing in between.
    pub(crate) client: Client,
    pub(crate) namespaces: Vec<String>,
    pub(crate) pace: Pace,
    place: Place,
}

enum Place {
    Process {
        store: Arc<MemoryStore>,
        server: ApiServer,
    },
    Cluster,
}

/// How fast everything goes: time that is paused costs nothing, time in a cluster is real.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The longest of the usual pauses and delays.
    pub(crate) short: Duration,
    /// The longest of the rare ones.
    pub(crate) long: Duration,
    /// The most seconds that a refusal asks for.
    pub(crate) retry_after: u64,
    /// Whether informers may be as patient as they are by default.
    pub(crate) patient: bool,
}

impl World {
    /// An API server of its own in this process.
    pub(crate) async fn in_process() -> Result<Self, String> {
        let store = Arc::new(MemoryStore::new(storage::Config::default()));
        let server = ApiServer::builder(store.clone()).start().await;
        let server = server.map_err(|e| e.to_string())?;
        let client = Client::new(server.service(), "default");
        let pace = Pace {
            short: Duration::from_millis(200),
            long: Duration::from_secs(60),
            retry_after: 5,
            patient: true,
        };
        let place = Place::Process { store, server };
        Self::begin(client, pace, place).await
    }

    /// The cluster of the current context of `KUBECONFIG`.
    pub(crate) async fn cluster() -> Result<Self, String> {
        let client = Client::try_default().await.map_err(|e| e.to_string())?;
        let pace = Pace {
            short: Duration::from_millis(20),
            long: Duration::from_millis(1500),
            retry_after: 1,
            patient: false,
        };
        Self::begin(client, pace, Place::Cluster).await
    }

    async fn begin(client: Client, pace: Pace, place: Place) -> Result<Self, String> {
        let api: Api<Namespace> = Api::all(client.clone());
        let mut namespaces = Vec::new();
        for number in 0..NAMESPACES {
            // Their order is the same in each run.
            let namespace = json!({"metadata": {"generateName": format!("robustness-{number}-")}});
            let namespace: Namespace = serde_json::from_value(namespace).map_err(|e| e.to_string())?;
            let created = api.create(&PostParams::default(), &namespace).await;
            namespaces.extend(created.map_err(|e| e.to_string())?.metadata.name);
        }
        Ok(Self {
            client,
            namespaces,
            pace,
            place,
        })
    }

    /// How the informers are to behave.
    pub(crate) fn config(&self, rng: &mut fastrand::Rng) -> Config {
        let (streamed_lists, page_size) = (rng.bool(), rng.u32(0..6));
        let usual = Config {
            streamed_lists,
            page_size,
            ..Config::default()
        };
        if self.pace.patient && rng.u8(..4) == 0 {
            return usual;
        }
        let unit = if self.pace.patient {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(250)
        };
        Config {
            watch_timeout: unit * 20..=unit * 40,
            answer_timeout: unit * 4,
            silence_timeout: unit * 8,
            initial_silence: unit * 2,
            backoff_first: unit / 20,
            backoff_max: unit,
            ..usual
        }
    }

    /// Has the server forget what was before a version. A cluster does so when it likes.
    pub(crate) async fn compact(&self, version: u64) {
        if let Place::Process { store, .. } = &self.place {
            // It may have done so by itself.
            let _compacted = store.compact(version).await;
        }
    }

    /// Stops the server, or removes from the cluster what was put there.
    pub(crate) async fn end(self) -> Result<(), String> {
        if let Place::Process { server, .. } = self.place {
            return server.shutdown().await.map_err(|e| e.to_string());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in &self.namespaces {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            let ours = maps
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            for name in ours.items.into_iter().filter_map(|map| map.metadata.name) {
                let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                // What is gone already needs no release.
                let _released = maps.patch(&name, &PatchParams::default(), &released).await;
            }
            let (delete, all) = (DeleteParams::default(), ListParams::default());
            let emptied = maps.delete_collection(&delete, &all).await;
            emptied.map_err(|e| e.to_string())?;
            let gone = namespaces.delete(namespace, &DeleteParams::default()).await;
            gone.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

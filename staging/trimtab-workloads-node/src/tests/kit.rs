//! A server with simulated nodes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trimtab_apiserver_core::ApiServer;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::{Options, SimulatedNodes};

/// How long to wait for something, on paused time.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) client: Client,
    pub(super) nodes: SimulatedNodes,
}

pub(super) fn of<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of the kind")
}

/// A pod with one container.
pub(super) fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c", "image": "image"}]);
    }
    of(json!({"metadata": {"name": name}, "spec": spec}))
}

impl World {
    pub(super) async fn with(options: Options) -> Self {
        let store = Arc::new(MemoryStore::new(Config::default()));
        let server = ApiServer::builder(store).start().await.expect("a server");
        let client = Client::new(server.service(), "default");
        let mut nodes = SimulatedNodes::start(client.clone(), options).expect("nodes");
        nodes.ready().await;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::default_namespaced(client.clone());
        let account = of(json!({"metadata": {"name": "default"}}));
        accounts
            .create(&PostParams::default(), &account)
            .await
            .expect("the account that pods run as");
        Self {
            server,
            client,
            nodes,
        }
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(super) async fn create<K>(&self, object: &K) -> K
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<K> = Api::default_namespaced(self.client.clone());
        let created = api.create(&PostParams::default(), object).await;
        created.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()))
    }

    pub(super) async fn stop(self) {
        self.nodes.shut_down().await;
        self.server.shutdown().await.expect("the server stops");
    }
}

/// Waits until the object is as wanted.
pub(super) async fn until<K>(api: &Api<K>, name: &str, is: impl Fn(&K) -> bool) -> K
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut last = None;
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        last = api.get_opt(name).await.expect("an answer");
        if let Some(found) = last.clone().filter(|found| is(found)) {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("{name} is not as awaited: {last:#?}");
}

/// Waits until there is no such object.
pub(super) async fn until_gone<K: Clone + Debug + DeserializeOwned>(api: &Api<K>, name: &str) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if api.get_opt(name).await.expect("an answer").is_none() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("{name} is still there");
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn address(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    status.pod_ip.unwrap_or_default()
}

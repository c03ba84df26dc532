//! Two API servers on one etcd: what one writes holds at the other, in everything that a server keeps in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use trimtab::apiserver::ApiServer;
use trimtab::apiserver::auth::user::UserInfo;
use trimtab::apiserver::storage::{EtcdConfig, EtcdStore};

use crate::process::{Etcd, Settings, usual};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    servers: [ApiServer; 2],
    clients: [Client; 2],
    _etcd: Etcd,
}

impl World {
    /// `None`, with a printed reason, where there is no etcd.
    async fn start() -> Option<Self> {
        let etcd = Etcd::start(usual()?, 1, Settings::default());
        // Both start at once, on an empty store.
        let (a, b) = tokio::join!(server(&etcd), server(&etcd));
        let servers = [a, b];
        let clients = servers.each_ref().map(|s| Client::new(s.service(), "default"));
        Some(Self {
            servers,
            clients,
            _etcd: etcd,
        })
    }

    async fn stop(self) {
        for server in self.servers {
            server.shutdown().await.expect("stops");
        }
    }
}

async fn server(etcd: &Etcd) -> ApiServer {
    let store = EtcdStore::connect(EtcdConfig::new(etcd.urls()))
        .await
        .expect("connects");
    let range = "10.9.0.0/26".parse().expect("a range");
    let builder = ApiServer::builder(Arc::new(store)).service_cluster_ip_range(range);
    builder.start().await.expect("starts")
}

/// Asks until the answer is yes.
async fn comes<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let asking = async {
        while !ask().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect(what);
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name}, "data": {"n": value}}))
}

#[tokio::test]
async fn both_may_start_at_once_and_agree_on_the_first_objects() {
    let Some(world) = World::start().await else { return };
    let [a, b] = &world.clients;
    for client in [a, b] {
        let all = Api::<Namespace>::all(client.clone());
        let names: Vec<String> = all
            .list(&ListParams::default())
            .await
            .expect("lists")
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        assert_eq!(
            names,
            ["default", "kube-node-lease", "kube-public", "kube-system"]
        );
    }
    let kubernetes = |client: &Client| {
        let api = Api::<Service>::default_namespaced(client.clone());
        async move { api.get("kubernetes").await.expect("is there") }
    };
    assert_eq!(kubernetes(a).await, kubernetes(b).await);
    world.stop().await;
}

#[tokio::test]
async fn no_cluster_ip_and_no_node_port_is_given_twice() {
    let Some(world) = World::start().await else { return };
    let create = |n: usize| {
        let api = Api::<Service>::default_namespaced(world.clients[n % 2].clone());
        let service: Service = object(json!({"metadata": {"name": format!("s{n}")},
            "spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}}}));
        async move { api.create(&PostParams::default(), &service).await }
    };
    // Many of few: 62 addresses, one of which is taken.
    let made: Vec<Service> = futures::stream::iter((0..50).map(create))
        .buffer_unordered(8)
        .try_collect()
        .await
        .expect("all are made");
    let addresses: BTreeSet<String> = made
        .iter()
        .filter_map(|s| s.spec.as_ref()?.cluster_ip.clone())
        .collect();
    let ports: BTreeSet<i32> = made
        .iter()
        .filter_map(|s| s.spec.as_ref()?.ports.as_ref()?.first()?.node_port)
        .collect();
    assert_eq!((addresses.len(), ports.len()), (50, 50));
    world.stop().await;
}

#[tokio::test]
async fn a_definition_made_at_one_is_served_by_the_other() {
    let Some(world) = World::start().await else { return };
    let [a, b] = &world.clients;
    let crds = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    let versions = |least: u8| {
        let size = json!({"type": "integer", "minimum": least, "default": 6});
        let spec = json!({"type": "object", "properties": {"size": size}});
        let schema = json!({"type": "object", "properties": {"spec": spec}});
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}])
    };
    let definition: DynamicObject = object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": versions(1)}}));
    let definitions = Api::<DynamicObject>::all_with(a.clone(), &crds);
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("is made");
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let at = |client: &Client| Api::<DynamicObject>::default_namespaced_with(client.clone(), &kind);
    let widget: DynamicObject = object(json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {}}));
    comes("served by the other", async || {
        at(b).create(&PostParams::default(), &widget).await.is_ok()
    })
    .await;
    let read = async || at(a).get("w").await.is_ok_and(|w| w.data["spec"]["size"] == 6);
    comes("served by its own", read).await;

    let patch = Patch::Merge(json!({"spec": {"versions": versions(5)}}));
    definitions
        .patch("widgets.example.com", &PatchParams::default(), &patch)
        .await
        .expect("is changed");
    let small: DynamicObject = object(json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"generateName": "w"}, "spec": {"size": 4}}));
    comes("the new schema holds", async || {
        at(b).create(&PostParams::default(), &small).await.is_err()
    })
    .await;
    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .expect("is deleted");
    comes("no longer served", async || {
        at(b).list(&ListParams::default()).await.is_err()
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn a_role_bound_at_one_counts_at_the_other() {
    let Some(world) = World::start().await else { return };
    let [a, _] = &world.clients;
    let alice = UserInfo {
        name: "alice".to_owned(),
        ..UserInfo::default()
    };
    let client = Client::new(world.servers[1].service().for_user(alice), "default");
    let maps = Api::<ConfigMap>::default_namespaced(client);
    assert!(maps.list(&ListParams::default()).await.is_err());
    let kind = |kind| ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind));
    let (roles, bindings) = (kind("Role"), kind("RoleBinding"));
    let role: DynamicObject = object(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "r"}, "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]}),
    );
    let binding: DynamicObject = object(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]}),
    );
    let roles = Api::<DynamicObject>::default_namespaced_with(a.clone(), &roles);
    roles
        .create(&PostParams::default(), &role)
        .await
        .expect("is made");
    let bindings = Api::<DynamicObject>::default_namespaced_with(a.clone(), &bindings);
    for _ in 0..3 {
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .expect("is made");
        comes("allowed", async || {
            maps.list(&ListParams::default()).await.is_ok()
        })
        .await;
        bindings
            .delete("b", &DeleteParams::default())
            .await
            .expect("is deleted");
        comes("denied", async || {
            maps.list(&ListParams::default()).await.is_err()
        })
        .await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_watch_at_one_sees_what_the_other_writes_and_stale_writes_conflict() {
    let Some(world) = World::start().await else { return };
    let [a, b] = world
        .clients
        .each_ref()
        .map(|client| Api::<ConfigMap>::default_namespaced(client.clone()));
    let start = b.list(&ListParams::default()).await.expect("lists").metadata;
    let (params, start) = (WatchParams::default(), start.resource_version.expect("a version"));
    let mut watch = b.watch(&params, &start).await.expect("watches").boxed();
    let first = a
        .create(&PostParams::default(), &config_map("a", "0"))
        .await
        .expect("is made");
    for n in 1..20 {
        let api = [&a, &b][n % 2];
        api.replace("a", &PostParams::default(), &{
            let mut next = config_map("a", &n.to_string());
            next.metadata.resource_version = api.get("a").await.expect("is there").resource_version();
            next
        })
        .await
        .expect("nobody else writes");
    }
    let mut stale = config_map("a", "stale");
    stale.metadata.resource_version = first.resource_version();
    for api in [&a, &b] {
        let refused = api.replace("a", &PostParams::default(), &stale).await;
        assert!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
            "{refused:?}"
        );
    }
    b.delete("a", &DeleteParams::default()).await.expect("is deleted");
    let mut seen = Vec::new();
    while seen.len() < 21 {
        let event = timeout(PATIENCE, watch.try_next()).await.expect("an event comes");
        seen.push(match event.expect("no error").expect("goes on") {
            WatchEvent::Added(object) => format!("added {}", object.data.expect("data")["n"]),
            WatchEvent::Modified(object) => format!("modified {}", object.data.expect("data")["n"]),
            WatchEvent::Deleted(object) => format!("deleted {}", object.data.expect("data")["n"]),
            other => panic!("{other:?}"),
        });
    }
    let mut wanted = vec!["added 0".to_owned()];
    wanted.extend((1..20).map(|n| format!("modified {n}")));
    wanted.push("deleted 19".to_owned());
    assert_eq!(seen, wanted);
    world.stop().await;
}

#[tokio::test]
async fn a_counter_that_both_serve_loses_nothing() {
    let Some(world) = World::start().await else { return };
    let api = |n: usize| Api::<ConfigMap>::default_namespaced(world.clients[n % 2].clone());
    api(0)
        .create(&PostParams::default(), &config_map("counter", "0"))
        .await
        .expect("is made");
    let count = |n: usize| {
        let api = api(n);
        async move {
            for _ in 0..10 {
                loop {
                    let mut map = api.get("counter").await.expect("is there");
                    let data = map.data.get_or_insert_default();
                    let now: u32 = data["n"].parse().expect("a number");
                    data.insert("n".to_owned(), (now + 1).to_string());
                    match api.replace("counter", &PostParams::default(), &map).await {
                        Ok(_) => break,
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    };
    futures::future::join_all((0..6).map(count)).await;
    for n in 0..2 {
        let map = api(n).get("counter").await.expect("is there");
        assert_eq!(map.data.expect("data")["n"], "60");
    }
    world.stop().await;
}

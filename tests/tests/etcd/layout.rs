//! Values as kube-apiserver has them: it can decode what we store, and we read what it stored as JSON.
//!
//! Data against a store in memory: etcd itself has no part in this.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::{Value, json};
use trimtab::apiserver::ApiServer;
use trimtab::apiserver::storage::{Config, MemoryStore, Op, RangeRequest, Store, Txn};

struct World {
    store: Arc<MemoryStore>,
    server: ApiServer,
    client: Client,
}

impl World {
    /// A server over a store that holds these keys and values.
    async fn with(values: &[(&str, &str)]) -> Self {
        let store = Arc::new(MemoryStore::new(Config::default()));
        for (key, value) in values {
            put(&store, key, value).await;
        }
        let server = ApiServer::builder(store.clone()).start().await.expect("starts");
        let client = Client::new(server.service(), "default");
        Self {
            store,
            server,
            client,
        }
    }

    async fn stored(&self, key: &str) -> Value {
        let range = self
            .store
            .range(RangeRequest::key(format!("/registry/{key}")))
            .await;
        let kvs = range.expect("reads").kvs;
        let kv = kvs.first().unwrap_or_else(|| panic!("nothing at {key}"));
        serde_json::from_slice(&kv.value).expect("JSON")
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        self.client.request(request).await
    }

    async fn get(&self, path: &str) -> Value {
        let got = self.call("GET", path, &Value::Null).await;
        got.unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

async fn put(store: &MemoryStore, key: &str, value: &str) {
    let put = Op::Put {
        key: format!("/registry/{key}").into(),
        value: value.to_owned().into(),
        ttl: None,
    };
    let txn = Txn {
        success: vec![put],
        ..Txn::default()
    };
    store.txn(txn).await.expect("writes");
}

#[tokio::test]
async fn kube_apiserver_can_decode_what_is_stored() {
    let world = World::with(&[]).await;
    let regarding = json!({"kind": "Pod", "namespace": "default", "name": "a"});
    for (path, object, key, wanted) in [
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
            "configmaps/default/a",
            "v1 ConfigMap",
        ),
        (
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}}),
            "secrets/default/a",
            "v1 Secret",
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
            "services/specs/default/a",
            "v1 Service",
        ),
        (
            "/api/v1/nodes",
            json!({"metadata": {"name": "a"}}),
            "minions/a",
            "v1 Node",
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            "deployments/default/a",
            "apps/v1 Deployment",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "h"}}),
            "leases/default/a",
            "coordination.k8s.io/v1 Lease",
        ),
        (
            "/api/v1/namespaces/default/events",
            json!({"metadata": {"name": "a"}, "involvedObject": regarding, "reason": "R", "type": "Normal"}),
            "events/default/a",
            "v1 Event",
        ),
        (
            // kube-apiserver stores events of both groups as the old one's.
            "/apis/events.k8s.io/v1/namespaces/default/events",
            json!({"metadata": {"name": "b"}, "regarding": regarding, "reason": "R", "type": "Normal", "action": "A",
                "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "x.io/c",
                "reportingInstance": "i"}),
            "events/default/b",
            "v1 Event",
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition(),
            "apiextensions.k8s.io/customresourcedefinitions/widgets.example.com",
            "apiextensions.k8s.io/v1 CustomResourceDefinition",
        ),
    ] {
        let made = world.call("POST", path, &object).await;
        let made = made.unwrap_or_else(|e| panic!("{path}: {e}"));
        let stored = world.stored(key).await;
        let text = |field: &str| stored[field].as_str().unwrap_or_default();
        assert_eq!(
            format!("{} {}", text("apiVersion"), text("kind")),
            wanted,
            "{stored}"
        );
        let (metadata, served) = (&stored["metadata"], &made["metadata"]);
        for field in ["name", "namespace", "uid", "creationTimestamp"] {
            assert_eq!(metadata[field], served[field], "{key}: {field}");
        }
        for field in ["resourceVersion", "selfLink"] {
            assert!(metadata.get(field).is_none(), "{key}: {field} is not stored");
        }
        assert!(
            stored.get("stringData").is_none(),
            "{key}: what is only written is not stored"
        );
    }
    world.server.shutdown().await.expect("stops");
}

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "default": 3}}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

const META: &str = r#""namespace":"default","uid":"3c1e7f9a-6a0f-4f3a-9b3c-0e8d8f3e5a11","creationTimestamp":"2024-01-01T00:00:00Z""#;

/// Values as kube-apiserver writes them as JSON: in the order of its fields, without what is empty, with a newline.
fn theirs() -> Vec<(&'static str, String)> {
    let crd = r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"name":"widgets.example.com","uid":"3c1e7f9a-6a0f-4f3a-9b3c-0e8d8f3e5a12","generation":1,"creationTimestamp":"2024-01-01T00:00:00Z"},"spec":{"group":"example.com","names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"size":{"type":"integer","default":3}}}}}}}],"conversion":{"strategy":"None"}},"status":{"conditions":[{"type":"NamesAccepted","status":"True","lastTransitionTime":"2024-01-01T00:00:00Z","reason":"NoConflicts","message":"no conflicts found"},{"type":"Established","status":"True","lastTransitionTime":"2024-01-01T00:00:00Z","reason":"InitialNamesAccepted","message":"the initial names have been accepted"}],"acceptedNames":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList"},"storedVersions":["v1"]}}"#;
    [
        (
            "configmaps/default/a",
            format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a",{META}}},"data":{{"k":"v"}}}}"#),
        ),
        (
            "services/specs/default/a",
            format!(
                r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"a",{META}}},"spec":{{"ports":[{{"protocol":"TCP","port":80,"targetPort":80,"nodePort":30007}}],"clusterIP":"10.0.0.77","clusterIPs":["10.0.0.77"],"type":"NodePort","sessionAffinity":"None","externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}}"#
            ),
        ),
        (
            "events/default/a",
            format!(
                r#"{{"kind":"Event","apiVersion":"v1","metadata":{{"name":"a",{META}}},"involvedObject":{{"kind":"Pod","namespace":"default","name":"p"}},"reason":"R","source":{{}},"firstTimestamp":null,"lastTimestamp":null,"type":"Normal","eventTime":"2024-01-01T00:00:00.000000Z","action":"A","reportingComponent":"x.io/c","reportingInstance":"i"}}"#
            ),
        ),
        ("apiextensions.k8s.io/customresourcedefinitions/widgets.example.com", crd.to_owned()),
        (
            "example.com/widgets/default/a",
            format!(r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"generation":1,"name":"a",{META}}},"spec":{{}}}}"#),
        ),
    ]
    .map(|(key, value)| (key, value + "\n"))
    .into()
}

#[tokio::test]
async fn what_kube_apiserver_stored_as_json_is_served() {
    let theirs = theirs();
    let values: Vec<(&str, &str)> = theirs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let world = World::with(&values).await;
    for (path, pointer, wanted) in [
        ("/api/v1/namespaces/default/configmaps/a", "/data/k", json!("v")),
        (
            "/api/v1/namespaces/default/services/a",
            "/spec/clusterIP",
            json!("10.0.0.77"),
        ),
        (
            "/api/v1/namespaces/default/events/a",
            "/reportingComponent",
            json!("x.io/c"),
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events/a",
            "/reportingController",
            json!("x.io/c"),
        ),
        (
            "/apis/example.com/v1/namespaces/default/widgets/a",
            "/spec/size",
            json!(3),
        ),
    ] {
        let object = world.get(path).await;
        assert_eq!(object.pointer(pointer), Some(&wanted), "{path}: {object}");
        assert_eq!(
            object["metadata"]["uid"], "3c1e7f9a-6a0f-4f3a-9b3c-0e8d8f3e5a11",
            "{path}"
        );
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        assert!(!version.is_empty(), "{path}");
        let list = world.get(path.trim_end_matches("/a")).await;
        let items = list["items"].as_array().expect("a list");
        let ours = items.iter().filter(|item| item["metadata"]["name"] == "a");
        assert_eq!(ours.count(), 1, "{path}: {list}");
        // What was read can be written back.
        let mut changed = object.clone();
        changed["metadata"]["labels"] = json!({"a": "b"});
        let written = world.call("PUT", path, &changed).await;
        let written = written.unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(written["metadata"]["labels"]["a"], "b", "{path}");
    }
    // What their services hold is not given away.
    let service =
        json!({"metadata": {"name": "b"}, "spec": {"clusterIP": "10.0.0.77", "ports": [{"port": 80}]}});
    let refused = world
        .call("POST", "/api/v1/namespaces/default/services", &service)
        .await;
    let refused = refused.expect_err("is taken").to_string();
    assert!(refused.contains("already allocated"), "{refused}");
    world.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_watch_shows_what_kube_apiserver_writes() {
    let world = World::with(&[]).await;
    let maps = Api::<ConfigMap>::default_namespaced(world.client.clone());
    let start = world.get("/api/v1/namespaces/default/configmaps").await;
    let start = start["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned();
    let params = WatchParams::default();
    let mut watch = maps.watch(&params, &start).await.expect("watches").boxed();
    let (key, value) = theirs().remove(0);
    for _ in 0..2 {
        put(&world.store, key, &value).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(
            match watch.try_next().await.expect("no error").expect("goes on") {
                WatchEvent::Added(map) => ("added", map.data),
                WatchEvent::Modified(map) => ("modified", map.data),
                other => panic!("{other:?}"),
            },
        );
    }
    let data = Some([("k".to_owned(), "v".to_owned())].into());
    assert_eq!(seen, [("added", data.clone()), ("modified", data)]);
    world.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn what_is_no_json_is_named_with_what_to_do() {
    let world = World::with(&[
        ("configmaps/default/a", "k8s\0\n\u{f}\n\u{2}v1\u{12}\tConfigMap"),
        ("secrets/default/a", "k8s:enc:aescbc:v1:key1:xxxx"),
    ])
    .await;
    for (path, key, advice) in [
        (
            "configmaps",
            "/registry/configmaps/default/a",
            "--storage-media-type=application/json",
        ),
        (
            "secrets",
            "/registry/secrets/default/a",
            "--encryption-provider-config",
        ),
    ] {
        let path = format!("/api/v1/namespaces/default/{path}");
        for path in [format!("{path}/a"), path] {
            let refused = world.call("GET", &path, &Value::Null).await;
            let refused = refused.expect_err("cannot be read").to_string();
            assert!(
                refused.contains(key) && refused.contains(advice),
                "{path}: {refused}"
            );
        }
    }
    world.server.shutdown().await.expect("stops");
}

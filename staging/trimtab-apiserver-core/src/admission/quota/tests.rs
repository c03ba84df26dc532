//! Quotas over a registry of the built-in kinds: what is refused, in which words, and what is counted.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apiserver_storage::{Config, MemoryStore};

use super::*;
use crate::api::{ApiRequest, ApiResponse, RequestInfo};
use crate::registry::Registry;

struct Server(Arc<Registry>);

type Answer = Result<Value, ApiError>;

impl Server {
    /// A registry that counts.
    async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new(Config::default()))).await
    }

    async fn on(store: Arc<dyn Store>) -> Self {
        Self::limiting(store, Limited::default()).await
    }

    async fn limiting(store: Arc<dyn Store>, limited: Limited) -> Self {
        let registry = Registry::new(store.clone(), crate::crd::builtin());
        let (quotas, _) = Quotas::load(store, registry.resources().clone())
            .await
            .expect("loads");
        registry.set_accounts(Arc::new(quotas.limiting(limited)));
        Self(Arc::new(registry))
    }

    /// Makes a request; the path is `plural`, `plural/name` or `plural/name/subresource`, in the namespace `ns`.
    async fn ask(&self, verb: &str, path: &str, query: &[(&str, &str)], body: Value) -> Answer {
        let method = match verb {
            "create" => "POST",
            "update" => "PUT",
            _ => "GET",
        };
        let (group, path) = path.split_once(':').unwrap_or(("", path));
        let mut parts = path.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let info = RequestInfo {
            verb: verb.to_owned(),
            method: method.to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            namespace: "ns".to_owned(),
            resource: part(),
            name: part(),
            subresource: part(),
            ..RequestInfo::default()
        };
        let query = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let request = ApiRequest {
            info,
            query,
            body: Bytes::from(body.to_string()),
            ..ApiRequest::own(verb, method, "tests")
        };
        match self.0.handle(request).await.and_then(ApiResponse::decoded)? {
            ApiResponse::Value { value, .. } => Ok(value),
            other => panic!("{verb} {path} answers {other:?}"),
        }
    }

    async fn create(&self, path: &str, body: Value) -> Answer {
        self.ask("create", path, &[], body).await
    }

    /// A quota with the status that its controller would give it.
    async fn quota(&self, name: &str, spec: Value, used: Value) {
        let mut object = self
            .create(
                "resourcequotas",
                json!({"metadata": {"name": name}, "spec": spec}),
            )
            .await
            .expect("made");
        object["status"] = json!({"hard": spec["hard"], "used": used});
        let path = format!("resourcequotas/{name}/status");
        self.ask("update", &path, &[], object).await.expect("updated");
    }

    async fn used(&self, name: &str) -> Value {
        let path = format!("resourcequotas/{name}");
        let quota = self.ask("get", &path, &[], Value::Null).await.expect("is there");
        quota["status"]["used"].clone()
    }
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn pod(name: &str, resources: Value, more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
    trimtab_apimachinery_schema::patch::merge(&mut pod["spec"], &more);
    pod
}

fn service(kind: &str, ports: usize) -> Value {
    let ports: Vec<Value> = (0..ports)
        .map(|port| json!({"name": format!("p{port}"), "port": 80 + port}))
        .collect();
    json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}})
}

fn text(answer: Answer) -> String {
    match answer {
        Ok(_) => String::new(),
        Err(error) => format!("{} {}", error.code, error.message),
    }
}

#[tokio::test]
async fn what_is_too_much_is_refused_in_kube_apiservers_words() {
    let hard = json!({"pods": "3", "requests.cpu": "1", "limits.memory": "1Gi"});
    let used = json!({"pods": "2", "requests.cpu": "500m", "limits.memory": "512Mi"});
    let resources = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}});
    let storage = |gold: &str| json!({"hard": {"requests.storage": "10Gi", "gold.storageclass.storage.k8s.io/requests.storage": gold}});
    let no_storage =
        json!({"requests.storage": "0", "gold.storageclass.storage.k8s.io/requests.storage": "0"});
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "gold", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    let cases = [
        (
            json!({"hard": hard}),
            used.clone(),
            "pods",
            pod("p", resources("500m", "256Mi"), json!({})),
            "",
        ),
        (
            json!({"hard": hard}),
            used.clone(),
            "pods",
            pod("p", resources("600m", "513Mi"), json!({})),
            "403 pods \"p\" is forbidden: exceeded quota: q, requested: limits.memory=513Mi,requests.cpu=600m, used: limits.memory=512Mi,requests.cpu=500m, limited: limits.memory=1Gi,requests.cpu=1",
        ),
        (
            json!({"hard": hard}),
            used.clone(),
            "pods",
            pod("p", json!({"requests": {"cpu": "1m"}}), json!({})),
            "403 pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c",
        ),
        (
            json!({"hard": hard}),
            json!({"pods": "2"}),
            "pods",
            pod("p", resources("1m", "1Mi"), json!({})),
            "403 pods \"p\" is forbidden: status unknown for quota: q, resources: limits.memory,pods,requests.cpu",
        ),
        (
            json!({"hard": {"pods": "2"}}),
            json!({"pods": "2"}),
            "pods",
            pod("p", json!({}), json!({})),
            "403 pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
        ),
        // Scopes.
        (
            json!({"hard": {"pods": "0"}, "scopes": ["Terminating"]}),
            json!({"pods": "0"}),
            "pods",
            pod("p", json!({}), json!({})),
            "",
        ),
        (
            json!({"hard": {"pods": "0"}, "scopes": ["Terminating"]}),
            json!({"pods": "0"}),
            "pods",
            pod("p", json!({}), json!({"activeDeadlineSeconds": 5})),
            "403 pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
        ),
        // Counts, by both names.
        (
            json!({"hard": {"count/configmaps": "1"}}),
            json!({"count/configmaps": "1"}),
            "configmaps",
            map("m"),
            "403 configmaps \"m\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1",
        ),
        (
            json!({"hard": {"configmaps": "1", "secrets": "0"}}),
            json!({"configmaps": "0", "secrets": "0"}),
            "configmaps",
            map("m"),
            "",
        ),
        (
            json!({"hard": {"count/leases.coordination.k8s.io": "0"}}),
            json!({"count/leases.coordination.k8s.io": "0"}),
            "coordination.k8s.io:leases",
            map("l"),
            "403 leases.coordination.k8s.io \"l\" is forbidden: exceeded quota: q, requested: count/leases.coordination.k8s.io=1, used: count/leases.coordination.k8s.io=0, limited: count/leases.coordination.k8s.io=0",
        ),
        (
            json!({"hard": {"services.nodeports": "1"}}),
            json!({"services.nodeports": "0"}),
            "services",
            service("NodePort", 2),
            "403 services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1",
        ),
        (
            json!({"hard": {"services.loadbalancers": "0"}}),
            json!({"services.loadbalancers": "0"}),
            "services",
            service("ClusterIP", 2),
            "",
        ),
        // Storage.
        (
            storage("5Gi"),
            no_storage.clone(),
            "persistentvolumeclaims",
            claim("5Gi"),
            "",
        ),
        (
            storage("5Gi"),
            no_storage.clone(),
            "persistentvolumeclaims",
            claim("6Gi"),
            "403 persistentvolumeclaims \"c\" is forbidden: exceeded quota: q, requested: gold.storageclass.storage.k8s.io/requests.storage=6Gi, used: gold.storageclass.storage.k8s.io/requests.storage=0, limited: gold.storageclass.storage.k8s.io/requests.storage=5Gi",
        ),
    ];
    for (spec, used, path, object, wanted) in cases {
        let server = Server::new().await;
        server.quota("q", spec.clone(), used).await;
        let answer = server.create(path, object.clone()).await;
        assert_eq!(text(answer), wanted, "{spec} {object}");
    }
}

/// Two servers share a store; each has its requests take turns, and they lose to each other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_no_more_get_through_than_may() {
    let server = Arc::new(Server::new().await);
    let other = Arc::new(Server::on(server.0.store().clone()).await);
    let hard = json!({"hard": {"configmaps": "10", "count/configmaps": "12"}});
    server
        .quota("a", hard, json!({"configmaps": "0", "count/configmaps": "0"}))
        .await;
    server
        .quota(
            "b",
            json!({"hard": {"configmaps": "11"}}),
            json!({"configmaps": "1"}),
        )
        .await;
    let all = (0..40).map(|n| {
        let server = if n % 2 == 0 { &server } else { &other }.clone();
        tokio::spawn(async move { server.create("configmaps", map(&format!("m{n}"))).await })
    });
    let answers = futures::future::join_all(all).await;
    let texts: Vec<String> = answers
        .into_iter()
        .map(|answer| text(answer.expect("ends")))
        .collect();
    let through = texts.iter().filter(|text| text.is_empty()).count();
    let lost = texts
        .iter()
        .filter(|text| text.contains("again and again"))
        .count();
    let refused = texts
        .iter()
        .filter(|text| text.contains("exceeded quota: a,"))
        .count();
    assert_eq!(through + lost + refused, 40, "{texts:?}");
    assert!(through <= 10 && through + lost >= 10, "{texts:?}");
    let count = through.to_string();
    assert_eq!(
        server.used("a").await,
        json!({"configmaps": count, "count/configmaps": count})
    );
    assert_eq!(
        server.used("b").await,
        json!({"configmaps": (through + 1).to_string()})
    );
    let list = server
        .ask("list", "configmaps", &[], Value::Null)
        .await
        .expect("lists");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(through));
}

#[tokio::test]
async fn what_is_not_written_is_not_counted() {
    let server = Server::new().await;
    let hard = json!({"hard": {"configmaps": "2"}});
    server.quota("q", hard, json!({"configmaps": "0"})).await;
    server.create("configmaps", map("m")).await.expect("made");
    let again = server.create("configmaps", map("m")).await.expect_err("is there");
    assert!(again.is_already_exists(), "{again}");
    let invalid = server
        .create("configmaps", map("M M"))
        .await
        .expect_err("invalid");
    assert_eq!(invalid.code, 422);
    let dry = &[("dryRun", "All")];
    server
        .ask("create", "configmaps", dry, map("other"))
        .await
        .expect("would be made");
    assert_eq!(server.used("q").await, json!({"configmaps": "1"}));
    server.create("configmaps", map("n")).await.expect("made");
    let dry = server.ask("create", "configmaps", dry, map("other")).await;
    assert_eq!(
        text(dry),
        "403 configmaps \"other\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
    );
    // Updates of what only counts count nothing.
    let change = json!({"metadata": {"name": "n"}, "data": {"a": "b"}});
    server
        .ask("update", "configmaps/n", &[], change)
        .await
        .expect("updated");
    assert_eq!(server.used("q").await, json!({"configmaps": "2"}));
}

#[tokio::test]
async fn updates_count_by_what_is_more() {
    let server = Server::new().await;
    let hard = json!({"hard": {"services": "1", "services.nodeports": "3", "services.loadbalancers": "1"}});
    let none = json!({"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"});
    server.quota("q", hard, none).await;
    let made = server
        .create("services", service("ClusterIP", 2))
        .await
        .expect("made");
    let update = async |kind: &str, ports: usize| {
        let mut object = service(kind, ports);
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            object["spec"][field] = made["spec"][field].clone();
        }
        server.ask("update", "services/s", &[], object).await
    };
    for (kind, ports, wanted, used) in [
        ("NodePort", 2, "", (2, 0)),
        ("LoadBalancer", 3, "", (3, 1)),
        (
            "LoadBalancer",
            5,
            "403 services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=3, limited: services.nodeports=3",
            (3, 1),
        ),
        // What becomes less is for the controller.
        ("ClusterIP", 1, "", (3, 1)),
    ] {
        assert_eq!(text(update(kind, ports).await), wanted, "{kind} {ports}");
        let (ports, balancers) = (used.0.to_string(), used.1.to_string());
        assert_eq!(
            server.used("q").await,
            json!({"services": "1", "services.nodeports": ports, "services.loadbalancers": balancers})
        );
    }
}

#[tokio::test]
async fn claims_that_grow_and_pods_that_come_into_a_scope_count() {
    let server = Server::new().await;
    let hard = json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]});
    server.quota("q", hard, json!({"pods": "0"})).await;
    let made = server
        .create("pods", pod("p", json!({}), json!({})))
        .await
        .expect("made");
    assert_eq!(server.used("q").await, json!({"pods": "0"}));
    let mut ending = made.clone();
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    server
        .ask("update", "pods/p", &[], ending)
        .await
        .expect("updated");
    // It was in the namespace before, and is counted by this quota only now.
    assert_eq!(server.used("q").await, json!({"pods": "1"}));
}

#[tokio::test]
async fn nothing_is_read_where_there_is_no_quota() {
    let server = Server::new().await;
    let hooks = server.0.clone();
    let (quotas, _) = Quotas::load(hooks.store().clone(), hooks.resources().clone())
        .await
        .expect("loads");
    let attributes = |operation, plural: &str, namespace: &str| {
        crate::admission::tests::attributes(operation, plural, namespace, "a")
    };
    let concerns = |operation, plural, namespace| quotas.concerns(&attributes(operation, plural, namespace));
    assert!(!concerns(Operation::Create, "configmaps", "ns"));
    server
        .quota("q", json!({"hard": {"pods": "1"}}), json!({"pods": "0"}))
        .await;
    for (operation, plural, namespace, wanted) in [
        (Operation::Create, "configmaps", "ns", true),
        (Operation::Create, "configmaps", "n", false),
        (Operation::Create, "nodes", "", false),
        (Operation::Create, "namespaces", "ns", false),
        (Operation::Update, "configmaps", "ns", false),
        (Operation::Update, "services", "ns", true),
        (Operation::Delete, "services", "ns", false),
    ] {
        assert_eq!(
            concerns(operation, plural, namespace),
            wanted,
            "{operation:?} {plural} {namespace}"
        );
    }
}

#[tokio::test]
async fn what_is_limited_needs_a_quota_that_covers_it() {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "ResourceQuotaConfiguration",
        "limitedResources": [
            {"resource": "persistentvolumeclaims", "matchContains": [".storageclass.storage.k8s.io/requests.storage"]},
            {"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}]},
        ],
    });
    let limited = || Limited::read(&config).expect("a configuration");
    let server = async || {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
        Server::limiting(store, limited()).await
    };
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "gold", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let high = pod("p", json!({}), json!({"priorityClassName": "high"}));
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let other = json!({"hard": {"pods": "9"}, "scopes": ["NotTerminating"]});
    let matching = json!({"hard": {"pods": "9"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
    let consume =
        format!("403 persistentvolumeclaims \"c\" is forbidden: insufficient quota to consume: {gold}");
    let scopes = "403 pods \"p\" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high higher]}]";
    for (quota, path, object, wanted) in [
        (None, "persistentvolumeclaims", claim.clone(), consume.as_str()),
        (
            Some((json!({"hard": {gold: "2Gi"}}), json!({gold: "0"}))),
            "persistentvolumeclaims",
            claim,
            "",
        ),
        (None, "pods", high.clone(), scopes),
        (Some((other, json!({"pods": "0"}))), "pods", high.clone(), scopes),
        (Some((matching, json!({"pods": "0"}))), "pods", high, ""),
        (None, "pods", pod("p", json!({}), json!({})), ""),
        (None, "configmaps", map("m"), ""),
    ] {
        let server = server().await;
        if let Some((spec, used)) = quota {
            server.quota("q", spec, used).await;
        }
        assert_eq!(
            text(server.create(path, object.clone()).await),
            wanted,
            "{object}"
        );
    }
    for (field, value) in [
        ("kind", json!("Other")),
        ("apiVersion", json!("v1")),
        ("limitedResources", json!([{"matchContains": ["a"]}])),
    ] {
        let mut config = config.clone();
        config[field] = value;
        assert!(Limited::read(&config).is_err(), "{config}");
    }
}

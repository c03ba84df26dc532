//! Services through the allocators, written into a store as the registry writes them.

use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_kinds::resource::Scope;
use trimtab_apiserver_kinds::strategy::Strategy;
use trimtab_apiserver_storage::{MemoryStore, Txn};

use super::*;
use crate::registry::hooks::Operation;

#[derive(Debug)]
struct Plain;

impl Strategy for Plain {
    fn validate_name(&self, _: &str, _: bool) -> Vec<String> {
        Vec::new()
    }
}

struct Cluster {
    store: Arc<dyn Store>,
    allocators: ServiceAllocators,
    attributes: Attributes,
}

impl Cluster {
    async fn new(ranges: &[&str], ports: &str) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Default::default()));
        let ranges = ranges.iter().map(|r| r.parse().expect("a range")).collect();
        let allocators = ServiceAllocators::new(store.clone(), ranges, ports.parse().expect("ports"));
        let resource = Resource {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Service".to_owned(),
            list_kind: String::new(),
            plural: "services".to_owned(),
            singular: String::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: Scope::Namespaced,
            verbs: Vec::new(),
            subresources: Vec::new(),
            storage: trimtab_apimachinery_meta::GroupResource::new("", "services"),
            columns: Vec::new(),
            schema: trimtab_apimachinery_schema::Schema::default().into(),
            strategy: Arc::new(Plain),
            custom: false,
            deprecation_warning: None,
            conversion: None,
        };
        let attributes = Attributes {
            operation: Operation::Create,
            resource: Arc::new(resource),
            subresource: String::new(),
            namespace: "ns".to_owned(),
            name: String::new(),
            user: UserInfo::default(),
            dry_run: false,
            options: Value::Null,
            deadline: None,
        };
        Self {
            store,
            allocators,
            attributes,
        }
    }

    async fn standard() -> Self {
        Self::new(&["10.0.0.0/16"], "30000-32767").await
    }

    /// Fills in a service and, unless it is a dry run, writes down what it holds.
    async fn write(&self, spec: Value, old: Option<&Value>) -> Result<Value, ApiError> {
        let mut service = json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec});
        let allocation = self
            .allocators
            .allocate(&self.attributes, &mut service, old)
            .await?;
        if let Some(allocation) = allocation.filter(|_| !self.attributes.dry_run) {
            let txn = Txn {
                compare: allocation.conditions(),
                success: allocation.changes(),
                failure: Vec::new(),
            };
            let done = self.store.txn(txn).await.expect("the store works");
            assert!(done.succeeded, "what was picked was free");
            allocation.committed();
        }
        Ok(service)
    }

    async fn delete(&self, service: &Value) {
        let success = self.allocators.release(&self.attributes.resource, service);
        let txn = Txn {
            success,
            ..Txn::default()
        };
        self.store.txn(txn).await.expect("the store works");
    }

    async fn held(&self) -> usize {
        let all = RangeRequest::prefix(format!("{}ranges/", keys::ROOT));
        self.store.range(all).await.expect("the store works").kvs.len()
    }
}

fn message(result: Result<Value, ApiError>) -> String {
    result.expect_err("must be refused").message
}

#[tokio::test]
async fn a_service_gets_an_address_and_gives_it_back() {
    let cluster = Cluster::standard().await;
    let service = cluster
        .write(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}), None)
        .await
        .expect("fits");
    let spec = &service["spec"];
    let ip = spec["clusterIP"].as_str().expect("an address").to_owned();
    assert!(
        ip.starts_with("10.0.") && spec["clusterIPs"] == json!([ip]),
        "{spec}"
    );
    assert_eq!(
        (&spec["ipFamilies"], &spec["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    assert_eq!(cluster.held().await, 1);
    let again = message(cluster.write(json!({"clusterIP": ip}), None).await);
    assert_eq!(
        again,
        format!(
            "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated"
        )
    );
    cluster.delete(&service).await;
    assert_eq!(cluster.held().await, 0);
    cluster
        .write(json!({"clusterIP": ip}), None)
        .await
        .expect("free again");
}

#[tokio::test]
async fn wrong_addresses_and_ports_are_refused() {
    let cluster = Cluster::standard().await;
    let cases = [
        (
            json!({"clusterIP": "300.1.1.1"}),
            "spec.clusterIPs[0]: Invalid value: \"300.1.1.1\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"clusterIP": "10.255.0.1"}),
            "spec.clusterIPs: Invalid value: [\"10.255.0.1\"]: failed to allocate IP 10.255.0.1: the provided network does not match the current range",
        ),
        (
            json!({"clusterIPs": ["10.0.0.1"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]}),
            "spec.ports[0].nodePort: Invalid value: 1: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ];
    for (spec, text) in cases {
        assert_eq!(
            message(cluster.write(spec, None).await),
            format!("Service \"s\" is invalid: {text}")
        );
    }
    assert_eq!(cluster.held().await, 0);
}

#[tokio::test]
async fn a_type_change_keeps_the_address_and_moves_the_ports() {
    let cluster = Cluster::standard().await;
    let ports = || json!([{"port": 80, "name": "a"}]);
    let plain = cluster
        .write(json!({"ports": ports()}), None)
        .await
        .expect("fits");
    let node = cluster
        .write(json!({"type": "NodePort", "ports": ports()}), Some(&plain))
        .await
        .expect("fits");
    assert_eq!(node["spec"]["clusterIP"], plain["spec"]["clusterIP"]);
    let port = node["spec"]["ports"][0]["nodePort"].clone();
    assert!(
        port.as_u64().is_some_and(|p| (30_000..=32_767).contains(&p)),
        "{port}"
    );
    assert_eq!(cluster.held().await, 2);

    let same = cluster
        .write(json!({"type": "NodePort", "ports": ports()}), Some(&node))
        .await
        .expect("fits");
    assert_eq!(
        same["spec"]["ports"][0]["nodePort"], port,
        "an update without ports keeps them"
    );
    let taken = message(
        cluster
            .write(
                json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}),
                None,
            )
            .await,
    );
    assert!(taken.ends_with("provided port is already allocated"), "{taken}");

    let external = json!({"type": "ExternalName", "externalName": "a.b", "ports": ports()});
    cluster.write(external, Some(&same)).await.expect("fits");
    assert_eq!(cluster.held().await, 0);
}

#[tokio::test]
async fn protocols_of_a_port_share_its_node_port() {
    let cluster = Cluster::standard().await;
    let ports =
        json!([{"port": 53, "protocol": "UDP", "name": "u"}, {"port": 53, "protocol": "TCP", "name": "t"}]);
    let service = cluster
        .write(json!({"type": "NodePort", "ports": ports}), None)
        .await
        .expect("fits");
    let ports = &service["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    assert!(ports[0]["nodePort"].is_u64());
    assert_eq!(cluster.held().await, 2);
}

#[tokio::test]
async fn load_balancers_may_need_a_port_for_health_checks() {
    let cluster = Cluster::standard().await;
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let service = cluster.write(spec, None).await.expect("fits");
    assert!(service["spec"]["healthCheckNodePort"].is_u64());
    assert_eq!(cluster.held().await, 3);
    let spec =
        json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
    let service = cluster.write(spec, None).await.expect("fits");
    assert_eq!(service["spec"]["ports"][0].get("nodePort"), None);
}

#[tokio::test]
async fn headless_services_hold_nothing() {
    let cluster = Cluster::standard().await;
    let headless = cluster
        .write(json!({"clusterIP": "None"}), None)
        .await
        .expect("fits");
    let spec = &headless["spec"];
    assert_eq!(
        (&spec["clusterIPs"], &spec["ipFamilies"]),
        (&json!(["None"]), &json!(["IPv4", "IPv6"]))
    );
    assert_eq!(spec["ipFamilyPolicy"], "RequireDualStack");
    let selecting = cluster
        .write(json!({"clusterIP": "None", "selector": {"a": "b"}}), None)
        .await
        .expect("fits");
    assert_eq!(selecting["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(cluster.held().await, 0);
}

#[tokio::test]
async fn dry_runs_hold_nothing() {
    let mut cluster = Cluster::standard().await;
    cluster.attributes.dry_run = true;
    let service = cluster.write(json!({}), None).await.expect("fits");
    assert!(service["spec"]["clusterIP"].is_string());
    assert_eq!(cluster.held().await, 0);
}

#[tokio::test]
async fn a_range_can_be_used_up_and_no_further() {
    let cluster = Cluster::new(&["10.1.0.0/29"], "30000-30001").await;
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let service = cluster.write(json!({}), None).await.expect("there are six");
        seen.insert(service["spec"]["clusterIP"].to_string());
    }
    assert_eq!(seen.len(), 6);
    let full = message(cluster.write(json!({}), None).await);
    assert_eq!(
        full,
        "Internal error occurred: failed to allocate a serviceIP: range is full"
    );
}

#[tokio::test]
async fn dual_stack_services_have_two_addresses() {
    let cluster = Cluster::new(&["10.0.0.0/24", "fd00::/112"], "30000-30001").await;
    let service = cluster
        .write(json!({"ipFamilyPolicy": "PreferDualStack"}), None)
        .await
        .expect("fits");
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(service["spec"]["clusterIPs"].as_array().map(Vec::len), Some(2));
    assert_eq!(cluster.held().await, 2);
}

#[test]
fn ranges_are_read() {
    let range: IpRange = "10.0.3.4/16".parse().expect("a range");
    assert_eq!(range.api_server().to_string(), "10.0.0.1");
    let inside = |ip: &str| range.contains(ip.parse().expect("an address"));
    assert!(inside("10.0.255.254") && !inside("10.0.0.0") && !inside("10.0.255.255") && !inside("10.1.0.1"));
    for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/31"] {
        assert!(wrong.parse::<IpRange>().is_err(), "{wrong}");
    }
    for wrong in ["1", "2-1", "0-3", "a-b"] {
        assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn what_others_did_to_services_is_written_down_at_the_start() {
    let cluster = Cluster::standard().await;
    let put = |key: &str, value: String| Op::Put {
        key: format!("{}{key}", keys::ROOT).into(),
        value: value.into(),
        ttl: None,
    };
    let theirs = json!({"metadata": {"name": "theirs", "namespace": "ns"}, "spec": {"type": "NodePort",
        "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"port": 80, "nodePort": 30007}]}});
    let success = vec![
        put("services/specs/ns/theirs", theirs.to_string()),
        // What a service held that others have deleted, and their own books.
        put("ranges/serviceips/10.0.0.8", "ns/gone".to_owned()),
        put("ranges/servicenodeports", "{}".to_owned()),
    ];
    let run = async |success| {
        let txn = Txn {
            success,
            ..Txn::default()
        };
        cluster.store.txn(txn).await.expect("the store works");
    };
    run(success).await;
    let held = async || {
        cluster.allocators.repair().await.expect("the store works");
        let all = RangeRequest::prefix(format!("{}ranges/", keys::ROOT));
        let all = cluster.store.range(all).await.expect("the store works").kvs;
        let key = |kv: &trimtab_apiserver_storage::KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
        all.iter()
            .map(key)
            .collect::<Vec<_>>()
            .join(" ")
            .replace("/registry/ranges/", "")
    };
    let wanted = "servicenodeports serviceips/10.0.0.7 servicenodeports/30007";
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(&held().await), sorted(wanted));
    let revision = cluster.store.revision().await.expect("the store works");
    held().await;
    assert_eq!(cluster.store.revision().await.expect("the store works"), revision);

    // Of a service that cannot be read, nobody knows what it holds.
    run(vec![
        put("services/specs/ns/other", "k8s\0".to_owned()),
        put("ranges/serviceips/10.0.0.9", "ns/other".to_owned()),
    ])
    .await;
    assert!(held().await.contains("10.0.0.9"));
}

//! The endpoints of Services: what they say of pods, as these come, change and go.

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::kit::{Cluster, image_pod};

async fn node(cluster: &Cluster, name: &str, zone: &str) {
    let node: Node = serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}}),
    )
    .expect("a node");
    let created = Api::all(cluster.client())
        .create(&PostParams::default(), &node)
        .await;
    created.expect("it is created");
}

fn pod(name: &str, node: &str) -> Value {
    let mut pod = image_pod(name, "web", "1");
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    pod
}

fn ready(slices: &[EndpointSlice]) -> Vec<bool> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints
        .map(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                == Some(true)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_pods() {
    let Some(cluster) = Cluster::alone(&["endpointslice", "endpoint"]).await else {
        return;
    };
    node(&cluster, "n", "z").await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(service).await;
    let slices = cluster
        .until_all::<EndpointSlice>(|slices| {
            slices.iter().any(|slice| {
                slice
                    .metadata
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("web-"))
            })
        })
        .await;
    assert!(
        ready(&slices).is_empty(),
        "an empty slice says that there is nothing"
    );
    let own = |slices: &[EndpointSlice]| -> Vec<EndpointSlice> {
        let label = |slice: &EndpointSlice| {
            slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get("kubernetes.io/service-name").cloned())
        };
        slices
            .iter()
            .filter(|slice| label(slice).as_deref() == Some("web"))
            .cloned()
            .collect()
    };
    cluster.create::<Pod>(pod("a", "n")).await;
    let slices = cluster
        .until_all::<EndpointSlice>(|slices| ready(&own(slices)) == [true])
        .await;
    let endpoint = own(&slices)[0].endpoints.as_ref().expect("endpoints")[0].clone();
    assert_eq!(
        (endpoint.addresses, endpoint.node_name, endpoint.zone),
        (
            vec!["10.0.0.1".to_owned()],
            Some("n".to_owned()),
            Some("z".to_owned())
        )
    );
    assert_eq!(
        own(&slices)[0].ports.as_ref().and_then(|ports| ports[0].port),
        Some(8080)
    );
    let classic = cluster
        .until::<Endpoints>("web", |endpoints| endpoints.subsets.is_some())
        .await;
    let subset = classic.subsets.expect("subsets").remove(0);
    assert_eq!(
        subset
            .addresses
            .map(|addresses| addresses[0].ip.clone())
            .as_deref(),
        Some("10.0.0.1")
    );

    // One that is not ready any more is told of as such; one of an unknown node is not, until that is there.
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster.merge_status::<Pod>("a", unready).await;
    cluster
        .until_all::<EndpointSlice>(|slices| ready(&own(slices)) == [false])
        .await;
    cluster
        .until::<Endpoints>("web", |endpoints| {
            endpoints
                .subsets
                .as_ref()
                .is_some_and(|subsets| subsets[0].not_ready_addresses.is_some())
        })
        .await;
    cluster.create::<Pod>(pod("b", "later")).await;
    cluster
        .until::<Pod>("b", |pod| {
            pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(ready(&own(&cluster.list::<EndpointSlice>().await)), [false]);
    node(&cluster, "later", "y").await;
    cluster
        .until_all::<EndpointSlice>(|slices| {
            let mut ready = ready(&own(slices));
            ready.sort_unstable();
            ready == [false, true]
        })
        .await;

    cluster.delete::<Service>("web").await;
    cluster
        .until_all::<EndpointSlice>(|slices| own(slices).is_empty())
        .await;
    cluster
        .until_all::<Endpoints>(|endpoints| {
            endpoints
                .iter()
                .all(|endpoints| endpoints.metadata.name.as_deref() != Some("web"))
        })
        .await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_by_hand_are_mirrored() {
    let cluster = Cluster::start(&["endpointslicemirroring"]).await;
    cluster
        .create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}}))
        .await;
    let written = json!({"metadata": {"name": "db"}, "subsets": [{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 80}]}]});
    cluster.create::<Endpoints>(written).await;
    let addresses = |slice: &EndpointSlice| -> Vec<String> {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.flat_map(|one| one.addresses.clone()).collect()
    };
    let slices = cluster
        .until_all::<EndpointSlice>(|slices| !slices.is_empty())
        .await;
    assert_eq!(addresses(&slices[0]), ["1.2.3.4"]);
    assert_eq!(slices[0].labels()["kubernetes.io/service-name"], "db");
    let moved = json!({"subsets": [{"addresses": [{"ip": "1.2.3.5"}], "ports": [{"port": 80}]}]});
    cluster.merge::<Endpoints>("db", moved).await;
    cluster
        .until_all::<EndpointSlice>(|slices| slices.len() == 1 && addresses(&slices[0]) == ["1.2.3.5"])
        .await;
    cluster
        .merge::<Endpoints>(
            "db",
            json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
        )
        .await;
    cluster
        .until_all::<EndpointSlice>(|slices| slices.is_empty())
        .await;
    cluster.end().await;
}

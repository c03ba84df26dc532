//! The endpoints of Services: what they say of pods, as these come, change and go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
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

/// Has a node be ready or not, with so many CPUs.
async fn set_node(cluster: &Cluster, name: &str, ready: &str, cpus: &str) {
    let status =
        json!({"status": {"allocatable": {"cpu": cpus}, "conditions": [{"type": "Ready", "status": ready}]}});
    let patched = Api::<Node>::all(cluster.client())
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    patched.expect("its status is patched");
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

/// How many endpoints of the Service "web" are for each zone.
fn hinted(slices: &[EndpointSlice]) -> BTreeMap<String, usize> {
    let of_web = |slice: &&EndpointSlice| {
        slice
            .labels()
            .get("kubernetes.io/service-name")
            .is_some_and(|name| name == "web")
    };
    let mut hinted = BTreeMap::new();
    for endpoint in slices
        .iter()
        .filter(of_web)
        .flat_map(|slice| slice.endpoints.iter().flatten())
    {
        let zones = endpoint
            .hints
            .iter()
            .flat_map(|hints| hints.for_zones.iter().flatten());
        zones.for_each(|zone| *hinted.entry(zone.name.clone()).or_default() += 1);
    }
    hinted
}

#[tokio::test(start_paused = true)]
async fn zones_have_endpoints_by_what_their_nodes_can_do() {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let Some(cluster) = Cluster::alone(&["endpointslice"]).await else {
        return;
    };
    let until = async |zones: &[(&str, usize)]| {
        let zones: BTreeMap<_, _> = zones
            .iter()
            .map(|(zone, count)| ((*zone).to_owned(), *count))
            .collect();
        cluster
            .until_all::<EndpointSlice>(|slices| hinted(slices) == zones)
            .await
    };
    for (name, zone) in [("a-1", "a"), ("b-1", "b")] {
        node(&cluster, name, zone).await;
        set_node(&cluster, name, "True", "4").await;
    }
    for (name, node) in [("p", "a-1"), ("q", "a-1"), ("r", "a-1"), ("s", "b-1")] {
        cluster.create::<Pod>(pod(name, node)).await;
        cluster
            .until::<Pod>(name, |pod| {
                pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())
            })
            .await;
    }
    let service = json!({"metadata": {"name": "web", "annotations": {MODE: "Auto"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(service).await;
    until(&[("a", 2), ("b", 2)]).await;

    // A node that is as large as both moves endpoints, once it is ready.
    node(&cluster, "b-2", "b").await;
    set_node(&cluster, "b-2", "True", "8").await;
    until(&[("a", 1), ("b", 3)]).await;
    // Five cannot be divided by one to three.
    cluster.create::<Pod>(pod("t", "a-1")).await;
    until(&[]).await;
    cluster.delete::<Pod>("t").await;
    until(&[("a", 1), ("b", 3)]).await;
    // With one zone left there is nothing to choose from, and with two again there is.
    set_node(&cluster, "a-1", "False", "4").await;
    until(&[]).await;
    set_node(&cluster, "a-1", "True", "4").await;
    until(&[("a", 1), ("b", 3)]).await;
    cluster
        .merge::<Service>("web", json!({"metadata": {"annotations": {MODE: null}}}))
        .await;
    let slices = until(&[]).await;
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    assert!(endpoints.clone().all(|endpoint| endpoint.hints.is_none()));

    let unknown = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    let unjust = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (5 endpoints, 2 zones)";
    let told = [
        "TopologyAwareHintsEnabled Topology Aware Hints has been enabled",
        &format!("TopologyAwareHintsDisabled {unjust}"),
        &format!("TopologyAwareHintsDisabled {unknown}"),
        "TopologyAwareHintsDisabled Topology Aware Hints has been disabled",
    ];
    let told = told.map(|text| format!("endpoint-slice-controller: {text}, addressType: IPv4"));
    assert_eq!(cluster.events("web").await, told);
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

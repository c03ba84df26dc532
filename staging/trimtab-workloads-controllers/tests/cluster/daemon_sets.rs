//! DaemonSets: a pod on each node, and its replacement.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::kit::{Cluster, images, template};

async fn node(cluster: &Cluster, name: &str, taints: Value) {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}}))
        .expect("a node");
    let nodes: Api<Node> = Api::all(cluster.client());
    let created = nodes.create(&PostParams::default(), &node).await;
    created.expect("it is created");
    // The server taints what has not said yet that it is ready.
    let ready = Patch::Merge(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    let patched = nodes.patch_status(name, &PatchParams::default(), &ready).await;
    patched.expect("its status is patched");
}

fn is_done(set: &DaemonSet, nodes: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && [status.desired_number_scheduled, status.number_ready] == [nodes; 2]
        && status.updated_number_scheduled == Some(nodes)
        && status.number_available == Some(nodes)
}

#[tokio::test(start_paused = true)]
async fn every_node_that_fits_has_its_pod() {
    let Some(cluster) = Cluster::alone(&["daemonset", "nodelifecycle"]).await else {
        return;
    };
    for name in ["a", "b"] {
        node(&cluster, name, json!([])).await;
    }
    node(&cluster, "closed", json!([{"key": "k", "effect": "NoSchedule"}])).await;
    let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "1")}});
    cluster.create::<DaemonSet>(set).await;
    cluster.until::<DaemonSet>("agent", |set| is_done(set, 2)).await;
    node(&cluster, "c", json!([])).await;
    cluster.until::<DaemonSet>("agent", |set| is_done(set, 3)).await;
    let pods = cluster.list::<Pod>().await;
    let target = |pod: &Pod| {
        serde_json::to_value(&pod.spec).expect("a spec")["affinity"]["nodeAffinity"]
        ["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].clone()
    };
    let mut targets: Vec<_> = pods.iter().map(|pod| target(pod).to_string()).collect();
    targets.sort();
    assert_eq!(targets, ["\"a\"", "\"b\"", "\"c\""]);

    cluster
        .merge::<DaemonSet>("agent", json!({"spec": {"template": template("agent", "2")}}))
        .await;
    cluster.until::<DaemonSet>("agent", |set| is_done(set, 3)).await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("2".to_owned(), 3)].into());
    let nodes: Api<Node> = Api::all(cluster.client());
    nodes
        .delete("c", &DeleteParams::default())
        .await
        .expect("it is deleted");
    cluster.until_all::<Pod>(|pods| pods.len() == 2).await;
    cluster.end().await;
}

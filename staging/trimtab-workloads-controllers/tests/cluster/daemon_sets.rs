//! DaemonSets: a pod on each node, and its replacement; and pods that have to leave nodes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::kit::{Cluster, image_pod, images, template};

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
    let events = cluster.events("c").await;
    let expected = [
        "node-controller: RegisteredNode Node c event: Registered Node c in Controller",
        "node-controller: RemovingNode Node c event: Removing Node c from Controller",
    ];
    assert_eq!(events, expected);
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_leave_a_tainted_node_when_their_time_is_over() {
    let Some(cluster) = Cluster::alone(&["taint-eviction"]).await else {
        return;
    };
    node(&cluster, "n", json!([])).await;
    let toleration = json!({"key": "k", "operator": "Exists", "effect": "NoExecute"});
    for (name, seconds) in [("stays", None), ("brief", Some(60)), ("goes", Some(0))] {
        let mut pod = image_pod(name, "web", "1");
        pod["spec"]["nodeName"] = json!("n");
        pod["spec"]["tolerations"] = json!([toleration]);
        pod["spec"]["tolerations"][0]["tolerationSeconds"] = json!(seconds);
        cluster.create::<Pod>(pod).await;
    }
    let nodes: Api<Node> = Api::all(cluster.client());
    let taint = async |taints: Value| {
        let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
        let patched = nodes.patch("n", &PatchParams::default(), &patch).await;
        patched.expect("it is tainted");
    };
    // People give no times with their taints.
    let tainted = json!([{"key": "k", "effect": "NoExecute"}]);
    taint(tainted.clone()).await;
    let left = |pods: &[Pod]| {
        let staying = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying.map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    cluster
        .until_all::<Pod>(|pods| left(pods) == ["brief", "stays"])
        .await;
    sleep(Duration::from_secs(40)).await;
    taint(json!(null)).await;
    let events = cluster.events("brief").await;
    assert_eq!(
        events,
        ["taint-eviction-controller: TaintManagerEviction Cancelling deletion of Pod default/brief"]
    );
    taint(tainted).await;
    sleep(Duration::from_secs(40)).await;
    assert_eq!(
        left(&cluster.list::<Pod>().await),
        ["brief", "stays"],
        "its time began anew"
    );
    cluster.until_all::<Pod>(|pods| left(pods) == ["stays"]).await;
    cluster.end().await;
}

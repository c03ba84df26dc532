//! Nodes and pods that live and die.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::kit::{World, address, is_ready, of, pod, until, until_gone};
use crate::{Options, SimulatedNodes, Stages};

fn no_scheduler(nodes: usize) -> Options {
    Options {
        nodes,
        scheduler_names: Vec::new(),
        ..Options::default()
    }
}

async fn annotate(api: &Api<Node>, name: &str, key: &str, value: Option<&str>) {
    let change = json!({"metadata": {"annotations": {key: value}}});
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await;
    patched.expect("the node is annotated");
}

fn readiness(node: &Node) -> String {
    let status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready");
    ready.map_or_else(String::new, |ready| ready.status)
}

#[tokio::test(start_paused = true)]
async fn nodes_are_registered_and_kept_alive() {
    let world = World::with(no_scheduler(30)).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let listed = nodes.list(&ListParams::default()).await.expect("nodes").items;
    assert_eq!(listed.len(), 30);
    for node in &listed {
        let taints = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
        assert!(taints.is_empty(), "{taints:?}");
        assert_eq!(readiness(node), "True");
        assert_eq!(node.labels()["kubernetes.io/hostname"], node.name_any());
    }
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    let renewed = async |name: &str| {
        let lease = leases.get(name).await.expect("a lease");
        assert_eq!(lease.owner_references()[0].name, name);
        lease.spec.and_then(|spec| spec.renew_time).expect("a time").0
    };
    annotate(&nodes, "node-1", "trimtab.dev/silent", Some("")).await;
    annotate(&nodes, "node-2", "trimtab.dev/unready", Some("out of order")).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = (renewed("node-0").await, renewed("node-1").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = (renewed("node-0").await, renewed("node-1").await);
    assert!(
        after.0.duration_since(before.0).as_secs() >= 50,
        "{before:?} {after:?}"
    );
    assert_eq!(after.1, before.1, "a silent node is not heard of");
    let unready = nodes.get("node-2").await.expect("a node");
    assert_eq!(readiness(&unready), "False");
    annotate(&nodes, "node-2", "trimtab.dev/unready", None).await;
    until(&nodes, "node-2", |node| readiness(node) == "True").await;
    annotate(&nodes, "node-1", "trimtab.dev/silent", None).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(renewed("node-1").await > before.1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_peoples_nodes_are_left_alone() {
    let world = World::with(no_scheduler(0)).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let theirs = of(json!({"metadata": {"name": "node-0"}}));
    nodes
        .create(&PostParams::default(), &theirs)
        .await
        .expect("a node");
    let mut simulated = SimulatedNodes::start(world.client.clone(), no_scheduler(2)).expect("nodes");
    simulated.ready().await;
    world.create(&pod("theirs", json!({"nodeName": "node-0"}))).await;
    world.create(&pod("ours", json!({"nodeName": "node-1"}))).await;
    until(&world.pods(), "ours", is_ready).await;
    assert!(!is_ready(&world.pods().get("theirs").await.expect("a pod")));
    let untouched = nodes.get("node-0").await.expect("a node");
    assert_eq!(readiness(&untouched), "");
    simulated.shut_down().await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_live_and_die_on_their_nodes() {
    let world = World::with(no_scheduler(2)).await;
    let pods = world.pods();
    let on = |node: &str| json!({"nodeName": node});
    world.create(&pod("one", on("node-0"))).await;
    world.create(&pod("two", on("node-1"))).await;
    world.create(&pod("elsewhere", on("somebody-elses"))).await;
    let one = until(&pods, "one", is_ready).await;
    let two = until(&pods, "two", is_ready).await;
    assert!(address(&one).starts_with("10.128.0."), "{}", address(&one));
    assert!(address(&two).starts_with("10.128.1."), "{}", address(&two));
    let untouched = pods
        .get("elsewhere")
        .await
        .expect("a pod")
        .status
        .unwrap_or_default();
    assert_eq!(untouched.start_time, None);

    // Its successor has the name and not the address.
    pods.delete("one", &DeleteParams::default())
        .await
        .expect("deleted");
    until_gone(&pods, "one").await;
    world.create(&pod("one", on("node-0"))).await;
    let next = until(&pods, "one", is_ready).await;
    assert_ne!(address(&next), address(&one), "*Unique*");

    // What has a finalizer is seen to have ended.
    let mut held = pod("held", on("node-0"));
    held.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    world.create(&held).await;
    until(&pods, "held", is_ready).await;
    pods.delete("held", &DeleteParams::default())
        .await
        .expect("deleted");
    let ended = until(&pods, "held", |pod: &Pod| {
        pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
    });
    ended.await;

    let events: Api<Event> = Api::default_namespaced(world.client.clone());
    let all = events.list(&ListParams::default()).await.expect("events").items;
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        let of_one = |event: &&Event| event.involved_object.name.as_deref() == Some("one");
        let mut reasons = all
            .iter()
            .filter(of_one)
            .filter_map(|event| event.reason.as_deref());
        assert!(reasons.any(|other| other == reason), "{reason}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_simulation_takes_everything_up() {
    let world = World::with(no_scheduler(1)).await;
    let pods = world.pods();
    world.create(&pod("before", json!({"nodeName": "node-0"}))).await;
    until(&pods, "before", is_ready).await;
    world.nodes.shut_down().await;
    let client = Client::new(world.server.service(), "default");
    pods.delete("before", &DeleteParams::default())
        .await
        .expect("its deletion begins");
    let meanwhile = pod("meanwhile", json!({"nodeName": "node-0"}));
    pods.create(&PostParams::default(), &meanwhile)
        .await
        .expect("a pod");
    let mut nodes = SimulatedNodes::start(client, no_scheduler(1)).expect("nodes");
    nodes.ready().await;
    until_gone(&pods, "before").await;
    let meanwhile = until(&pods, "meanwhile", is_ready).await;
    assert_ne!(address(&meanwhile), "");
    nodes.shut_down().await;
    world.server.shutdown().await.expect("the server stops");
}

const STAGES: &str = r#"
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: DoesNotExist}
    - {key: '.status.podIP', operator: DoesNotExist}
  delay: {durationMilliseconds: 3000}
  next:
    statusTemplate: |
      phase: Running
      podIP: {{ PodIPWith .spec.nodeName | Quote }}
      reason: Staged
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-delete}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: Exists}
  next: {delete: true}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-ill}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchAnnotations: {example.com/ill: "yes"}
    matchExpressions:
    - {key: '.status.conditions[] | select(.type == "Ready") | .status', operator: In, values: ["True"]}
  next:
    patches:
    - root: status
      subresource: status
      type: strategic
      template: |
        conditions:
        - {type: Ready, status: "False", reason: Ill, message: {{ NodeName | Quote }}}
"#;

#[tokio::test(start_paused = true)]
async fn stages_take_the_place_of_what_pods_and_nodes_do() {
    let mut options = no_scheduler(1);
    options.stages = Stages::parse(STAGES).expect("stages");
    let world = World::with(options).await;
    let pods = world.pods();
    world.create(&pod("staged", json!({"nodeName": "node-0"}))).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        address(&pods.get("staged").await.expect("a pod")),
        "",
        "its time has not come"
    );
    let staged = until(&pods, "staged", |pod| !address(pod).is_empty()).await;
    let status = staged.status.unwrap_or_default();
    assert_eq!(status.reason.as_deref(), Some("Staged"));
    assert!(status.container_statuses.is_none(), "nothing else is done to it");
    pods.delete("staged", &DeleteParams::default())
        .await
        .expect("deleted");
    until_gone(&pods, "staged").await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    annotate(&nodes, "node-0", "example.com/ill", Some("yes")).await;
    let ill = until(&nodes, "node-0", |node| readiness(node) == "False").await;
    let conditions = ill.status.unwrap_or_default().conditions.unwrap_or_default();
    assert_eq!(conditions.len(), 4);
    world.stop().await;
}

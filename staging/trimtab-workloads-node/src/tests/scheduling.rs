//! Pods that are given to nodes, wait for them, and make room for each other.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::kit::{World, is_ready, of, pod, until, until_gone};
use crate::{Capacity, Options};

fn nodes(count: usize) -> Options {
    Options {
        nodes: count,
        capacity: Capacity {
            cpu: "4".to_owned(),
            ..Capacity::default()
        },
        ..Options::default()
    }
}

fn node_of(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

fn waits(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| {
        assert_eq!(scheduled.reason.as_deref(), Some("Unschedulable"));
        scheduled.message.clone().unwrap_or_default()
    })
}

fn cpu(amount: &str) -> serde_json::Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": amount}}}]})
}

#[tokio::test(start_paused = true)]
async fn pods_are_spread_over_nodes_and_run_there() {
    let world = World::with(nodes(3)).await;
    let pods = world.pods();
    for number in 0..9 {
        world.create(&pod(&format!("p{number}"), cpu("1"))).await;
    }
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..9 {
        let ready = until(&pods, &format!("p{number}"), is_ready).await;
        *places.entry(node_of(&ready)).or_default() += 1;
    }
    assert_eq!(places.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    let events: Api<Event> = Api::default_namespaced(world.client.clone());
    let all = events.list(&ListParams::default()).await.expect("events").items;
    let scheduled = |event: &&Event| {
        event.reason.as_deref() == Some("Scheduled") && event.involved_object.name.as_deref() == Some("p0")
    };
    let said = all.iter().find(scheduled).and_then(|event| event.message.clone());
    assert!(said.is_some_and(|said| said.starts_with("Successfully assigned default/p0 to node-")));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_wait_for_room_and_get_it() {
    let world = World::with(nodes(1)).await;
    let pods = world.pods();
    world.create(&pod("first", cpu("3"))).await;
    until(&pods, "first", is_ready).await;
    world.create(&pod("second", cpu("3"))).await;
    let waiting = until(&pods, "second", |pod| waits(pod).is_some()).await;
    assert_eq!(
        waits(&waiting).as_deref(),
        Some(
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
             available: 1 No preemption victims found for incoming pod."
        )
    );
    // A node that is opened is one that can help, and so is a pod that goes.
    pods.delete("first", &DeleteParams::default())
        .await
        .expect("deleted");
    until(&pods, "second", is_ready).await;
    let all: Api<Node> = Api::all(world.client.clone());
    let cordon = async |unschedulable: bool| {
        let change = json!({"spec": {"unschedulable": unschedulable}});
        let changed = all
            .patch("node-0", &PatchParams::default(), &Patch::Merge(change))
            .await;
        changed.expect("changed");
    };
    cordon(true).await;
    until(&all, "node-0", |node: &Node| {
        node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.create(&pod("third", cpu("1"))).await;
    let waiting = until(&pods, "third", |pod| waits(pod).is_some()).await;
    assert!(waits(&waiting).is_some_and(|why| why.contains("1 node(s) were unschedulable")));
    cordon(false).await;
    until(&pods, "third", is_ready).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_more_important_take_the_place_of_others() {
    let world = World::with(nodes(1)).await;
    let pods = world.pods();
    let classes: Api<PriorityClass> = Api::all(world.client.clone());
    let class: PriorityClass = of(json!({"metadata": {"name": "high"}, "value": 1000}));
    classes
        .create(&PostParams::default(), &class)
        .await
        .expect("a class");
    let mut slow = pod("low", cpu("3"));
    slow.metadata.annotations = Some([("trimtab.dev/stop-after".to_owned(), "5s".to_owned())].into());
    world.create(&slow).await;
    until(&pods, "low", is_ready).await;
    let mut spec = cpu("2");
    spec["priorityClassName"] = "high".into();
    world.create(&pod("high", spec)).await;
    let nominated = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.and_then(|status| status.nominated_node_name.as_deref()) == Some("node-0")
    };
    until(&pods, "high", nominated).await;
    let going = pods.get("low").await.expect("it is stopping");
    let disrupted = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
    };
    assert!(disrupted(&going) && going.metadata.deletion_timestamp.is_some());
    // Who comes meanwhile does not get the room that was made.
    world.create(&pod("thief", cpu("3"))).await;
    until_gone(&pods, "low").await;
    until(&pods, "high", is_ready).await;
    until(&pods, "thief", |pod| waits(pod).is_some()).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn gates_and_other_schedulers_are_respected() {
    let mut options = nodes(1);
    options.scheduler_names = vec!["default-scheduler".to_owned(), "second".to_owned()];
    let world = World::with(options).await;
    let pods = world.pods();
    let mut gated = cpu("1");
    gated["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    world.create(&pod("gated", gated)).await;
    let by = |name: &str| {
        let mut spec = cpu("1");
        spec["schedulerName"] = name.into();
        spec
    };
    world.create(&pod("foreign", by("third"))).await;
    world.create(&pod("ours", by("second"))).await;
    until(&pods, "ours", is_ready).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node_of(&pods.get("gated").await.expect("a pod")), "");
    assert_eq!(node_of(&pods.get("foreign").await.expect("a pod")), "");
    let open = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
    pods.patch("gated", &PatchParams::default(), &open)
        .await
        .expect("opened");
    until(&pods, "gated", is_ready).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn claims_are_told_where_their_pod_will_be() {
    let world = World::with(nodes(2)).await;
    let pods = world.pods();
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    let class: StorageClass = of(
        json!({"metadata": {"name": "late"}, "provisioner": "example.com/disks",
        "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    classes
        .create(&PostParams::default(), &class)
        .await
        .expect("a class");
    let claim: PersistentVolumeClaim = of(
        json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "late",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    world.create(&claim).await;
    let mut spec = cpu("1");
    spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    world.create(&pod("user", spec)).await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(world.client.clone());
    let told = |claim: &PersistentVolumeClaim| {
        claim
            .annotations()
            .contains_key("volume.kubernetes.io/selected-node")
    };
    let claim = until(&claims, "data", told).await;
    assert_eq!(node_of(&pods.get("user").await.expect("a pod")), "");
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "made"}});
    claims
        .patch("data", &PatchParams::default(), &Patch::Merge(bound))
        .await
        .expect("bound");
    let user = until(&pods, "user", is_ready).await;
    assert_eq!(
        node_of(&user),
        claim.annotations()["volume.kubernetes.io/selected-node"]
    );
    world.stop().await;
}

//! ReplicaSets and ReplicationControllers: counts, adoption, release, and what is said when pods are refused.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController, ResourceQuota};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::kit::{Cluster, spec, template};

fn replica_set(name: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, "1")}})
}

fn counts(set: &ReplicaSet) -> [i32; 3] {
    let status = set.status.clone().unwrap_or_default();
    [
        status.replicas,
        status.ready_replicas.unwrap_or_default(),
        status.available_replicas.unwrap_or_default(),
    ]
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_pods_as_are_wanted() {
    let cluster = Cluster::start(&["replicaset"]).await;
    cluster.create::<ReplicaSet>(replica_set("web", 70)).await;
    let set = cluster
        .until::<ReplicaSet>("web", |set| counts(set) == [70, 70, 70])
        .await;
    let pods = cluster.list::<Pod>().await;
    assert_eq!(pods.len(), 70);
    for pod in &pods {
        assert!(pod.name_any().starts_with("web-"));
        let owner = &pod.owner_references()[0];
        assert_eq!(
            (&owner.uid, &*owner.kind, owner.controller),
            (&set.uid().unwrap_or_default(), "ReplicaSet", Some(true))
        );
    }
    // One that is lost is replaced, and the fewest go.
    cluster.delete::<Pod>(&pods[0].name_any()).await;
    cluster
        .until_all::<Pod>(|now| now.len() == 70 && now.iter().all(|pod| pod.uid() != pods[0].uid()))
        .await;
    cluster
        .merge::<ReplicaSet>("web", json!({"spec": {"replicas": 3}}))
        .await;
    cluster
        .until::<ReplicaSet>("web", |set| counts(set) == [3, 3, 3])
        .await;
    assert_eq!(cluster.list::<Pod>().await.len(), 3);
    let events = cluster.events("web").await;
    assert!(
        events[0].starts_with("replicaset-controller: SuccessfulCreate Created pod: web-"),
        "{events:?}"
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strays_released() {
    let cluster = Cluster::start(&["replicaset"]).await;
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "web"}}, "spec": spec("1")});
    cluster.create::<Pod>(orphan).await;
    cluster.create::<ReplicaSet>(replica_set("web", 2)).await;
    cluster
        .until::<ReplicaSet>("web", |set| counts(set) == [2, 2, 2])
        .await;
    let orphan = cluster.get::<Pod>("orphan").await.expect("it is kept");
    assert_eq!(orphan.owner_references().len(), 1);
    assert_eq!(cluster.list::<Pod>().await.len(), 2);

    cluster
        .merge::<Pod>("orphan", json!({"metadata": {"labels": {"app": "debug"}}}))
        .await;
    cluster
        .until::<Pod>("orphan", |pod| pod.owner_references().is_empty())
        .await;
    cluster.until_all::<Pod>(|pods| pods.len() == 3).await;

    // An orphan that comes later is one too many.
    cluster
        .merge::<Pod>("orphan", json!({"metadata": {"labels": {"app": "web"}}}))
        .await;
    cluster.until_all::<Pod>(|pods| pods.len() == 2).await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_said_and_tried_again() {
    let cluster = Cluster::start(&["replicaset"]).await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}});
    cluster.create::<ResourceQuota>(quota).await;
    cluster
        .merge_status::<ResourceQuota>(
            "few",
            json!({"status": {"hard": {"pods": "2"}, "used": {"pods": "0"}}}),
        )
        .await;
    cluster.create::<ReplicaSet>(replica_set("web", 5)).await;
    let failed = |set: &ReplicaSet| {
        let conditions = set.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.and_then(|conditions| conditions.first().cloned())
    };
    let set = cluster
        .until::<ReplicaSet>("web", |set| failed(set).is_some() && counts(set)[0] == 2)
        .await;
    let condition = failed(&set).expect("a condition");
    assert_eq!(
        (&*condition.type_, &*condition.status),
        ("ReplicaFailure", "True")
    );
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert!(
        condition
            .message
            .unwrap_or_default()
            .contains("exceeded quota: few")
    );
    let events = cluster.events("web").await;
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("replicaset-controller: FailedCreate Error creating: pods \"web-")),
        "{events:?}"
    );

    cluster.delete::<ResourceQuota>("few").await;
    cluster
        .until::<ReplicaSet>("web", |set| failed(set).is_none() && counts(set) == [5, 5, 5])
        .await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn readiness_counts_once_it_lasts() {
    let cluster = Cluster::start(&["replicaset"]).await;
    let mut wanted = replica_set("web", 2);
    wanted["spec"]["minReadySeconds"] = json!(10);
    cluster.create::<ReplicaSet>(wanted).await;
    let begun = tokio::time::Instant::now();
    cluster
        .until::<ReplicaSet>("web", |set| counts(set) == [2, 2, 0])
        .await;
    cluster
        .until::<ReplicaSet>("web", |set| counts(set) == [2, 2, 2])
        .await;
    let seconds = begun.elapsed().as_secs();
    assert!((9..=12).contains(&seconds), "{seconds}");
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn replication_controllers_do_the_same() {
    let cluster = Cluster::start(&["replicationcontroller"]).await;
    let wanted = json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template("old", "1")}});
    cluster.create::<ReplicationController>(wanted).await;
    cluster
        .until::<ReplicationController>("old", |old| {
            old.status.as_ref().and_then(|status| status.available_replicas) == Some(2)
        })
        .await;
    let pods = cluster.list::<Pod>().await;
    assert!(
        pods.iter()
            .all(|pod| pod.owner_references()[0].kind == "ReplicationController")
    );
    let events = cluster.events("old").await;
    assert!(
        events[0].starts_with("replication-controller: SuccessfulCreate"),
        "{events:?}"
    );
    cluster.end().await;
}

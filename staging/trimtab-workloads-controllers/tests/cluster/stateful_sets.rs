//! StatefulSets: names, order, claims, updates and what stays of them.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::kit::{BAD, Cluster, images, names, template};

fn set(replicas: i32, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "db"}, "spec": {"replicas": replicas, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "1"),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}});
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

fn is_done(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let wanted = set
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && status.replicas == wanted
        && status.ready_replicas.unwrap_or_default() == wanted
        && status.updated_replicas.unwrap_or_default() == wanted
        && status.current_revision == status.update_revision
}

#[tokio::test(start_paused = true)]
async fn pods_have_names_claims_and_an_order() {
    let cluster = Cluster::start(&["statefulset"]).await;
    cluster.create::<StatefulSet>(set(3, json!({}))).await;
    cluster.until::<StatefulSet>("db", is_done).await;
    let pods = cluster.list::<Pod>().await;
    assert_eq!(names(&pods), ["db-0", "db-1", "db-2"]);
    let labels = pods[1].labels();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(pods[1].metadata.generate_name.as_deref(), Some("db-"));
    let spec = pods[1].spec.as_ref().expect("a spec");
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-1"), Some("db"))
    );
    let events = cluster.events("db").await;
    let made: Vec<_> = events
        .iter()
        .filter(|event| event.contains("Create Pod"))
        .collect();
    assert_eq!(
        made[2],
        "statefulset-controller: SuccessfulCreate Create Pod db-2 in StatefulSet db successful"
    );
    assert!(
        events[0].contains("Create Claim data-db-0 Pod db-0 in StatefulSet db success"),
        "{events:?}"
    );

    // One that is lost comes back as itself, with its claim.
    let before = pods[1].uid();
    cluster.delete::<Pod>("db-1").await;
    cluster.until::<Pod>("db-1", |pod| pod.uid() != before).await;
    cluster.until::<StatefulSet>("db", is_done).await;
    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster.until_all::<Pod>(|pods| names(pods) == ["db-0"]).await;
    let claims = cluster.list::<PersistentVolumeClaim>().await;
    assert_eq!(
        names(&claims),
        ["data-db-0", "data-db-1", "data-db-2"],
        "claims outlive their pods"
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn updates_go_from_the_end_to_the_partition_and_back() {
    let cluster = Cluster::start(&["statefulset"]).await;
    cluster.create::<StatefulSet>(set(3, json!({}))).await;
    cluster.until::<StatefulSet>("db", is_done).await;
    let partition = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}, "template": template("db", "2")}});
    cluster.merge::<StatefulSet>("db", partition).await;
    let image = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.containers[0].image.clone())
    };
    cluster
        .until::<Pod>("db-2", |pod| image(pod).as_deref() == Some("2"))
        .await;
    cluster
        .until::<StatefulSet>("db", |set| {
            let status = set.status.as_ref();
            status
                .is_some_and(|status| status.updated_replicas == Some(1) && status.ready_replicas == Some(3))
        })
        .await;
    // One below the partition comes back as it was.
    let before = cluster.get::<Pod>("db-0").await.expect("it is there").uid();
    cluster.delete::<Pod>("db-0").await;
    let again = cluster.until::<Pod>("db-0", |pod| pod.uid() != before).await;
    assert_eq!(image(&again).as_deref(), Some("1"));
    cluster
        .merge::<StatefulSet>(
            "db",
            json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}),
        )
        .await;
    cluster.until::<StatefulSet>("db", is_done).await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("2".to_owned(), 3)].into());

    // An update that never gets ready takes one pod and no more; what it was before is the newest again.
    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"template": template("db", BAD)}}))
        .await;
    cluster
        .until::<Pod>("db-2", |pod| image(pod).as_deref() == Some(BAD))
        .await;
    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"template": template("db", "2")}}))
        .await;
    cluster.delete::<Pod>("db-2").await; // as the docs say: it is not given up by itself
    cluster.until::<StatefulSet>("db", is_done).await;
    let mut revisions = cluster.list::<ControllerRevision>().await;
    revisions.sort_by_key(|revision| revision.revision);
    let numbers: Vec<_> = revisions.iter().map(|revision| revision.revision).collect();
    assert_eq!(numbers, [1, 3, 4]);
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn claims_go_with_the_set_or_with_its_size() {
    let cluster = Cluster::start(&["statefulset"]).await;
    let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "podManagementPolicy": "Parallel"});
    cluster.create::<StatefulSet>(set(3, policy)).await;
    cluster.until::<StatefulSet>("db", is_done).await;
    let kind =
        |claim: &PersistentVolumeClaim| claim.owner_references().first().map(|owner| owner.kind.clone());
    cluster
        .until_all::<PersistentVolumeClaim>(|claims| {
            claims.len() == 3
                && claims
                    .iter()
                    .all(|claim| kind(claim).as_deref() == Some("StatefulSet"))
        })
        .await;
    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until_all::<PersistentVolumeClaim>(|claims| names(claims) == ["data-db-0"])
        .await;
    cluster.delete::<StatefulSet>("db").await;
    cluster
        .until_all::<PersistentVolumeClaim>(|claims| claims.is_empty())
        .await;
    cluster.end().await;
}

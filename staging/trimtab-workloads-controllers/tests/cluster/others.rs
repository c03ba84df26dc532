//! Autoscalers, disruption budgets, quotas, volumes, aggregated roles.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::sleep;
use trimtab_workloads_controllers::install_storage_class;

use crate::kit::{Cluster, image_pod, template};

fn replica_set(replicas: i32) -> Value {
    let mut template = template("web", "1");
    template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

async fn load(cluster: &Cluster, cpu: &str) {
    for pod in cluster.list::<Pod>().await {
        let usage = json!({"metadata": {"annotations": {"metrics.trimtab.dev/cpu": cpu}}});
        cluster.merge::<Pod>(&pod.name_any(), usage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sizes_follow_the_load() {
    let Some(cluster) = Cluster::alone(&["replicaset", "horizontalpodautoscaling"]).await else {
        return;
    };
    cluster.create::<ReplicaSet>(replica_set(2)).await;
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {"minReplicas": 2, "maxReplicas": 6,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    cluster.until_all::<Pod>(|pods| pods.len() == 2).await;
    sleep(Duration::from_secs(1)).await;
    load(&cluster, "1").await;
    cluster.create::<HorizontalPodAutoscaler>(autoscaler).await;
    cluster.until_all::<Pod>(|pods| pods.len() == 4).await;
    load(&cluster, "500m").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.list::<Pod>().await.len(), 4, "that is what it should be");
    load(&cluster, "100m").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        cluster.list::<Pod>().await.len(),
        4,
        "less load is believed in five minutes"
    );
    sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.list::<Pod>().await.len(), 2);
    let status = cluster
        .get::<HorizontalPodAutoscaler>("web")
        .await
        .and_then(|web| web.status)
        .expect("a status");
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .flatten()
        .map(|condition| format!("{} {}", condition.type_, condition.status))
        .collect();
    assert_eq!(
        conditions,
        ["AbleToScale True", "ScalingActive True", "ScalingLimited True"]
    );
    let events = cluster.events("web").await;
    assert!(
        events.iter().any(|event| event
            == "horizontal-pod-autoscaler: SuccessfulRescale New size: 4; reason: cpu resource utilization (percentage of request) above target"),
        "{events:?}"
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn budgets_and_quotas_count_what_is_there() {
    let cluster = Cluster::start(&["replicaset", "disruption", "resourcequota"]).await;
    cluster.create::<ReplicaSet>(replica_set(3)).await;
    let budget = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": "34%", "selector": {"matchLabels": {"app": "web"}}}});
    cluster.create::<PodDisruptionBudget>(budget).await;
    let counts = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        [
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        ]
        .map(Option::unwrap_or_default)
    };
    cluster
        .until::<PodDisruptionBudget>("web", |budget| counts(budget) == [3, 1, 3, 2])
        .await;
    cluster
        .merge::<ReplicaSet>("web", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until::<PodDisruptionBudget>("web", |budget| counts(budget) == [1, 0, 1, 1])
        .await;

    let quota = json!({"metadata": {"name": "all"}, "spec": {"hard": {"pods": "10", "requests.cpu": "5", "count/replicasets.apps": "4"}}});
    cluster.create::<ResourceQuota>(quota).await;
    let used = |quota: &ResourceQuota, name: &str| {
        let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
        used.and_then(|used| used.get(name))
            .map(|amount| amount.0.clone())
            .unwrap_or_default()
    };
    let all = |quota: &ResourceQuota| {
        ["pods", "requests.cpu", "count/replicasets.apps"].map(|name| used(quota, name))
    };
    cluster
        .until::<ResourceQuota>("all", |quota| all(quota) == ["1", "1", "1"])
        .await;
    cluster.delete::<ReplicaSet>("web").await;
    cluster
        .until::<ResourceQuota>("all", |quota| all(quota) == ["0", "0", "0"])
        .await;
    cluster.end().await;
}

/// A kind of one's own, by its plural; with a size that the scale subresource tells, or without.
async fn define(cluster: &Cluster, plural: &str, kind: &str, subresources: Value) -> Api<DynamicObject> {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": subresources,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    cluster.apply(&definition).await;
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", kind), plural);
    Api::namespaced_with(cluster.client(), "default", &resource)
}

#[tokio::test(start_paused = true)]
async fn budgets_and_quotas_know_kinds_of_ones_own() {
    let Some(cluster) = Cluster::alone(&["disruption", "resourcequota"]).await else {
        return;
    };
    let scale = json!({"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}});
    let widgets = define(&cluster, "widgets", "Widget", scale).await;
    let gadgets = define(&cluster, "gadgets", "Gadget", json!({})).await;
    for (kind, api) in [("Widget", &widgets), ("Gadget", &gadgets)] {
        let name = kind.to_lowercase();
        let object = json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": name}, "spec": {"size": 4}});
        let object = serde_json::from_value(object).expect("an object");
        let made = api
            .create(&PostParams::default(), &object)
            .await
            .expect("it is created");
        let mut pod = image_pod(&format!("{name}-0"), &name, "1");
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": kind, "name": name,
            "uid": made.metadata.uid, "controller": true}]);
        cluster.create::<Pod>(pod).await;
        let budget = json!({"metadata": {"name": name}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": name}}}});
        cluster.create::<PodDisruptionBudget>(budget).await;
    }
    let numbers = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        (
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
        )
    };
    cluster
        .until::<PodDisruptionBudget>("widget", |budget| numbers(budget) == (Some(4), Some(2), Some(1)))
        .await;
    let why = |budget: &PodDisruptionBudget| {
        let conditions = budget.status.clone().unwrap_or_default().conditions;
        conditions.and_then(|conditions| Some(conditions.first()?.message.clone()))
    };
    let expected = Some("gadgets.example.com does not implement the scale subresource");
    cluster
        .until::<PodDisruptionBudget>("gadget", |budget| why(budget).as_deref() == expected)
        .await;

    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/widgets.example.com": "3", "count/nothings.example.com": "3"}}});
    cluster.create::<ResourceQuota>(quota).await;
    let used = |quota: &ResourceQuota| {
        let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
        used.map(|used| used.values().map(|amount| amount.0.clone()).collect::<Vec<_>>())
    };
    for left in ["1", "0"] {
        let expected = vec!["0".to_owned(), left.to_owned()];
        cluster
            .until::<ResourceQuota>("few", |quota| used(quota).as_ref() == Some(&expected))
            .await;
        if left == "1" {
            widgets
                .delete("widget", &DeleteParams::default())
                .await
                .expect("it is deleted");
        }
    }
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn claims_are_given_volumes() {
    let Some(cluster) = Cluster::alone(&["statefulset", "persistentvolume-binder", "pvc-protection"]).await
    else {
        return;
    };
    for _ in 0..2 {
        let installed = install_storage_class(&cluster.client()).await;
        installed.expect("it is made once, and then there is one");
    }
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", "1"), "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
    cluster.create::<StatefulSet>(set).await;
    let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    let claim = cluster
        .until::<PersistentVolumeClaim>("data-db-0", |claim| phase(claim).as_deref() == Some("Bound"))
        .await;
    let capacity = claim
        .status
        .and_then(|status| status.capacity)
        .expect("a capacity");
    assert_eq!(capacity["storage"].0, "1Gi");
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    let volume = volumes
        .list(&ListParams::default())
        .await
        .expect("volumes")
        .items
        .remove(0);
    assert_eq!(
        volume
            .spec
            .and_then(|spec| spec.claim_ref)
            .and_then(|claim| claim.name)
            .as_deref(),
        Some("data-db-0")
    );
    cluster.delete::<StatefulSet>("db").await;
    cluster.until_all::<Pod>(|pods| pods.is_empty()).await;
    cluster.delete::<PersistentVolumeClaim>("data-db-0").await;
    loop {
        if volumes
            .list(&ListParams::default())
            .await
            .expect("volumes")
            .items
            .is_empty()
        {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_have_the_claims_that_they_declare() {
    let cluster = Cluster::start(&["ephemeral-volume"]).await;
    let mut pod = image_pod("web", "web", "1");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    pod["spec"]["volumes"] = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]);
    let pod = cluster.create::<Pod>(pod).await;
    let claim = cluster
        .until::<PersistentVolumeClaim>("web-scratch", |_| true)
        .await;
    assert_eq!(claim.labels()["a"], "b");
    let owner = &claim.owner_references()[0];
    assert_eq!(
        (&*owner.kind, Some(&owner.uid)),
        ("Pod", pod.metadata.uid.as_ref())
    );
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), Some(true))
    );

    // One that is another's is not taken.
    let mut other = image_pod("other", "web", "1");
    other["spec"]["volumes"] = json!([{"name": "x", "ephemeral": {"volumeClaimTemplate": template}}]);
    let foreign = json!({"metadata": {"name": "other-x"}, "spec": spec});
    cluster.create::<PersistentVolumeClaim>(foreign).await;
    cluster.create::<Pod>(other).await;
    let events = cluster.events("other").await;
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("ephemeral_volume: FailedBinding ephemeral volume x: PVC ")),
        "{events:?}"
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn roles_are_added_up_and_pods_without_nodes_collected() {
    let Some(cluster) = Cluster::alone(&["clusterrole-aggregation", "podgc"]).await else {
        return;
    };
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    for role in [
        json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}, "rules": []}),
        json!({"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    ] {
        let role: ClusterRole = serde_json::from_value(role).expect("a role");
        roles
            .create(&PostParams::default(), &role)
            .await
            .expect("it is created");
    }
    let mut tries = 0;
    while roles
        .get("sum")
        .await
        .expect("it is there")
        .rules
        .is_none_or(|rules| rules.is_empty())
    {
        sleep(Duration::from_millis(50)).await;
        tries += 1;
        assert!(tries < 1000);
    }
    let mut pod = image_pod("lost", "web", "1");
    pod["spec"]["nodeName"] = json!("gone");
    cluster.create::<Pod>(pod).await;
    sleep(Duration::from_secs(30)).await;
    assert!(
        cluster.get::<Pod>("lost").await.is_some(),
        "its node may come yet"
    );
    sleep(Duration::from_secs(60)).await;
    assert!(cluster.get::<Pod>("lost").await.is_none());
    cluster.end().await;
}

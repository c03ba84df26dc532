//! Deployments: rollouts, what is between, undoing, pausing, resizing, and rollouts that do not end well.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::kit::{BAD, Cluster, images, template};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn deployment(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web", image), "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}}})
}

fn set_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// As `kubectl rollout status` judges it.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let Some(status) = &deployment.status else {
        return false;
    };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.or(Some(0)) >= wanted
        && status.replicas <= status.updated_replicas
        && status.available_replicas >= status.updated_replicas
}

fn reason(deployment: &Deployment, type_: &str) -> String {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut conditions = conditions.filter(|condition| condition.type_ == type_);
    conditions
        .next()
        .and_then(|condition| condition.reason.clone())
        .unwrap_or_default()
}

async fn started(replicas: i32) -> Cluster {
    let cluster = Cluster::start(&["replicaset", "deployment"]).await;
    cluster.create::<Deployment>(deployment(replicas, "1")).await;
    cluster.until::<Deployment>("web", is_rolled_out).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn an_update_replaces_all_pods_within_its_bounds() {
    let cluster = started(8).await;
    let watched = watch_bounds(&cluster, 8 - 1, 8 + 2);
    cluster.merge::<Deployment>("web", set_image("2")).await;
    let web = cluster.until::<Deployment>("web", is_rolled_out).await;
    watched.abort();
    assert!(
        !watched.await.is_err_and(|error| error.is_panic()),
        "within its bounds"
    );
    assert_eq!(images(&cluster.list::<Pod>().await), [("2".to_owned(), 8)].into());
    assert_eq!(web.annotations()[REVISION], "2");
    let generation = web.metadata.generation;
    assert_eq!(
        generation,
        Some(2),
        "what the controller notes is no change of the Deployment"
    );
    assert_eq!(reason(&web, "Progressing"), "NewReplicaSetAvailable");
    assert_eq!(reason(&web, "Available"), "MinimumReplicasAvailable");

    let sets = cluster.list::<ReplicaSet>().await;
    assert_eq!(sets.len(), 2);
    for set in &sets {
        let hash = &set.labels()["pod-template-hash"];
        assert_eq!(set.name_any(), format!("web-{hash}"));
        assert_eq!(set.annotations()["deployment.kubernetes.io/max-replicas"], "10");
    }
    let events = cluster.events("web").await;
    assert!(
        events[0].starts_with("deployment-controller: ScalingReplicaSet Scaled up replica set web-"),
        "{events:?}"
    );
    assert!(events[0].ends_with("from 0 to 8"), "{events:?}");
    cluster.end().await;
}

/// Looks at the pods at every step: never fewer available, never more that count.
fn watch_bounds(cluster: &Cluster, least: usize, most: usize) -> tokio::task::JoinHandle<()> {
    let api = cluster.api::<Pod>();
    tokio::spawn(async move {
        loop {
            let pods = api
                .list(&kube::api::ListParams::default())
                .await
                .expect("pods")
                .items;
            let counted = pods
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let ready = counted.clone().filter(|pod| {
                let mut conditions = pod
                    .status
                    .iter()
                    .flat_map(|status| status.conditions.iter().flatten());
                conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
            });
            let (counted, ready) = (counted.count(), ready.count());
            assert!(counted <= most && ready >= least, "{counted} pods, {ready} ready");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_fails_is_said_to_and_can_be_undone() {
    let cluster = started(4).await;
    let first = cluster.list::<ReplicaSet>().await.remove(0);
    cluster
        .merge::<Deployment>("web", json!({"spec": {"progressDeadlineSeconds": 15}}))
        .await;
    cluster.merge::<Deployment>("web", set_image(BAD)).await;
    let web = cluster
        .until::<Deployment>("web", |web| {
            reason(web, "Progressing") == "ProgressDeadlineExceeded"
        })
        .await;
    let status = web.status.expect("a status");
    assert_eq!(
        (status.available_replicas, status.unavailable_replicas),
        (Some(3), Some(3))
    );
    assert_eq!(
        images(&cluster.list::<Pod>().await),
        [("1".to_owned(), 3), (BAD.to_owned(), 3)].into()
    );

    // As `kubectl rollout undo` does: the template of the set before.
    let mut template =
        serde_json::to_value(&first.spec.as_ref().expect("a spec").template).expect("a template");
    template["metadata"]["labels"]["pod-template-hash"] = Value::Null;
    cluster
        .merge::<Deployment>("web", json!({"spec": {"template": template}}))
        .await;
    let web = cluster.until::<Deployment>("web", is_rolled_out).await;
    assert_eq!(web.annotations()[REVISION], "3");
    let first = cluster
        .get::<ReplicaSet>(&first.name_any())
        .await
        .expect("it is used again");
    assert_eq!(first.annotations()[REVISION], "3");
    assert_eq!(
        first.annotations()["deployment.kubernetes.io/revision-history"],
        "1"
    );
    cluster.end().await;
}

/// As clients of the APIs before `apps/v1` asked for it.
#[tokio::test(start_paused = true)]
async fn an_annotation_rolls_back_and_is_gone() {
    const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
    let cluster = started(3).await;
    for image in ["2", "3"] {
        let mut change = set_image(image);
        change["metadata"]["annotations"]["cause"] = json!(image);
        change["spec"]["template"]["metadata"]["labels"]["of"] = json!(image);
        cluster.merge::<Deployment>("web", change).await;
        cluster.until::<Deployment>("web", is_rolled_out).await;
    }
    let asked = async |to: &str| {
        let wish = json!({"metadata": {"annotations": {ROLLBACK_TO: to}}});
        cluster.merge::<Deployment>("web", wish).await;
        let granted = |web: &Deployment| !web.annotations().contains_key(ROLLBACK_TO) && is_rolled_out(web);
        cluster.until::<Deployment>("web", granted).await
    };
    let labels = |web: &Deployment| {
        let template = web.spec.as_ref().map(|spec| spec.template.clone());
        let meta = template.and_then(|template| template.metadata);
        meta.and_then(|meta| meta.labels).unwrap_or_default()
    };

    let web = asked("0").await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("2".to_owned(), 3)].into());
    assert_eq!(
        (&*web.annotations()["cause"], &*web.annotations()[REVISION]),
        ("2", "4")
    );
    let web = asked("1").await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("1".to_owned(), 3)].into());
    assert_eq!(labels(&web), [("app".to_owned(), "web".to_owned())].into());
    assert!(
        !web.annotations().contains_key("cause"),
        "{:?}",
        web.annotations()
    );
    assert_eq!(web.annotations()[REVISION], "5");

    // What cannot be done is said, and forgotten.
    asked("5").await;
    asked("1").await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("1".to_owned(), 3)].into());
    let mut events = cluster.events("web").await;
    events.retain(|event| !event.contains("ScalingReplicaSet"));
    let told = [
        "DeploymentRollback Rolled back deployment \"web\" to revision 2",
        "DeploymentRollback Rolled back deployment \"web\" to revision 1",
        "DeploymentRollbackTemplateUnchanged The rollback revision contains the same template as current deployment \"web\"",
        "DeploymentRollbackRevisionNotFound Unable to find the revision to rollback to.",
    ];
    assert_eq!(events, told.map(|text| format!("deployment-controller: {text}")));
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_is_resized_and_nothing_else() {
    let cluster = started(3).await;
    cluster
        .merge::<Deployment>("web", json!({"spec": {"paused": true}}))
        .await;
    cluster.merge::<Deployment>("web", set_image("2")).await;
    cluster
        .merge::<Deployment>("web", json!({"spec": {"replicas": 5}}))
        .await;
    let web = cluster
        .until::<Deployment>("web", |web| {
            web.status.as_ref().and_then(|status| status.available_replicas) == Some(5)
        })
        .await;
    assert_eq!(reason(&web, "Progressing"), "DeploymentPaused");
    assert_eq!(images(&cluster.list::<Pod>().await), [("1".to_owned(), 5)].into());
    cluster
        .merge::<Deployment>("web", json!({"spec": {"paused": false}}))
        .await;
    cluster.until::<Deployment>("web", is_rolled_out).await;
    assert_eq!(images(&cluster.list::<Pod>().await), [("2".to_owned(), 5)].into());
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_old_end_before_the_new_begin_and_history_is_kept_short() {
    let cluster = Cluster::start(&["replicaset", "deployment"]).await;
    let mut wanted = deployment(3, "0");
    wanted["spec"]["strategy"] = json!({"type": "Recreate"});
    wanted["spec"]["revisionHistoryLimit"] = json!(1);
    cluster.create::<Deployment>(wanted).await;
    cluster.until::<Deployment>("web", is_rolled_out).await;
    for image in ["1", "2", "3"] {
        cluster.merge::<Deployment>("web", set_image(image)).await;
        loop {
            let seen = images(&cluster.list::<Pod>().await);
            assert!(seen.len() <= 1, "never two at once: {seen:?}");
            let web = cluster.get::<Deployment>("web").await.expect("it is there");
            if is_rolled_out(&web) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    cluster.until_all::<ReplicaSet>(|sets| sets.len() == 2).await;
    let web = cluster.get::<Deployment>("web").await.expect("it is there");
    assert_eq!(web.annotations()[REVISION], "4");
    cluster.end().await;
}

/// Another ReplicaSet has the name that the newest template's would have.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_made_another() {
    let cluster = started(1).await;
    let taken = cluster.list::<ReplicaSet>().await.remove(0);
    cluster.delete::<Deployment>("web").await;
    cluster.until_all::<ReplicaSet>(|sets| sets.is_empty()).await;
    let foreign = json!({"metadata": {"name": taken.name_any()}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"app": "other"}}, "template": template("other", "1")}});
    cluster.create::<ReplicaSet>(foreign).await;
    cluster.create::<Deployment>(deployment(1, "1")).await;
    let web = cluster.until::<Deployment>("web", is_rolled_out).await;
    assert_eq!(web.status.and_then(|status| status.collision_count), Some(1));
    cluster.end().await;
}

//! A whole cluster in the test: the controllers of workloads, and simulated nodes on which their pods run.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use serde_json::json;
use trimtab_testing_env::{Builder, Change, EnvError, TestEnv};

const HOUR: Duration = Duration::from_secs(3600);

fn cluster() -> Builder {
    TestEnv::builder().workload_controllers().nodes(2)
}

async fn a_deployment_becomes_ready(cluster: Builder) -> Result<Vec<Change>, EnvError> {
    let env = cluster.start().await?;
    env.apply(include_str!("deployment.yaml")).await?;
    let deployments: Api<Deployment> = Api::default_namespaced(env.client());
    let ready = json!({"status": {"readyReplicas": 3, "availableReplicas": 3}});
    env.eventually_like(&deployments, "web", &ready).await?;
    let pods: Api<Pod> = Api::default_namespaced(env.client());
    let pods = pods.list(&ListParams::default()).await?;
    for pod in &pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        assert!(node.is_some_and(|node| node.starts_with("node-")), "{pod:?}");
    }
    assert_eq!(pods.items.len(), 3);
    let changes = env.history().since(0);
    env.shutdown().await?;
    Ok(changes)
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_ready_in_driven_time() -> Result<(), EnvError> {
    a_deployment_becomes_ready(cluster().seed(1)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_ready_in_real_time_beside_a_socket() -> Result<(), EnvError> {
    a_deployment_becomes_ready(cluster().socket()).await.map(drop)
}

/// Much happens at once: workers wait for the same cache, and reads for the same revision.
async fn many_are_made_and_updated(cluster: Builder) -> Result<Vec<String>, EnvError> {
    let env = cluster.start().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(env.client());
    let names: Vec<String> = (0..6).map(|n| format!("many-{n}")).collect();
    for image in ["old", "new"] {
        for name in &names {
            for kind in ["Deployment", "StatefulSet"] {
                let labels = json!({"app": format!("{kind}-{name}")});
                let pod = json!({"containers": [{"name": "main", "image": image}]});
                let object = json!({
                    "apiVersion": "apps/v1",
                    "kind": kind,
                    "metadata": {"name": name},
                    "spec": {
                        "replicas": 6,
                        "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": pod},
                    },
                });
                env.apply(&object.to_string()).await?;
            }
        }
        for name in &names {
            let ready = json!({"status": {"updatedReplicas": 6, "readyReplicas": 6, "replicas": 6}});
            env.eventually_like(&deployments, name, &ready).await?;
        }
    }
    let changes = env.history().since(0);
    env.shutdown().await?;
    let told = changes.iter().map(|change| {
        let object = change.object().unwrap_or_default();
        format!("{} {:?} {} {object}", change.revision, change.at, change.key)
    });
    Ok(told.collect())
}

#[test]
fn the_same_seed_gives_the_same_cluster() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let changes = runtime.block_on(many_are_made_and_updated(cluster().seed(seed)));
        changes.expect("a run")
    };
    let (one, again) = (run(1), run(1));
    for (at, (change, other)) in one.iter().zip(&again).enumerate() {
        assert!(change == other, "change {at}:\n{change}\n{other}");
    }
    assert_eq!(one.len(), again.len());
    assert!(one != run(2), "another seed gives another");
}

/// A CronJob of every six hours has run four times in a day, and jobs end by what their pods' annotations say.
#[tokio::test(start_paused = true)]
async fn cron_jobs_run_over_a_day() -> Result<(), EnvError> {
    let env = cluster().node_heartbeats(HOUR).seed(1).start().await?;
    env.apply(include_str!("cron_job.yaml")).await?;
    tokio::time::sleep(24 * HOUR + HOUR / 2).await;
    let (cron_jobs, jobs) = (
        Api::<CronJob>::default_namespaced(env.client()),
        Api::<Job>::default_namespaced(env.client()),
    );
    let done = json!({"status": {"lastScheduleTime": "2030-01-02T00:00:00Z"}});
    env.eventually_like(&cron_jobs, "tidy", &done).await?;
    let completed = env
        .history()
        .since(0)
        .into_iter()
        .filter_map(|change| change.object())
        .filter(|object| {
            object["kind"] == "Job"
                && object["status"]["succeeded"] == 1
                && object["status"]["completionTime"].is_string()
        });
    let completed: std::collections::BTreeSet<String> =
        completed.map(|job| job["metadata"]["name"].to_string()).collect();
    assert_eq!(completed.len(), 4, "{completed:?}");
    assert_eq!(
        jobs.list(&ListParams::default()).await?.items.len(),
        3,
        "so many are kept"
    );
    env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn stages_say_what_becomes_of_pods() -> Result<(), EnvError> {
    let env = cluster().node_stages(include_str!("stage.yaml")).start().await?;
    env.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: none}]}}",
    )
    .await?;
    let pods: Api<Pod> = Api::default_namespaced(env.client());
    env.eventually_like(
        &pods,
        "a",
        &json!({"status": {"phase": "Failed", "reason": "AsTheStageSays"}}),
    )
    .await?;
    env.shutdown().await?;
    let wrong = TestEnv::builder()
        .nodes(1)
        .node_stages("kind: Stage\nspec: {nonsense: 1}")
        .start()
        .await;
    let error = wrong.expect_err("it is none").to_string();
    assert!(error.contains("stage"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn controllers_of_workloads_can_be_left_out() -> Result<(), EnvError> {
    let env = cluster().without("deployment-controller").start().await?;
    env.apply(include_str!("deployment.yaml")).await?;
    tokio::time::sleep(HOUR).await;
    let world = env.history().world();
    assert_eq!((world.count::<Pod>(), world.count::<Node>()), (0, 2));
    env.shutdown().await
}

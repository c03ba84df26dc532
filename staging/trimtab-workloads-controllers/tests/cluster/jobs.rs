//! Jobs and CronJobs: ends of all sorts, counted once, and schedules on driven time.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::kit::{Cluster, DONE, FAILS, names, spec};

fn job(name: &str, image: &str, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec(image)}}});
    object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

fn end(job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|condition| matches!(&*condition.type_, "Complete" | "Failed"))?;
    Some(format!(
        "{} {}",
        end.type_,
        end.reason.clone().unwrap_or_default()
    ))
}

#[tokio::test(start_paused = true)]
async fn jobs_complete() {
    let cluster = Cluster::start(&["job"]).await;
    cluster
        .create::<Job>(job("work", DONE, json!({"completions": 5, "parallelism": 2})))
        .await;
    let done = cluster.until::<Job>("work", |job| end(job).is_some()).await;
    assert_eq!(end(&done).as_deref(), Some("Complete CompletionsReached"));
    let status = done.status.expect("a status");
    assert_eq!(
        (status.succeeded, status.failed, status.active),
        (Some(5), None, None)
    );
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    let pods = cluster.list::<Pod>().await;
    assert_eq!(pods.len(), 5);
    assert!(
        pods.iter().all(|pod| pod.finalizers().is_empty()),
        "all are counted"
    );
    let events = cluster.events("work").await;
    assert_eq!(
        events.last().map(String::as_str),
        Some("job-controller: Completed Job completed")
    );

    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    cluster.create::<Job>(job("each", DONE, indexed)).await;
    let done = cluster.until::<Job>("each", |job| end(job).is_some()).await;
    assert_eq!(
        done.status.and_then(|status| status.completed_indexes).as_deref(),
        Some("0-2")
    );
    cluster.delete::<Job>("each").await;
    cluster.delete::<Job>("work").await;
    cluster.until_all::<Pod>(|pods| pods.is_empty()).await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_fail_after_longer_and_longer_waits() {
    let cluster = Cluster::start(&["job"]).await;
    let begun = Instant::now();
    cluster
        .create::<Job>(job("bad", FAILS, json!({"backoffLimit": 2})))
        .await;
    loop {
        if cluster.get::<Job>("bad").await.as_ref().and_then(end).is_some() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(200));
        sleep(Duration::from_secs(1)).await;
    }
    let failed = cluster.get::<Job>("bad").await.expect("it is there");
    assert_eq!(end(&failed).as_deref(), Some("Failed BackoffLimitExceeded"));
    assert_eq!(failed.status.and_then(|status| status.failed), Some(3));
    let waited = begun.elapsed().as_secs();
    assert!((28..40).contains(&waited), "10 and 20 seconds: {waited}");
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_stop_and_go_and_are_forgotten() {
    let cluster = Cluster::start(&["job", "ttl-after-finished"]).await;
    let long = json!({"suspend": true, "parallelism": 2, "completions": 2, "activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 60});
    cluster.create::<Job>(job("long", "runs", long)).await;
    let suspended = |job: &Job| {
        let conditions = job
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        conditions
            .filter(|condition| condition.type_ == "Suspended")
            .map(|condition| condition.status.clone())
            .next()
    };
    cluster
        .until::<Job>("long", |job| suspended(job).as_deref() == Some("True"))
        .await;
    assert!(cluster.list::<Pod>().await.is_empty());
    cluster
        .merge::<Job>("long", json!({"spec": {"suspend": false}}))
        .await;
    cluster
        .until::<Job>("long", |job| {
            job.status.as_ref().and_then(|status| status.ready) == Some(2)
        })
        .await;
    cluster
        .merge::<Job>("long", json!({"spec": {"suspend": true}}))
        .await;
    cluster.until_all::<Pod>(|pods| pods.is_empty()).await;
    let stopped = cluster
        .until::<Job>("long", |job| suspended(job).as_deref() == Some("True"))
        .await;
    assert_eq!(
        stopped.status.and_then(|status| status.failed),
        None,
        "what was stopped has not failed"
    );
    cluster
        .merge::<Job>("long", json!({"spec": {"suspend": false}}))
        .await;
    sleep(Duration::from_secs(35)).await;
    let late = cluster.until::<Job>("long", |job| end(job).is_some()).await;
    assert_eq!(end(&late).as_deref(), Some("Failed DeadlineExceeded"));
    sleep(Duration::from_secs(50)).await;
    assert!(cluster.get::<Job>("long").await.is_some());
    sleep(Duration::from_secs(15)).await;
    assert!(cluster.get::<Job>("long").await.is_none(), "it is forgotten");
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn cron_jobs_are_made_on_time_and_forgotten() {
    let Some(cluster) = Cluster::alone(&["job", "cronjob"]).await else {
        return;
    };
    let tick = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "*/10 * * * *", "successfulJobsHistoryLimit": 2,
        "jobTemplate": {"spec": job("", DONE, json!({}))["spec"]}}});
    cluster.create::<CronJob>(tick).await;
    sleep(Duration::from_secs(60 * 60)).await;
    let jobs = cluster.list::<Job>().await;
    assert_eq!(jobs.len(), 2, "{:?}", names(&jobs));
    for job in &jobs {
        let minutes: i64 = job
            .name_any()
            .trim_start_matches("tick-")
            .parse()
            .expect("minutes");
        assert_eq!(minutes % 10, 0);
        assert!(
            job.annotations()
                .contains_key("batch.kubernetes.io/cronjob-scheduled-timestamp")
        );
        assert_eq!(end(job).as_deref(), Some("Complete CompletionsReached"));
    }
    let tick = cluster.get::<CronJob>("tick").await.expect("it is there");
    let status = tick.status.expect("a status");
    assert!(
        status.last_schedule_time.is_some()
            && status.last_successful_time.is_some()
            && status.active.is_none()
    );

    // One that still runs keeps the next one from being made.
    let slow = json!({"metadata": {"name": "slow"}, "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid",
        "jobTemplate": {"spec": job("", "runs", json!({}))["spec"]}}});
    cluster.create::<CronJob>(slow).await;
    sleep(Duration::from_secs(5 * 60)).await;
    let slow = cluster.get::<CronJob>("slow").await.expect("it is there");
    assert_eq!(
        slow.status
            .and_then(|status| status.active)
            .map_or(0, |active| active.len()),
        1
    );
    assert!(
        cluster
            .events("slow")
            .await
            .iter()
            .any(|event| event.starts_with("cronjob-controller: JobAlreadyActive "))
    );
    cluster.end().await;
}

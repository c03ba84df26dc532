//! The controllers that make and end pods: how many there are at most and at least, whatever goes wrong.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use trimtab_testing_env::World;
use trimtab_testing_perturb::Perturb;

use crate::{check_but_for_two_at_once, in_a_cluster, typed};

const REPLICAS: i32 = 3;

/// Where pods run, and what their nodes say of them, may differ.
pub(crate) fn of_pods(controller: &'static str) -> Perturb {
    let zone = "/metadata/labels/topology.kubernetes.io~1zone";
    ["/spec/nodeName", "/status", zone]
        .iter()
        .fold(in_a_cluster(controller), |perturb, pointer| {
            perturb.may_differ("Pod", pointer)
        })
        .may_differ("Node", "")
}

fn template(image: &str, restart: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "web", "image": image}]},
    })
}

fn pods(world: &World) -> Vec<Pod> {
    world.list()
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    !is_leaving(pod) && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_ready_with(pod: &Pod, image: &str) -> bool {
    let spec = pod.spec.as_ref();
    is_ready(pod) && spec.is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image))
}

fn at_most(what: &str, most: usize, is: usize) -> Result<(), String> {
    if is <= most {
        Ok(())
    } else {
        Err(format!("{is} {what}, and at most {most} may be"))
    }
}

// === Deployment and ReplicaSet ===

fn runs(image: &'static str) -> impl Fn(&World) -> bool {
    move |world| {
        let deployment = world.get::<Deployment>("default", "web");
        let status = deployment
            .and_then(|deployment| deployment.status)
            .unwrap_or_default();
        let pods = pods(world);
        let of_image = |pod: &Pod| {
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image))
        };
        status.available_replicas == Some(REPLICAS)
            && status.updated_replicas == Some(REPLICAS)
            && status.replicas == Some(REPLICAS)
            && pods.iter().filter(|pod| of_image(pod)).count() == pods.len()
    }
}

/// A rollout by one more at a time, with none fewer.
fn rollout(controller: &'static str) -> Perturb {
    let deployment = |image: &str| -> Deployment {
        typed(json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "template": template(image, "Always"),
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            },
        }))
    };
    of_pods(controller)
        .scenario(|users| {
            users
                .create(deployment("one"))
                .until("it runs", runs("one"))
                .edit::<Deployment>("web", |web| {
                    let pods = web.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
                    pods.expect("a template").containers[0].image = Some("two".to_owned());
                })
                .until("it is rolled out", runs("two"))
                .delete::<Deployment>("web")
                .until("all is gone", |world| {
                    world.count::<ReplicaSet>() == 0 && world.count::<Pod>() == 0
                })
        })
        .always_or("at most maxSurge more are wanted", |world| {
            let sets: Vec<ReplicaSet> = world.list();
            let wanted = sets
                .iter()
                .filter_map(|set| set.spec.as_ref()?.replicas)
                .sum::<i32>();
            at_most("are wanted", 4, usize::try_from(wanted).unwrap_or_default())
        })
        .always_or("at most maxSurge more live", |world| {
            at_most(
                "live",
                4,
                pods(world).iter().filter(|pod| !is_leaving(pod)).count(),
            )
        })
        .always_or("none fewer are ready once it is available", |world| {
            let web = world.get::<Deployment>("default", "web");
            let conditions = web.and_then(|web| web.status?.conditions).unwrap_or_default();
            let is_available = |condition: &k8s_openapi::api::apps::v1::DeploymentCondition| {
                condition.type_ == "Available" && condition.status == "True"
            };
            let ready = pods(world).iter().filter(|pod| is_ready(pod)).count();
            if ready < 3 && conditions.iter().any(is_available) {
                return Err(format!("{ready} are ready"));
            }
            Ok(())
        })
}

#[test]
fn deployments_roll_out() {
    rollout("deployment-controller").check();
}

#[test]
fn replica_sets_keep_their_pods() {
    check_but_for_two_at_once(
        rollout("replicaset-controller"),
        &["Always: at most maxSurge more live"],
    );
}

// === StatefulSet ===

#[test]
fn stateful_sets_go_one_by_one() {
    let set: StatefulSet = typed(json!({
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web", "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}},
            "template": template("one", "Always"),
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    }));
    let runs = |replicas: i32, image: &'static str| {
        move |world: &World| {
            let set = world.get::<StatefulSet>("default", "web");
            let status = set.and_then(|set| set.status).unwrap_or_default();
            let pods = pods(world);
            i32::try_from(pods.len()) == Ok(replicas)
                && pods.iter().all(|pod| is_ready_with(pod, image))
                && status.available_replicas == Some(replicas)
                && status.current_revision == status.update_revision
        }
    };
    of_pods("statefulset-controller")
        .may_differ("PersistentVolume", "")
        .may_differ("PersistentVolumeClaim", "/spec/volumeName")
        .scenario(|users| {
            users
                .create(set.clone())
                .until("it runs", runs(3, "one"))
                .edit::<StatefulSet>("web", |web| {
                    let pods = web.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
                    pods.expect("a template").containers[0].image = Some("two".to_owned());
                })
                .until("it is rolled out", runs(3, "two"))
                .patch::<StatefulSet>("web", json!({"spec": {"replicas": 1}}))
                .until("it is smaller", runs(1, "two"))
        })
        .always_or("one at a time", |world| {
            let pods = pods(world);
            let ordinal = |pod: &Pod| {
                pod.name_any()
                    .rsplit('-')
                    .next()
                    .and_then(|ordinal| ordinal.parse::<usize>().ok())
            };
            let highest = pods.iter().filter_map(ordinal).max();
            let in_order = highest.map_or(0, |highest| highest + 1);
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            at_most("are on their way", 1, in_order - ready)
        })
        .always("no revision but two", |world| {
            world.count::<ControllerRevision>() <= 2
        })
        .check();
}

// === DaemonSet ===

#[test]
fn daemon_sets_have_one_pod_on_each_node() {
    let set: DaemonSet = typed(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("one", "Always")},
    }));
    let runs = |image: &'static str| {
        move |world: &World| {
            let pods = pods(world);
            let set = world.get::<DaemonSet>("default", "web");
            let status = set.and_then(|set| set.status).unwrap_or_default();
            pods.len() == 2
                && pods.iter().all(|pod| is_ready_with(pod, image))
                && status.number_available == Some(2)
                && status.updated_number_scheduled == Some(2)
        }
    };
    let sets = of_pods("daemonset-controller")
        .scenario(|users| {
            users
                .create(set.clone())
                .until("it runs", runs("one"))
                .edit::<DaemonSet>("web", |web| {
                    let pods = web.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
                    pods.expect("a template").containers[0].image = Some("two".to_owned());
                })
                .until("it is rolled out", runs("two"))
        })
        .always_or("at most one runs on a node", |world| {
            for node in ["node-0", "node-1"] {
                let here = |pod: &Pod| {
                    pod.spec
                        .as_ref()
                        .is_some_and(|spec| spec.node_name.as_deref() == Some(node))
                };
                let pods = pods(world);
                let here = pods
                    .iter()
                    .filter(|pod| here(pod) && phase(pod) == "Running" && !is_leaving(pod));
                at_most(&format!("run on {node}"), 1, here.count())?;
            }
            Ok(())
        });
    check_but_for_two_at_once(sets, &["Always: at most one runs on a node"]);
}

// === Job and CronJob ===

#[test]
fn jobs_count_each_completion_once() {
    let mut template = template("one", "Never");
    template["metadata"]["annotations"] = json!({"trimtab.dev/run-for": "5s"});
    let job: Job = typed(json!({
        "metadata": {"name": "sum"},
        "spec": {"completions": 4, "parallelism": 2, "template": template},
    }));
    let jobs = of_pods("job-controller")
        .scenario(|users| {
            users.create(job.clone()).until("it is complete", |world| {
                let status = world.get::<Job>("default", "sum").and_then(|job| job.status);
                status.is_some_and(|status| status.completion_time.is_some() && status.succeeded == Some(4))
            })
        })
        .always_or("never more than parallelism", |world| {
            let active = |pod: &&Pod| !has_ended(pod) && !is_leaving(pod);
            at_most("are active", 2, pods(world).iter().filter(active).count())
        })
        .always_or("what is counted has been there", |world| {
            let status = world
                .get::<Job>("default", "sum")
                .and_then(|job| job.status)
                .unwrap_or_default();
            let ended = pods(world).iter().filter(|pod| phase(pod) == "Succeeded").count();
            let counted = usize::try_from(status.succeeded.unwrap_or_default()).unwrap_or_default();
            at_most("are counted", ended, counted)
        });
    check_but_for_two_at_once(
        jobs,
        &[
            "Always: never more than parallelism",
            "Converges: Pod default/sum-",
        ],
    );
}

#[test]
fn cron_jobs_run_once_for_each_time() {
    let mut template = template("one", "Never");
    template["metadata"]["annotations"] = json!({"trimtab.dev/run-for": "5s"});
    let cron_job: CronJob = typed(json!({
        "metadata": {"name": "tidy"},
        "spec": {"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": template}}},
    }));
    let jobs = |world: &World| -> usize {
        let jobs: Vec<Job> = world.list();
        jobs.iter()
            .filter(|job| {
                job.status
                    .as_ref()
                    .is_some_and(|status| status.succeeded == Some(1))
            })
            .count()
    };
    of_pods("cronjob-controller")
        .patience(Duration::from_secs(2 * 3600))
        .scenario(|users| {
            users
                .create(cron_job.clone())
                .until("it has run twice", move |world| jobs(world) == 2)
                .patch::<CronJob>("tidy", json!({"spec": {"suspend": true}}))
                .wait(Duration::from_secs(3600))
        })
        .always("never twice", |world| {
            let jobs: Vec<Job> = world.list();
            let time = |job: &Job| {
                job.annotations()
                    .get("batch.kubernetes.io/cronjob-scheduled-timestamp")
                    .cloned()
            };
            let times: std::collections::BTreeSet<_> = jobs.iter().map(time).collect();
            times.len() == jobs.len()
        })
        .check();
}

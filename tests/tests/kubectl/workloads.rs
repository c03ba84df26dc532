//! Workloads: rollouts, scaling, what is set on them, what goes with them, and jobs.

use super::{Stories, Story};

pub(super) const STORIES: Stories = &[
    ("rollout", rolled_out_and_back),
    ("scale", scaled),
    ("cascade", deleted_with_and_without_what_they_own),
    ("jobs", jobs_and_cron_jobs),
    ("watch", watched),
];

fn image(story: &Story) -> String {
    story.value("deployment", "d", ".spec.template.spec.containers[0].image")
}

fn rolled_out_and_back(story: &Story) {
    let status = ["rollout", "status", "deployment/d", "--timeout=60s"];
    let done = ["deployment \"d\" successfully rolled out"];
    story.prints(
        &["create", "deployment", "d", "--image=i:1", "--replicas=2"],
        &["deployment.apps/d created"],
    );
    story.prints(&status, &done);
    story.prints(
        &["set", "image", "deployment/d", "i=i:2"],
        &["deployment.apps/d image updated"],
    );
    story.prints(&status, &done);
    story.prints(&["rollout", "history", "deployment/d"], &["REVISION", "1 ", "2 "]);
    story.prints(
        &["rollout", "history", "deployment/d", "--revision=1"],
        &["Image:", "i:1"],
    );
    story.prints(
        &["rollout", "undo", "deployment/d"],
        &["deployment.apps/d rolled back"],
    );
    assert_eq!(image(story), "i:1");
    story.prints(&status, &done);
    story.prints(&["rollout", "history", "deployment/d"], &["2 ", "3 "]);
    story.prints(
        &["rollout", "undo", "deployment/d", "--to-revision=2"],
        &["rolled back"],
    );
    assert_eq!(image(story), "i:2");
    story.prints(
        &["rollout", "restart", "deployment/d"],
        &["deployment.apps/d restarted"],
    );
    story.prints(
        &["rollout", "pause", "deployment/d"],
        &["deployment.apps/d paused"],
    );
    story.is_refused(&["rollout", "undo", "deployment/d"], &["paused"]);
    story.prints(
        &["rollout", "resume", "deployment/d"],
        &["deployment.apps/d resumed"],
    );
    story.prints(&status, &done);
    story.prints(
        &["set", "env", "deployment/d", "A=1", "B=2"],
        &["deployment.apps/d env updated"],
    );
    story.prints(&["set", "env", "deployment/d", "--list"], &["A=1", "B=2"]);
    story.prints(
        &["set", "env", "deployment/d", "A-"],
        &["deployment.apps/d env updated"],
    );
    story.prints(
        &["set", "resources", "deployment/d", "--limits=cpu=200m"],
        &["resource requirements updated"],
    );
    story.prints(
        &["set", "serviceaccount", "deployment/d", "default"],
        &["serviceaccount updated"],
    );
    story.prints(&status, &done);
    let shown = ["get", "deployments,replicasets", "-o", "wide"];
    story.prints(
        &shown,
        &[
            "CONTAINERS   IMAGES",
            "deployment.apps/d",
            "2/2",
            "i:2",
            "app=d",
            "replicaset.apps/d-",
        ],
    );
    story.prints(
        &["describe", "deployment", "d"],
        &[
            "Replicas:",
            "2 desired | 2 updated | 2 total | 2 available",
            "i:2",
            "NewReplicaSet:",
            "ScalingReplicaSet",
        ],
    );
}

fn scaled(story: &Story) {
    story
        .kubectl
        .ok(&["create", "deployment", "d", "--image=i", "--replicas=1"]);
    story.prints(
        &["scale", "deployment/d", "--replicas=3"],
        &["deployment.apps/d scaled"],
    );
    story.is_refused(
        &["scale", "deployment/d", "--current-replicas=7", "--replicas=1"],
        &["Expected replicas to be 7, was 3"],
    );
    story.wait("deployment/d", "jsonpath={.status.readyReplicas}=3");
    story.wait("deployment/d", "condition=Available");
    story.prints(
        &["expose", "deployment", "d", "--port=80", "--target-port=8080"],
        &["service/d exposed"],
    );
    let slices = [
        "wait",
        "endpointslice",
        "-l",
        "kubernetes.io/service-name=d",
        "--timeout=60s",
    ];
    story.kubectl.ok(&[
        &slices[..],
        &["--for=jsonpath={.endpoints[2].conditions.ready}=true"],
    ]
    .concat());
    story.prints(
        &["describe", "service", "d"],
        &[
            "Selector:",
            "app=d",
            "Type:",
            "ClusterIP",
            "TargetPort:",
            "8080/TCP",
            "Endpoints:",
            ":8080",
        ],
    );
    story.prints(
        &[
            "autoscale",
            "deployment",
            "d",
            "--min=2",
            "--max=4",
            "--cpu-percent=50",
        ],
        &["horizontalpodautoscaler.autoscaling/d autoscaled"],
    );
    story.prints(&["get", "hpa"], &["Deployment/d", "/50%", "2", "4"]);
    story
        .kubectl
        .ok(&["create", "pdb", "p", "--selector=app=d", "--max-unavailable=1"]);
    story.wait("pdb/p", "jsonpath={.status.disruptionsAllowed}=1");
    story.prints(&["get", "pdb"], &["MAX UNAVAILABLE", "p ", "N/A", "1 "]);
}

fn deleted_with_and_without_what_they_own(story: &Story) {
    let deploy = |name: &str| {
        story
            .kubectl
            .ok(&["create", "deployment", name, "--image=i", "--replicas=1"]);
        story.kubectl.ok(&[
            "rollout",
            "status",
            &format!("deployment/{name}"),
            "--timeout=60s",
        ]);
    };
    let gone = |what: &str, label: &str| {
        story
            .kubectl
            .ok(&["wait", "--for=delete", what, "-l", label, "--timeout=60s"]);
    };
    deploy("orphans");
    story.prints(
        &["delete", "deployment", "orphans", "--cascade=orphan"],
        &["\"orphans\" deleted"],
    );
    story.prints(
        &["get", "replicasets,pods", "-l", "app=orphans"],
        &["replicaset.apps/orphans-", "pod/orphans-"],
    );
    assert_eq!(
        story.value(
            "replicasets",
            "--selector=app=orphans",
            ".items[0].metadata.ownerReferences"
        ),
        ""
    );
    story.kubectl.ok(&[
        "delete",
        "replicaset",
        "-l",
        "app=orphans",
        "--cascade=foreground",
        "--timeout=60s",
    ]);
    assert_eq!(
        story
            .kubectl
            .ok(&["get", "pods", "-l", "app=orphans", "-o", "name"]),
        ""
    );
    deploy("all");
    story
        .kubectl
        .ok(&["delete", "deployment", "all", "--cascade=background"]);
    gone("replicaset", "app=all");
    gone("pod", "app=all");
}

fn jobs_and_cron_jobs(story: &Story) {
    story.prints(
        &["create", "job", "j", "--image=i", "--", "true"],
        &["job.batch/j created"],
    );
    story.wait("job/j", "condition=Complete");
    story.prints(&["get", "jobs"], &["STATUS", "j ", "Complete", "1/1"]);
    story.prints(
        &["create", "cronjob", "c", "--image=i", "--schedule=*/5 * * * *"],
        &["cronjob.batch/c created"],
    );
    story.prints(
        &["create", "job", "now", "--from=cronjob/c"],
        &["job.batch/now created"],
    );
    assert_eq!(
        story.value("job", "now", ".metadata.ownerReferences[0].kind"),
        "CronJob"
    );
    story.is_refused(
        &["create", "cronjob", "never", "--image=i", "--schedule=often"],
        &["\"never\" is invalid: spec.schedule: Invalid value: \"often\""],
    );
}

fn watched(story: &Story) {
    let watch = story
        .kubectl
        .start(&["get", "configmaps", "--watch", "--output-watch-events"]);
    watch.wait_for_line("kube-root-ca.crt");
    story
        .kubectl
        .ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let added = watch.wait_for_line("m ");
    assert!(added.starts_with("ADDED"), "{added}");
    story.kubectl.ok(&["label", "configmap", "m", "a=b"]);
    let changed = watch.wait_for_line("m ");
    assert!(changed.starts_with("MODIFIED"), "{changed}");
    story.kubectl.ok(&["delete", "configmap", "m"]);
    let deleted = watch.wait_for_line("m ");
    assert!(deleted.starts_with("DELETED"), "{deleted}");
}

//! Whole lives of pods, each told as what its status said and when.

use serde_json::{Value, json};

use super::*;

/// A pod on a node, and the time.
struct Stage {
    pod: Pod,
    memory: Memory,
    now: Timestamp,
    began: Timestamp,
    told: Vec<String>,
}

fn pod(spec: &Value, annotations: &Value) -> Pod {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = "image".into();
        }
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1, "annotations": annotations},
        "spec": spec,
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }))
    .expect("a pod")
}

impl Stage {
    fn new(pod: Pod) -> Self {
        let now: Timestamp = "2030-01-01T00:00:00.5Z".parse().expect("a time");
        Self {
            pod,
            memory: Memory::default(),
            now,
            began: now,
            told: Vec::new(),
        }
    }

    /// Steps at every moment that the machine asks for, and says after how many milliseconds each became what.
    fn play(&mut self, until: Duration) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        let end = later(self.now, until);
        loop {
            let step = self.step();
            if step.status.is_some() || step.gone {
                let after = self.now.duration_since(self.began);
                let after = u64::try_from(after.as_millis()).expect("a time after the beginning");
                let gone = if step.gone { " gone" } else { "" };
                seen.push((after, format!("{}{gone}", self.tell())));
            }
            match step.due {
                Some(due) if due <= end && !step.gone => {
                    assert!(due > self.now, "*Driven*: the next look lies in the past");
                    self.now = due;
                }
                _ => {
                    self.now = end;
                    return seen;
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let host = Host {
            address: Ipv4Addr::new(172, 16, 0, 1),
            pod_address: Some(Ipv4Addr::new(10, 128, 0, 1)),
        };
        let step = step(&self.pod, host, &mut self.memory, self.now);
        if let Some(status) = &step.status {
            // As the server stores it: in whole seconds.
            let stored = serde_json::to_value(status).expect("a status");
            self.pod.status = serde_json::from_value(stored).expect("a status");
        }
        let notes = step.notes.iter();
        self.told.extend(notes.map(|(_, note)| note.reason.clone()));
        step
    }

    /// `PHASE ready: container=state …`
    fn tell(&self) -> String {
        let status = self.pod.status.clone().unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let containers = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten());
        let containers: Vec<String> = containers
            .map(|container| {
                let state = container.state.clone().unwrap_or_default();
                let state = match (state.running, state.waiting, state.terminated) {
                    (Some(_), ..) => "running".to_owned(),
                    (_, Some(waiting), _) => waiting.reason.unwrap_or_default(),
                    (.., Some(ended)) => format!("exit {}", ended.exit_code),
                    _ => "nothing".to_owned(),
                };
                format!("{}={state}/{}", container.name, container.restart_count)
            })
            .collect();
        format!(
            "{}{} {}",
            status.phase.unwrap_or_default(),
            if ready { " ready" } else { "" },
            containers.join(" ")
        )
    }

    fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(crate::clock::seconds(later(
            self.now,
            Duration::from_secs(u64::try_from(grace).unwrap_or_default()),
        )));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }
}

fn check(spec: &Value, annotations: &Value, until: u64, expected: &[(u64, &str)]) -> Stage {
    let mut stage = Stage::new(pod(spec, annotations));
    let seen = stage.play(Duration::from_secs(until));
    let seen: Vec<(u64, &str)> = seen.iter().map(|(at, what)| (*at, what.as_str())).collect();
    assert_eq!(seen, expected, "{spec} {annotations}");
    stage
}

#[test]
fn a_pod_is_ready_with_its_first_status() {
    let stage = check(
        &json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        &json!({}),
        100,
        &[(0, "Running ready a=running/0 b=running/0")],
    );
    let status = stage.pod.status.expect("a status");
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .flatten()
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect();
    let expected = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    assert_eq!(conditions, expected.map(|type_| (type_, "True")));
    assert_eq!(status.pod_ip.as_deref(), Some("10.128.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("172.16.0.1"));
    assert_eq!(
        stage.told,
        ["Pulled", "Created", "Started", "Pulled", "Created", "Started"]
    );
}

#[test]
fn delays_are_honoured_to_the_millisecond() {
    check(
        &json!({"containers": [{"name": "a", "readinessProbe": {"initialDelaySeconds": 2}}, {"name": "b"}]}),
        &json!({"trimtab.dev/start-after": "1500ms", "b.trimtab.dev/ready-after": "2.25s"}),
        100,
        &[
            (0, "Pending a=ContainerCreating/0 b=ContainerCreating/0"),
            (1500, "Running a=running/0 b=running/0"),
            (3500, "Running a=running/0 b=running/0"),
            (3750, "Running ready a=running/0 b=running/0"),
        ],
    );
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_go_on() {
    check(
        &json!({
            "restartPolicy": "Never",
            "initContainers": [
                {"name": "first"},
                {"name": "beside", "restartPolicy": "Always"},
                {"name": "last"},
            ],
            "containers": [{"name": "a"}],
        }),
        &json!({"first.trimtab.dev/run-for": "1s", "last.trimtab.dev/run-for": "2s", "trimtab.dev/run-for": "3s",
            "beside.trimtab.dev/run-for": "1h"}),
        100,
        &[
            (
                0,
                "Pending first=running/0 beside=PodInitializing/0 last=PodInitializing/0 a=PodInitializing/0",
            ),
            (
                1000,
                "Pending first=exit 0/0 beside=running/0 last=running/0 a=PodInitializing/0",
            ),
            (
                3000,
                "Running ready first=exit 0/0 beside=running/0 last=exit 0/0 a=running/0",
            ),
            (
                6000,
                "Succeeded first=exit 0/0 beside=exit 0/0 last=exit 0/0 a=exit 0/0",
            ),
        ],
    );
}

#[test]
fn crashes_back_off_as_kubelets_do() {
    let stage = check(
        &json!({"containers": [{"name": "a"}]}),
        &json!({"trimtab.dev/failures": "4", "trimtab.dev/exit-code": "3"}),
        10_000,
        &[
            (0, "Running ready a=running/0"),
            (1000, "Running ready a=running/1"),
            (2000, "Running a=CrashLoopBackOff/1"),
            (12_000, "Running ready a=running/2"),
            (13_000, "Running a=CrashLoopBackOff/2"),
            (33_000, "Running ready a=running/3"),
            (34_000, "Running a=CrashLoopBackOff/3"),
            (74_000, "Running ready a=running/4"),
        ],
    );
    let status = stage.pod.status.expect("a status");
    let container = &status.container_statuses.expect("statuses")[0];
    let last = container.last_state.clone().and_then(|last| last.terminated);
    assert_eq!(last.map(|ended| ended.exit_code), Some(3));
}

#[test]
fn ten_minutes_that_went_well_make_up_for_earlier_crashes() {
    let pod = pod(
        &json!({"containers": [{"name": "a"}]}),
        &json!({"trimtab.dev/run-for": "11m"}),
    );
    let mut stage = Stage::new(pod);
    // Each run is long enough to be forgiven, so no restart ever waits.
    let seen = stage.play(Duration::from_secs(60 * 60));
    assert!(seen.iter().all(|(_, what)| what.contains("running")), "{seen:?}");
}

#[test]
fn what_is_to_end_ends_as_its_policy_says() {
    let one = json!([{"name": "a"}]);
    for (policy, annotations, expected) in [
        (
            "Never",
            json!({"trimtab.dev/run-for": "1s"}),
            "Succeeded a=exit 0/0",
        ),
        (
            "Never",
            json!({"trimtab.dev/exit-code": "2"}),
            "Failed a=exit 2/0",
        ),
        (
            "OnFailure",
            json!({"trimtab.dev/run-for": "1s"}),
            "Succeeded a=exit 0/0",
        ),
        (
            "OnFailure",
            json!({"trimtab.dev/failures": "1", "trimtab.dev/run-for": "1s"}),
            "Running ready a=running/1",
        ),
        (
            "Never",
            json!({"trimtab.dev/pull-error": "no such image"}),
            "Pending a=ImagePullBackOff/0",
        ),
        (
            "Always",
            json!({"trimtab.dev/ready": "false"}),
            "Running a=running/0",
        ),
    ] {
        let mut stage = Stage::new(pod(
            &json!({"restartPolicy": policy, "containers": one}),
            &annotations,
        ));
        stage.play(Duration::from_secs(1000));
        assert_eq!(stage.tell(), expected, "{policy} {annotations}");
    }
    // A Job's pod ends without being told.
    let mut of_job = pod(&json!({"restartPolicy": "Never", "containers": one}), &json!({}));
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]);
    of_job.metadata.owner_references = serde_json::from_value(owner).expect("owners");
    let mut stage = Stage::new(of_job);
    let seen = stage.play(Duration::from_secs(10));
    assert_eq!(seen.last(), Some(&(1000, "Succeeded a=exit 0/0".to_owned())));
}

#[test]
fn pods_over_their_deadline_fail() {
    let stage = check(
        &json!({"containers": [{"name": "a"}], "activeDeadlineSeconds": 5}),
        &json!({}),
        100,
        &[(0, "Running ready a=running/0"), (5000, "Failed a=exit 0/0")],
    );
    let status = stage.pod.status.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn pods_go_when_their_containers_have_stopped_or_are_killed() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
    for (policy, annotations, grace, expected) in [
        // Nobody is told of the end of what is gone at the same moment.
        (
            "Always",
            json!({}),
            30,
            vec![(7000, "Running ready a=running/0 gone")],
        ),
        ("Never", json!({}), 30, vec![(7000, "Succeeded a=exit 0/0 gone")]),
        (
            "Always",
            json!({"trimtab.dev/stop-after": "3s"}),
            30,
            vec![(10_000, "Succeeded a=exit 0/0 gone")],
        ),
        (
            "Always",
            json!({"trimtab.dev/stop-after": "1h"}),
            30,
            vec![(37_000, "Failed a=exit 137/0 gone")],
        ),
    ] {
        let mut stage = Stage::new(pod(&spec(policy), &annotations));
        stage.play(Duration::from_secs(7));
        stage.delete(grace);
        let seen = stage.play(Duration::from_secs(100));
        let seen: Vec<(u64, &str)> = seen.iter().map(|(at, what)| (*at, what.as_str())).collect();
        assert_eq!(seen, expected, "{policy} {annotations}");
        assert!(stage.told.contains(&"Killing".to_owned()));
    }
}

#[test]
fn annotations_that_make_no_sense_are_told_once_and_left_aside() {
    let stage = check(
        &json!({"containers": [{"name": "a"}]}),
        &json!({"trimtab.dev/run-for": "soon", "trimtab.dev/ready-after": "1s"}),
        100,
        &[(0, "Running ready a=running/0")],
    );
    assert_eq!(
        stage
            .told
            .iter()
            .filter(|reason| *reason == "InvalidSimulation")
            .count(),
        1
    );
    let wrong = Behaviour::of(&stage.pod, "a", Role::Main).map_err(|wrong| wrong.to_string());
    assert_eq!(
        wrong,
        Err("annotation trimtab.dev/run-for: \"soon\" is not a duration, such as 500ms or 1m30s".to_owned())
    );
}

#[test]
fn a_lost_memory_costs_fractions_of_seconds_only() {
    let spec = json!({"containers": [{"name": "a"}]});
    let annotations = json!({"trimtab.dev/run-for": "1s", "trimtab.dev/exit-code": "1"});
    let ends = |forget: bool| {
        let mut stage = Stage::new(pod(&spec, &annotations));
        for _ in 0..200 {
            stage.play(Duration::from_millis(250));
            if forget {
                stage.memory = Memory::default();
            }
        }
        stage.tell()
    };
    assert_eq!(ends(true), ends(false), "*Level-triggered*");
}

#[test]
fn resizes_and_ephemeral_containers_take_effect_at_once() {
    let spec = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]});
    let mut stage = Stage::new(pod(&spec, &json!({})));
    stage.play(Duration::from_secs(1));
    let mut resized = serde_json::to_value(&stage.pod).expect("a pod");
    resized["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    resized["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
    stage.pod = serde_json::from_value(resized).expect("a pod");
    stage.play(Duration::from_secs(1));
    let status = serde_json::to_value(stage.pod.status).expect("a status");
    assert_eq!(
        status["containerStatuses"][0]["resources"]["requests"]["cpu"],
        "2"
    );
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "2");
    assert!(status["ephemeralContainerStatuses"][0]["state"]["running"].is_object());
}

//! A pod's phase and conditions, computed from the statuses of its containers as kubelets do.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};

use crate::clock::seconds;

/// The phase of a pod that may have more to do.
pub(crate) fn phase(spec: &PodSpec, policy: &str, status: &PodStatus, initialized: bool) -> String {
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let (mut running, mut waiting, mut stopped, mut succeeded, mut may_restart) = (0, 0, 0, 0, 0);
    for found in statuses {
        let state = found.state.clone().unwrap_or_default();
        let last = found.last_state.clone().unwrap_or_default().terminated;
        match (state.running, state.terminated, last) {
            (Some(_), ..) => running += 1,
            (None, Some(ended), _) => {
                stopped += 1;
                succeeded += usize::from(ended.exit_code == 0);
                may_restart += usize::from(restarts(spec, &found.name, policy, ended.exit_code));
            }
            (None, None, Some(ended)) => {
                stopped += 1;
                may_restart += 1;
                succeeded += usize::from(ended.exit_code == 0);
            }
            (None, None, None) => waiting += 1,
        }
    }
    let phase = if !initialized {
        let failed = status.init_container_statuses.iter().flatten().any(|found| {
            let ended = found.state.clone().unwrap_or_default().terminated;
            ended.is_some_and(|ended| {
                ended.exit_code != 0 && !restarts(spec, &found.name, policy, ended.exit_code)
            })
        });
        if failed { "Failed" } else { "Pending" }
    } else if waiting > 0 {
        "Pending"
    } else if running > 0 || stopped == 0 || may_restart > 0 {
        "Running"
    } else if stopped == succeeded {
        "Succeeded"
    } else {
        "Failed"
    };
    phase.to_owned()
}

/// The phase of a pod whose containers have all ended for good.
pub(crate) fn phase_of_ended(status: &PodStatus) -> String {
    let failed = status.container_statuses.iter().flatten().any(|found| {
        let ended = found.state.clone().unwrap_or_default().terminated;
        ended.is_none_or(|ended| ended.exit_code != 0)
    });
    if failed { "Failed" } else { "Succeeded" }.to_owned()
}

fn restarts(spec: &PodSpec, name: &str, policy: &str, exit_code: i32) -> bool {
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let own = all
        .find(|container| container.name == name)
        .and_then(|container| container.restart_policy.as_deref());
    match own.unwrap_or(policy) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// One condition as it should be.
struct Wanted {
    type_: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// Sets the conditions that kubelets set, in their order, and leaves others alone.
pub(crate) fn set_all(status: &mut PodStatus, pod: &Pod, now: Timestamp) {
    let over = match status.phase.as_deref() {
        Some("Succeeded") => Some("PodCompleted"),
        Some("Failed") => Some("PodFailed"),
        _ => None,
    };
    let wanted = [
        Wanted::plain("PodReadyToStartContainers", over.is_none()),
        initialized(status, pod),
        ready(status, pod, over),
        containers_ready(status, pod, over).named("ContainersReady"),
        Wanted::plain("PodScheduled", true),
    ];
    let conditions = status.conditions.get_or_insert_default();
    for wanted in wanted {
        let truth = if wanted.status { "True" } else { "False" };
        let found = conditions
            .iter_mut()
            .find(|condition| condition.type_ == wanted.type_);
        let mut new = PodCondition {
            type_: wanted.type_.to_owned(),
            status: truth.to_owned(),
            reason: wanted.reason.map(str::to_owned),
            message: wanted.message,
            observed_generation: pod.metadata.generation,
            last_probe_time: None,
            last_transition_time: Some(seconds(now)),
        };
        match found {
            // The scheduler's word, not the kubelet's.
            Some(found) if found.type_ == "PodScheduled" && found.status == truth => {}
            Some(found) => {
                if found.status == new.status {
                    new.last_transition_time = found.last_transition_time.take();
                }
                *found = new;
            }
            None => conditions.push(new),
        }
    }
}

impl Wanted {
    fn plain(type_: &'static str, status: bool) -> Self {
        Self {
            type_,
            status,
            reason: None,
            message: None,
        }
    }

    fn not(type_: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self {
            type_,
            status: false,
            reason: Some(reason),
            message,
        }
    }

    fn named(self, type_: &'static str) -> Self {
        Self { type_, ..self }
    }
}

fn initialized(status: &PodStatus, pod: &Pod) -> Wanted {
    const TYPE: &str = "Initialized";
    if status.phase.as_deref() == Some("Succeeded") {
        return Wanted {
            reason: Some("PodCompleted"),
            ..Wanted::plain(TYPE, true)
        };
    }
    let statuses = status.container_statuses.iter().flatten();
    if statuses.clone().any(|found| found.container_id.is_some()) {
        return Wanted::plain(TYPE, true);
    }
    let found = status.init_container_statuses.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let init = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            let found = found.iter().find(|found| found.name == container.name);
            !found.is_some_and(|found| {
                if sidecar {
                    found.started == Some(true)
                } else {
                    found.ready
                }
            })
        })
        .map(|container| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Wanted::plain(TYPE, true);
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Wanted::not(TYPE, "ContainersNotInitialized", Some(message))
}

fn containers_ready(status: &PodStatus, pod: &Pod, over: Option<&'static str>) -> Wanted {
    const TYPE: &str = "ContainersReady";
    if let Some(over) = over {
        return Wanted::not(TYPE, over, None);
    }
    let spec = pod.spec.as_ref();
    let is_sidecar = |name: &str| {
        spec.and_then(|spec| spec.init_containers.as_ref())
            .into_iter()
            .flatten()
            .any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten();
    let sidecars = sidecars.filter(|found| is_sidecar(&found.name));
    let unready: Vec<&str> = sidecars
        .chain(status.container_statuses.iter().flatten())
        .filter(|found: &&ContainerStatus| !found.ready)
        .map(|found| found.name.as_str())
        .collect();
    if unready.is_empty() {
        return Wanted::plain(TYPE, true);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Wanted::not(TYPE, "ContainersNotReady", Some(message))
}

fn ready(status: &PodStatus, pod: &Pod, over: Option<&'static str>) -> Wanted {
    const TYPE: &str = "Ready";
    let of_containers = containers_ready(status, pod, over);
    if !of_containers.status {
        return of_containers.named(TYPE);
    }
    let spec = pod.spec.as_ref();
    let gates = spec.and_then(|spec| spec.readiness_gates.as_ref());
    let missing: Vec<String> = gates
        .into_iter()
        .flatten()
        .filter_map(|gate| {
            let mut conditions = status.conditions.iter().flatten();
            let type_ = &gate.condition_type;
            match conditions.find(|condition| condition.type_ == *type_) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{type_}\" does not exist."
                )),
                Some(found) if found.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{type_}\" is not \"True\", but {}",
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() {
        return Wanted::plain(TYPE, true);
    }
    Wanted::not(TYPE, "ReadinessGatesNotReady", Some(missing.join(", ")))
}

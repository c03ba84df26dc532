//! One container's life as a state machine over its status: waiting, running, ended, started again after a backoff.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod,
};
use kube::ResourceExt;
use trimtab_client_coordination::events::Note;

use super::behaviour::{Behaviour, Role};
use crate::clock::{later, seconds};

/// The wait before the second restart; doubled by each further one. The kubelet's figure; the first restart waits for
/// nothing.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The limit of the doubling. The kubelet's figure.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A container that ran for longer than this begins anew with the waits. The kubelet's figure: twice the longest.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

const CREATING: &str = "ContainerCreating";
const INITIALIZING: &str = "PodInitializing";
const CRASHING: &str = "CrashLoopBackOff";
const PULLING_FAILS: &str = "ErrImagePull";
const PULLING_WAITS: &str = "ImagePullBackOff";
/// What a container exits with that had to be killed.
const KILLED: i32 = 137;

/// What is remembered of a container beyond its status, whose times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it came into its present state.
    pub(crate) since: Timestamp,
    /// How many restarts the next wait counts.
    pub(crate) restarts: i32,
}

/// A container of a pod, and what it is to do.
#[derive(Debug)]
pub(crate) struct Actor<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) role: Role,
    pub(crate) behaviour: Behaviour,
}

impl Actor<'_> {
    /// The status of a container that has not been started.
    pub(crate) fn unstarted(&self, initializing: bool) -> ContainerStatus {
        let reason = if initializing { INITIALIZING } else { CREATING };
        ContainerStatus {
            name: self.container.name.clone(),
            image: self.container.image.clone().unwrap_or_default(),
            state: Some(waiting(reason, None)),
            started: Some(false),
            ..ContainerStatus::default()
        }
    }

    /// Lets the container live until `now`. It may start from `start` on, if that is known. Returns when it has to be looked
    /// at again.
    pub(crate) fn advance(
        &self,
        status: &mut ContainerStatus,
        life: &mut Option<Life>,
        start: Option<Timestamp>,
        now: Timestamp,
        notes: &mut Vec<Note>,
    ) -> Option<Timestamp> {
        loop {
            let state = status.state.clone().unwrap_or_default();
            if let Some(running) = state.running {
                let life = life.get_or_insert_with(|| Life {
                    since: running.started_at.map_or(now, |at| at.0),
                    restarts: status.restart_count,
                });
                let since = life.since;
                let due = match self.behaviour.run(status.restart_count) {
                    Some((run_for, exit_code)) => {
                        let ends = later(since, run_for);
                        if ends <= now {
                            self.exit(status, life, ends, exit_code);
                            continue;
                        }
                        Some(ends)
                    }
                    None => None,
                };
                let readiness = self.readiness(status, since, now);
                return soonest(due, readiness);
            }
            if let Some(ended) = state.terminated {
                if !self.restarts(ended.exit_code) {
                    return None;
                }
                let life = life.get_or_insert_with(|| Life {
                    since: ended.finished_at.as_ref().map_or(now, |at| at.0),
                    restarts: status.restart_count,
                });
                let wait = backoff(life.restarts);
                status.last_state = Some(ContainerState {
                    terminated: Some(ended),
                    ..ContainerState::default()
                });
                let at = later(life.since, wait);
                if at > now {
                    status.state = Some(waiting(CRASHING, Some(self.back_off(wait))));
                    notes.push(Note::warning(
                        "BackOff",
                        "BackOff",
                        format!(
                            "Back-off restarting failed container {} in pod {}",
                            self.container.name,
                            full_name(self.pod)
                        ),
                    ));
                    return Some(at);
                }
                self.restart(status, life, at, notes);
                continue;
            }
            if status
                .last_state
                .as_ref()
                .is_some_and(|last| last.terminated.is_some())
            {
                // It waits for its restart.
                let ended = status
                    .last_state
                    .as_ref()
                    .and_then(|last| last.terminated.as_ref());
                let finished = ended.and_then(|ended| ended.finished_at.as_ref());
                let life = life.get_or_insert_with(|| Life {
                    since: finished.map_or(now, |at| at.0),
                    restarts: status.restart_count,
                });
                let at = later(life.since, backoff(life.restarts));
                if at > now {
                    return Some(at);
                }
                self.restart(status, life, at, notes);
                continue;
            }
            let start = start?;
            if start > now {
                status.state = Some(waiting(CREATING, None));
                return Some(start);
            }
            if let Some(why) = &self.behaviour.pull_error {
                return self.fail_to_pull(status, life, why, now, notes);
            }
            // An image that could not be had until now is had now.
            let at = if life.is_some() { now } else { start };
            *life = Some(Life {
                since: at,
                restarts: 0,
            });
            self.start(status, at, notes);
        }
    }

    /// Ends the container because its pod is to go: it takes as long as it says, or is killed at `deadline`.
    pub(crate) fn stop(&self, status: &mut ContainerStatus, told: Timestamp, deadline: Timestamp) {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        if !running {
            return;
        }
        let by_itself = later(told, self.behaviour.stop_after);
        let (at, exit_code) = if by_itself > deadline {
            (deadline, KILLED)
        } else {
            (by_itself, 0)
        };
        let mut life = Life {
            since: at,
            restarts: 0,
        };
        self.exit(status, &mut life, at, exit_code);
    }

    /// Whether it is started again after it has exited like that.
    pub(crate) fn restarts(&self, exit_code: i32) -> bool {
        if self.role == Role::Ephemeral {
            return false;
        }
        let rules = self.container.restart_policy_rules.iter().flatten();
        for rule in rules {
            let Some(codes) = &rule.exit_codes else { continue };
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            if listed == (codes.operator == "In") && rule.action.starts_with("Restart") {
                return true;
            }
        }
        let spec = self.pod.spec.as_ref();
        let of_pod = spec.and_then(|spec| spec.restart_policy.as_deref());
        let policy = self.container.restart_policy.as_deref().or(of_pod);
        match policy.unwrap_or("Always") {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            // An init container that has done its work is not started again.
            _ => self.role != Role::Init || exit_code != 0,
        }
    }

    fn start(&self, status: &mut ContainerStatus, at: Timestamp, notes: &mut Vec<Note>) {
        let image = self.container.image.clone().unwrap_or_default();
        let uid = self.pod.uid().unwrap_or_default();
        notes.push(Note::normal(
            "Pulled",
            "Pulling",
            format!("Container image \"{image}\" already present on machine"),
        ));
        notes.push(Note::normal("Created", "Creating", "Container created"));
        notes.push(Note::normal("Started", "Starting", "Container started"));
        status.container_id = Some(format!(
            "simulated://{uid}/{}/{}",
            self.container.name, status.restart_count
        ));
        status.image_id.clone_from(&image);
        status.image = image;
        status.state = Some(ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(seconds(at)),
            }),
            ..ContainerState::default()
        });
        status.ready = false;
    }

    fn restart(&self, status: &mut ContainerStatus, life: &mut Life, at: Timestamp, notes: &mut Vec<Note>) {
        status.restart_count = status.restart_count.saturating_add(1);
        life.restarts = life.restarts.saturating_add(1);
        life.since = at;
        self.start(status, at, notes);
    }

    fn exit(&self, status: &mut ContainerStatus, life: &mut Life, at: Timestamp, exit_code: i32) {
        let state = status.state.take().unwrap_or_default();
        let started_at = state.running.and_then(|running| running.started_at);
        let ran_for = at.duration_since(life.since);
        if Duration::try_from(ran_for).is_ok_and(|ran_for| ran_for > FORGIVEN_AFTER) {
            life.restarts = 0;
        }
        life.since = at;
        status.ready = self.role == Role::Init && exit_code == 0;
        status.started = Some(false);
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: status.container_id.clone(),
                exit_code,
                finished_at: Some(seconds(at)),
                message: self.behaviour.exit_message.clone(),
                reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
                started_at,
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    }

    /// Sets what probes would have found out by now, and says when they will find something else.
    fn readiness(&self, status: &mut ContainerStatus, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let delay = |probe: Option<&k8s_openapi::api::core::v1::Probe>| {
            let seconds = probe.and_then(|probe| probe.initial_delay_seconds).unwrap_or(0);
            Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let started = later(since, delay(self.container.startup_probe.as_ref()));
        let probed = later(since, delay(self.container.readiness_probe.as_ref()));
        let ready = later(since, self.behaviour.ready_after).max(probed).max(started);
        status.started = Some(started <= now);
        if matches!(self.role, Role::Init | Role::Ephemeral) {
            status.ready = false;
            return None;
        }
        status.ready = self.behaviour.ready && ready <= now;
        [Some(started), self.behaviour.ready.then_some(ready)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn fail_to_pull(
        &self,
        status: &mut ContainerStatus,
        life: &mut Option<Life>,
        why: &str,
        now: Timestamp,
        notes: &mut Vec<Note>,
    ) -> Option<Timestamp> {
        let image = self.container.image.as_deref().unwrap_or_default();
        let first = life.get_or_insert(Life {
            since: now,
            restarts: 0,
        });
        let given_up = later(first.since, FIRST_BACKOFF);
        let before = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let before = before
            .and_then(|waiting| waiting.reason.clone())
            .unwrap_or_default();
        if given_up > now && before != PULLING_WAITS {
            if before != PULLING_FAILS {
                let message = format!("Failed to pull image \"{image}\": {why}");
                notes.push(Note::warning("Failed", "Pulling", message));
            }
            status.state = Some(waiting(PULLING_FAILS, Some(why.to_owned())));
            return Some(given_up);
        }
        if before != PULLING_WAITS {
            let message = format!("Back-off pulling image \"{image}\"");
            notes.push(Note::normal("BackOff", "Pulling", message));
        }
        let message = format!("Back-off pulling image \"{image}\": {PULLING_FAILS}: {why}");
        status.state = Some(waiting(PULLING_WAITS, Some(message)));
        None
    }

    fn back_off(&self, wait: Duration) -> String {
        format!(
            "back-off {} restarting failed container={} pod={}",
            kubernetes_duration(wait),
            self.container.name,
            full_name(self.pod)
        )
    }
}

/// How long the restart waits that follows so many.
fn backoff(restarts: i32) -> Duration {
    match u32::try_from(restarts) {
        Ok(0) | Err(_) => Duration::ZERO,
        Ok(restarts) => {
            let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(restarts - 1));
            doubled.min(LONGEST_BACKOFF)
        }
    }
}

pub(crate) fn soonest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// As Go writes whole seconds: `10s`, `1m20s`, `5m0s`.
fn kubernetes_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// A pod as kubelets write it: `name_namespace(uid)`.
fn full_name(pod: &Pod) -> String {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    format!("{name}_{namespace}({})", pod.uid().unwrap_or_default())
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

//! A pod's life on its node as a state machine: the pod as it is and the time in, the status that it should have and when
//! to look again out. No I/O.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, EphemeralContainer, HostIP, Pod, PodIP, PodSpec, PodStatus,
};
use kube::ResourceExt;
use trimtab_client_coordination::events::Note;

use super::behaviour::{self, Behaviour, Role, Unreadable};
use super::conditions;
use super::container::{Actor, Life, soonest};
use crate::clock::{later, seconds};

/// What is remembered of a pod while its status has more to become. It may be lost at any time: then times are those of the
/// status, in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    lives: BTreeMap<String, Life>,
    /// When its node first saw it.
    begun: Option<Timestamp>,
    /// When its node first saw that it is to go.
    told_to_stop: Option<Timestamp>,
    complained: bool,
}

/// Where a pod runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// The node's address.
    pub(crate) address: Ipv4Addr,
    /// The pod's, if it has one of its own.
    pub(crate) pod_address: Option<Ipv4Addr>,
}

/// What is to be done about a pod now.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The status that it should have, if it has another.
    pub(crate) status: Option<PodStatus>,
    /// When to look again, if nothing happens before.
    pub(crate) due: Option<Timestamp>,
    /// What has happened, and to which part of the pod.
    pub(crate) notes: Vec<(Option<String>, Note)>,
    /// All that ran has ended, and the pod is to be deleted.
    pub(crate) gone: bool,
}

/// What a pod should be by now.
pub(crate) fn step(pod: &Pod, host: Host, memory: &mut Memory, now: Timestamp) -> Step {
    let mut step = Step::default();
    let (Some(spec), old) = (pod.spec.as_ref(), pod.status.clone().unwrap_or_default()) else {
        return step;
    };
    let deleting = pod.metadata.deletion_timestamp.is_some();
    if has_ended(&old) {
        step.gone = deleting;
        return step;
    }
    let mut cast = match Cast::new(pod, spec) {
        Ok(cast) => cast,
        Err(unreadable) => {
            if !std::mem::replace(&mut memory.complained, true) {
                let note = Note::warning("InvalidSimulation", "Simulating", unreadable.to_string());
                step.notes.push((None, note));
            }
            Cast::usual(pod, spec)
        }
    };
    let mut status = old.clone();
    let begun = *memory
        .begun
        .get_or_insert_with(|| old.start_time.as_ref().map_or(now, |at| at.0));
    settle_in(&mut status, spec, host, begun);

    let told = deleting.then(|| *memory.told_to_stop.get_or_insert(now));
    let deadline = spec
        .active_deadline_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|seconds| later(begun, Duration::from_secs(seconds)));
    let live_until = told.into_iter().chain(deadline).fold(now, Timestamp::min);

    let (due, initialized) = cast.play(&mut status, memory, begun, live_until, &mut step.notes);
    step.due = due;
    let mut phase = conditions::phase(spec, &cast.policy(), &status, initialized);
    if let Some(told) = told {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let (last, killed) = cast.curtain(&status, told, later(told, grace));
        if killed > now {
            step.due = Some(killed);
            if memory.told_to_stop == Some(now) {
                cast.announce(&status, &mut step.notes);
            }
        } else {
            if memory.told_to_stop == Some(now) {
                cast.announce(&status, &mut step.notes);
            }
            step.due = None;
            step.gone = true;
            status = last;
            phase = conditions::phase_of_ended(&status);
        }
    } else if deadline.is_some_and(|deadline| deadline <= now) && !is_over(&phase) {
        cast.announce(&status, &mut step.notes);
        status = cast.curtain(&status, now, now).0;
        phase = "Failed".to_owned();
        status.reason = Some("DeadlineExceeded".to_owned());
        status.message = Some("Pod was active on the node longer than the specified deadline".to_owned());
        let message = "Pod was active on the node longer than the specified deadline";
        let note = Note::normal("DeadlineExceeded", "Killing", message);
        step.notes.push((None, note));
        step.due = None;
    } else if is_over(&phase) {
        // Sidecars end with what they are beside.
        status = cast.curtain(&status, now, now).0;
        step.due = None;
    } else {
        step.due = soonest(step.due, deadline);
    }
    status.phase = Some(phase);
    status.observed_generation = pod.metadata.generation;
    conditions::set_all(&mut status, pod, now);
    // A pod that nobody can see the end of goes without a word.
    let seen = !step.gone
        || told.is_some_and(|told| told < now)
        || !pod.finalizers().is_empty()
        || cast.policy() != "Always";
    step.status = (status != old && seen).then_some(status);
    step
}

/// Whether the pod has reached a phase that it cannot leave.
pub(crate) fn has_ended(status: &PodStatus) -> bool {
    is_over(status.phase.as_deref().unwrap_or_default())
}

fn is_over(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// What a pod has from the first moment on.
fn settle_in(status: &mut PodStatus, spec: &PodSpec, host: Host, begun: Timestamp) {
    status.start_time.get_or_insert_with(|| seconds(begun));
    let address = host.address.to_string();
    status.host_ips = Some(vec![HostIP { ip: address.clone() }]);
    let own = match host.pod_address {
        _ if spec.host_network == Some(true) => Some(address.clone()),
        own => own.map(|own| own.to_string()),
    };
    status.host_ip = Some(address);
    if let Some(own) = own {
        status.pod_ips = Some(vec![PodIP { ip: own.clone() }]);
        status.pod_ip = Some(own);
    }
}

// === Cast ===

/// A pod's containers with what they are to do.
struct Cast<'a> {
    init: Vec<Actor<'a>>,
    main: Vec<Actor<'a>>,
    /// With the containers that they are made of.
    ephemeral: Vec<(Container, Behaviour)>,
    pod: &'a Pod,
    start_after: Duration,
}

impl<'a> Cast<'a> {
    fn new(pod: &'a Pod, spec: &'a PodSpec) -> Result<Self, Unreadable> {
        Self::with(pod, spec, behaviour::start_after(pod)?, |name, role| {
            Behaviour::of(pod, name, role)
        })
    }

    /// As if there were no annotations.
    fn usual(pod: &'a Pod, spec: &'a PodSpec) -> Self {
        let mut bare = Pod::default();
        bare.metadata
            .owner_references
            .clone_from(&pod.metadata.owner_references);
        let cast = Self::with(pod, spec, Duration::ZERO, |name, role| {
            Behaviour::of(&bare, name, role)
        });
        cast.unwrap_or_else(|_| Self {
            init: Vec::new(),
            main: Vec::new(),
            ephemeral: Vec::new(),
            pod,
            start_after: Duration::ZERO,
        })
    }

    fn with(
        pod: &'a Pod,
        spec: &'a PodSpec,
        start_after: Duration,
        behaviour: impl Fn(&str, Role) -> Result<Behaviour, Unreadable>,
    ) -> Result<Self, Unreadable> {
        let actor = |container: &'a Container, role| {
            let behaviour = behaviour(&container.name, role)?;
            Ok(Actor {
                pod,
                container,
                role,
                behaviour,
            })
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            actor(container, if sidecar { Role::Sidecar } else { Role::Init })
        });
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| {
            let behaviour = behaviour(&container.name, Role::Ephemeral)?;
            Ok((plain(container), behaviour))
        });
        Ok(Self {
            init: init.collect::<Result<_, _>>()?,
            main: spec
                .containers
                .iter()
                .map(|container| actor(container, Role::Main))
                .collect::<Result<_, _>>()?,
            ephemeral: ephemeral.collect::<Result<_, _>>()?,
            pod,
            start_after,
        })
    }

    fn policy(&self) -> String {
        let spec = self.pod.spec.as_ref();
        let policy = spec.and_then(|spec| spec.restart_policy.clone());
        policy.unwrap_or_else(|| "Always".to_owned())
    }

    /// Lets all containers live until `now`: those that run first one after the other, the others after them. Returns when
    /// to look again, and whether those that run first have done their work.
    fn play(
        &mut self,
        status: &mut PodStatus,
        memory: &mut Memory,
        begun: Timestamp,
        now: Timestamp,
        notes: &mut Vec<(Option<String>, Note)>,
    ) -> (Option<Timestamp>, bool) {
        let mut due = None;
        // When the next container may start, if that is known.
        let mut next = Some(later(begun, self.start_after));
        let mut init = Vec::new();
        let pending = status.container_statuses.iter().flatten().all(|container| {
            container.container_id.is_none() // once they ran, what ran first is over
        });
        for actor in &self.init {
            let mut found = find(status.init_container_statuses.as_deref(), &actor.container.name)
                .unwrap_or_else(|| actor.unstarted(true));
            let at = self.live(actor, &mut found, memory, next, now, "initContainers", notes);
            due = soonest(due, at);
            next = match actor.role {
                Role::Sidecar if found.started == Some(true) => next.map(|_| begun_at(&found, memory, now)),
                Role::Init if ended_well(&found) => {
                    next.map(|_| memory.lives.get(&found.name).map_or(now, |life| life.since))
                }
                _ => None,
            };
            init.push(found);
        }
        let initialized = next.is_some() || !pending;
        let mut main = Vec::new();
        let start = if pending { next } else { Some(begun) };
        for actor in &self.main {
            let mut found = find(status.container_statuses.as_deref(), &actor.container.name)
                .unwrap_or_else(|| actor.unstarted(!self.init.is_empty()));
            let at = self.live(actor, &mut found, memory, start, now, "containers", notes);
            due = soonest(due, at);
            main.push(found);
        }
        let mut beside = Vec::new();
        for (container, behaviour) in &self.ephemeral {
            let actor = Actor {
                pod: self.pod,
                container,
                role: Role::Ephemeral,
                behaviour: behaviour.clone(),
            };
            let mut found = find(status.ephemeral_container_statuses.as_deref(), &container.name)
                .unwrap_or_else(|| actor.unstarted(false));
            let start = if main.iter().any(|main| main.container_id.is_some()) {
                Some(now)
            } else {
                None
            };
            let at = self.live(
                &actor,
                &mut found,
                memory,
                start,
                now,
                "ephemeralContainers",
                notes,
            );
            due = soonest(due, at);
            beside.push(found);
        }
        let set = |found: Vec<ContainerStatus>| (!found.is_empty()).then_some(found);
        status.init_container_statuses = set(init);
        status.container_statuses = set(main);
        status.ephemeral_container_statuses = set(beside);
        (due, initialized)
    }

    #[allow(clippy::too_many_arguments)] // one call of the container's machine, with where its outcome goes
    fn live(
        &self,
        actor: &Actor<'_>,
        status: &mut ContainerStatus,
        memory: &mut Memory,
        start: Option<Timestamp>,
        now: Timestamp,
        list: &str,
        notes: &mut Vec<(Option<String>, Note)>,
    ) -> Option<Timestamp> {
        let name = &actor.container.name;
        let mut life = memory.lives.remove(name);
        let mut told = Vec::new();
        let due = actor.advance(status, &mut life, start, now, &mut told);
        if let Some(life) = life {
            memory.lives.insert(name.clone(), life);
        }
        if status.container_id.is_some() {
            // What was asked for is given at once: the node is not asked whether it has as much.
            status.resources.clone_from(&actor.container.resources);
            let requests = actor.container.resources.as_ref();
            status.allocated_resources = requests.and_then(|resources| resources.requests.clone());
        }
        let part = format!("spec.{list}{{{name}}}");
        notes.extend(told.into_iter().map(|note| (Some(part.clone()), note)));
        due
    }

    /// The status once everything has been told to stop, and when that is.
    fn curtain(&self, status: &PodStatus, told: Timestamp, deadline: Timestamp) -> (PodStatus, Timestamp) {
        let mut last = status.clone();
        let mut end = told;
        let mut stop = |actor: &Actor<'_>, statuses: &mut Option<Vec<ContainerStatus>>| {
            let found = statuses.iter_mut().flatten();
            for status in found.filter(|status| status.name == actor.container.name) {
                if status.state.as_ref().is_some_and(|state| state.running.is_some()) {
                    end = end.max(later(told, actor.behaviour.stop_after).min(deadline));
                }
                actor.stop(status, told, deadline);
            }
        };
        for actor in &self.init {
            stop(actor, &mut last.init_container_statuses);
        }
        for actor in &self.main {
            stop(actor, &mut last.container_statuses);
        }
        for (container, behaviour) in &self.ephemeral {
            let actor = Actor {
                pod: self.pod,
                container,
                role: Role::Ephemeral,
                behaviour: behaviour.clone(),
            };
            stop(&actor, &mut last.ephemeral_container_statuses);
        }
        (last, end)
    }

    /// Says of all that runs that it is told to stop.
    fn announce(&self, status: &PodStatus, notes: &mut Vec<(Option<String>, Note)>) {
        for found in status.container_statuses.iter().flatten() {
            if found.state.as_ref().is_some_and(|state| state.running.is_some()) {
                let message = format!("Stopping container {}", found.name);
                let part = format!("spec.containers{{{}}}", found.name);
                notes.push((Some(part), Note::normal("Killing", "Stopping", message)));
            }
        }
    }
}

fn find(statuses: Option<&[ContainerStatus]>, name: &str) -> Option<ContainerStatus> {
    let mut found = statuses.unwrap_or_default().iter();
    found.find(|status| status.name == name).cloned()
}

fn begun_at(status: &ContainerStatus, memory: &Memory, now: Timestamp) -> Timestamp {
    memory.lives.get(&status.name).map_or(now, |life| life.since)
}

fn ended_well(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    let ended = state.and_then(|state| state.terminated.as_ref());
    ended.is_some_and(|ended| ended.exit_code == 0)
}

fn plain(container: &EphemeralContainer) -> Container {
    Container {
        name: container.name.clone(),
        image: container.image.clone(),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests;

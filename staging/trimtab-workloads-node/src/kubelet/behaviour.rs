//! What a pod's annotations ask of its simulation.
//!
//! `trimtab.dev/FIELD` is about the pod's containers other than init containers; `CONTAINER.trimtab.dev/FIELD` is about that
//! container alone, of whatever sort, and goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// The domain of the annotations.
pub(crate) const DOMAIN: &str = "trimtab.dev";

/// How long a Job's containers run unless told otherwise. KWOK's figure.
const JOB_RUNS_FOR: Duration = Duration::from_secs(1);

/// What one container does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// `run-for`: how long it runs before it exits; for ever if not given.
    pub(crate) run_for: Option<Duration>,
    /// `exit-code`: what it exits with.
    pub(crate) exit_code: i32,
    /// `failures`: how many times it exits like that; after that it does as a container that was told nothing.
    pub(crate) failures: Option<i32>,
    /// `exit-message`: its last words.
    pub(crate) exit_message: Option<String>,
    /// `ready-after`: how long after its start it is ready.
    pub(crate) ready_after: Duration,
    /// `ready`: whether it ever is.
    pub(crate) ready: bool,
    /// `pull-error`: why its image cannot be had.
    pub(crate) pull_error: Option<String>,
    /// `stop-after`: how long it takes to exit when it is told to.
    pub(crate) stop_after: Duration,
    /// What it does once it has failed often enough.
    pub(crate) afterwards: Option<Duration>,
}

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {value:?} is not {wanted}")]
pub(crate) struct Unreadable {
    key: String,
    value: String,
    wanted: &'static str,
}

/// What sort of container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the pod's containers start.
    Init,
    /// Starts among the init containers and keeps running.
    Sidecar,
    /// One of the pod's containers.
    Main,
    /// Was added to look at the others.
    Ephemeral,
}

/// How long after it was bound a pod's first container starts: `start-after`.
pub(crate) fn start_after(pod: &Pod) -> Result<Duration, Unreadable> {
    let mut reader = Reader::new(pod, "", false);
    let found = reader.duration("start-after").unwrap_or_default();
    reader.finish(found)
}

impl Behaviour {
    /// What the annotations ask of one of the pod's containers.
    pub(crate) fn of(pod: &Pod, container: &str, role: Role) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(pod, container, role == Role::Init || role == Role::Ephemeral);
        let to_the_end = role == Role::Init || (role == Role::Main && is_of_job(pod));
        let usual = match role {
            Role::Init => Some(Duration::ZERO),
            _ => to_the_end.then_some(JOB_RUNS_FOR),
        };
        let exit_code = reader.number("exit-code");
        let failures = reader.number("failures");
        let fails = exit_code.is_some() || failures.is_some();
        let run_for = reader.duration("run-for");
        let behaviour = Self {
            run_for: run_for.or(usual).or(fails.then_some(JOB_RUNS_FOR)),
            exit_code: exit_code.unwrap_or(i32::from(failures.is_some())),
            failures,
            exit_message: reader.text("exit-message"),
            ready_after: reader.duration("ready-after").unwrap_or_default(),
            ready: reader.truth("ready").unwrap_or(true),
            pull_error: reader.text("pull-error"),
            stop_after: reader.duration("stop-after").unwrap_or_default(),
            afterwards: usual,
        };
        reader.finish(behaviour)
    }

    /// How the run ends that follows so many restarts: after how long, and with which exit code. `None`: it does not end.
    pub(crate) fn run(&self, restarts: i32) -> Option<(Duration, i32)> {
        if self.failures.is_some_and(|failures| restarts >= failures) {
            return self.afterwards.map(|run_for| (run_for, 0));
        }
        self.run_for.map(|run_for| (run_for, self.exit_code))
    }
}

fn is_of_job(pod: &Pod) -> bool {
    let owners = pod.owner_references().iter();
    owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| owner.kind == "Job" && owner.api_version.starts_with("batch/"))
}

/// Reads annotations and keeps the first that is wrong.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    container: &'a str,
    only_own: bool,
    wrong: Option<Unreadable>,
}

impl<'a> Reader<'a> {
    fn new(pod: &'a Pod, container: &'a str, only_own: bool) -> Self {
        Self {
            annotations: pod.annotations(),
            container,
            only_own,
            wrong: None,
        }
    }

    fn find(&self, field: &str) -> Option<(String, &'a String)> {
        if self.annotations.is_empty() {
            return None;
        }
        let own = format!("{}.{DOMAIN}/{field}", self.container);
        let all = format!("{DOMAIN}/{field}");
        let keys = if self.only_own { vec![own] } else { vec![own, all] };
        keys.into_iter()
            .find_map(|key| self.annotations.get(&key).map(|value| (key, value)))
    }

    fn read<T>(
        &mut self,
        field: &str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (key, value) = self.find(field)?;
        let parsed = parse(value.trim());
        if parsed.is_none() {
            let value = value.clone();
            self.wrong.get_or_insert(Unreadable { key, value, wanted });
        }
        parsed
    }

    fn duration(&mut self, field: &str) -> Option<Duration> {
        self.read(field, "a duration, such as 500ms or 1m30s", |text| {
            let parsed: SignedDuration = text.parse().ok()?;
            Duration::try_from(parsed).ok()
        })
    }

    fn number(&mut self, field: &str) -> Option<i32> {
        self.read(field, "a number from 0 to 255", |text| {
            text.parse::<u8>().ok().map(i32::from)
        })
    }

    fn truth(&mut self, field: &str) -> Option<bool> {
        self.read(field, "true or false", |text| text.parse().ok())
    }

    fn text(&mut self, field: &str) -> Option<String> {
        self.find(field).map(|(_, value)| value.clone())
    }

    fn finish<T>(self, found: T) -> Result<T, Unreadable> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => Ok(found),
        }
    }
}

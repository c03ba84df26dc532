//! The controller of Jobs: pods that are to end well so many times, counted each once; and that which deletes Jobs some time after
//! their end.

mod decide;
mod indexes;
mod policy;
mod seen;
#[cfg(test)]
mod tests;
mod ttl;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;
use serde_json::json;
use trimtab_client_cache::Cached;
use trimtab_client_cache::index::Index;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::{Clock, until};
use crate::workload::template;
use crate::workload::words::{is_ending, name, tell_created, tell_deleted};
use decide::{New, Plan, decide};
use seen::{FAILURES, IGNORED, INDEX, Seen, TRACKING, seen};

pub(crate) use decide::end_of;
pub(crate) use ttl::{NAME as TTL, describe as describe_ttl};

/// The controller's name.
pub(crate) const NAME: &str = "job-controller";

/// How many are worked on at once.
const WORKERS: usize = 16;
/// The index of pods that are kept until they are counted, by the namespace and name of their Job.
const TRACKED: &str = "tracked-by-job";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    manager
        .controller::<Job, _>(Jobs { clock: options.clock })
        .named(NAME)
        .reporting_as(NAME)
        .claims::<Pod>(|job: &Job| template::selector(job.spec.as_ref()?.selector.as_ref()?))
        .workers(WORKERS)
        .start()
        .map(drop)
}

struct Jobs {
    clock: Clock,
}

impl Reconcile<Job> for Jobs {
    async fn reconcile(&self, turn: &mut Turn<Job>) -> Result<Next> {
        let Some(job) = turn.latest() else {
            // What it had is nobody's to count any more.
            let left = tracked(turn)?;
            return release(turn, left).await.map(|()| Next::Done);
        };
        let Some(spec) = &job.spec else {
            return Ok(Next::Done);
        };
        if spec
            .managed_by
            .as_deref()
            .is_some_and(|by| by != "kubernetes.io/job-controller")
        {
            return Ok(Next::Done);
        }
        let selector = spec
            .selector
            .as_ref()
            .and_then(template::selector)
            .unwrap_or_default();
        if selector.is_empty() {
            return Ok(Next::Done); // the server lets none in
        }
        if end_of(job.status.as_ref()).is_some() {
            let left = tracked(turn)?;
            return release(turn, left).await.map(|()| Next::Done);
        }
        let pods = turn.claim_cached::<Pod>(&selector).await?;
        let all: Vec<_> = pods.iter().map(seen).collect();
        let all: Vec<&Seen> = all.iter().map(|seen| &**seen).collect();
        let before = job.status.clone().unwrap_or_default();
        let plan = decide(spec, &before, turn.is_deleting(), &all, self.clock.now());
        self.carry_out(turn, &job, spec, plan, &pods).await
    }
}

impl Jobs {
    async fn carry_out(
        &self,
        turn: &mut Turn<Job>,
        job: &Job,
        spec: &JobSpec,
        plan: Plan,
        pods: &[Cached<Pod>],
    ) -> Result<Next> {
        turn.put_status(job.status.as_ref(), &plan.status)?;
        for event in plan.events {
            let (reason, message) = (event.reason, event.message);
            turn.event(match event.warning {
                true => Note::warning(reason, "Track", message),
                false => Note::normal(reason, "Track", message),
            });
        }
        let of = |places: &[usize]| places.iter().map(|at| pods[*at].clone()).collect::<Vec<_>>();
        let dropped = of(&plan.drop);
        let mut released = of(&plan.release);
        released.extend(dropped.iter().filter(|pod| seen(pod).tracked).cloned());
        release(turn, released).await?;
        let mut deleted = of(&plan.delete);
        deleted.extend(dropped);
        let written = turn.delete_all(&deleted).await;
        tell_deleted(turn, &written);
        written.failure?;
        let made = plan.create.iter().filter_map(|new| pod(job, spec, new)).collect();
        let written = turn.create_all::<Pod>(made).await;
        tell_created(turn, "pod", &written);
        match written.failure {
            Err(error) if is_ending(&error) => return Ok(Next::Done),
            outcome => outcome?,
        }
        Ok(match plan.look_again {
            Some(then) => Next::After(until(then, self.clock.now())),
            None => Next::Done,
        })
    }
}

/// All pods that are kept for the Job of the turn's key, whichever of that name made them.
fn tracked(turn: &Turn<Job>) -> Result<Vec<Cached<Pod>>> {
    let store = turn.store::<Pod>()?;
    let key = turn.key().to_string();
    if let Ok(found) = store.by_index(TRACKED, &key) {
        return Ok(found);
    }
    let added = store.add_index(Index::by(TRACKED, |pod: &Cached<Pod>| {
        let finalizers: Option<Vec<String>> = pod.read(["metadata", "finalizers"]).ok().flatten();
        if !finalizers
            .into_iter()
            .flatten()
            .any(|finalizer| finalizer == TRACKING)
        {
            return Vec::new();
        }
        let meta = pod.meta().unwrap_or_default();
        let owner = trimtab_apimachinery_meta::owner::controller_of(&meta);
        let job = owner.filter(|owner| owner.kind == "Job" && owner.api_version == "batch/v1");
        let key = job.map(|job| trimtab_apimachinery_meta::ObjectKey {
            namespace: pod.namespace().to_owned(),
            name: job.name.clone(),
        });
        key.map(|key| key.to_string()).into_iter().collect()
    }));
    debug_assert_ne!(
        added,
        Err(trimtab_client_cache::index::IndexError::Unknown(
            TRACKED.to_owned()
        ))
    );
    Ok(store.by_index(TRACKED, &key).unwrap_or_default())
}

/// Lets pods go that were kept until they were counted.
async fn release(turn: &mut Turn<Job>, pods: Vec<Cached<Pod>>) -> Result<()> {
    let mut patches = Vec::new();
    for pod in pods {
        let mut finalizers = pod.meta()?.finalizers.unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != TRACKING);
        let version = pod.resource_version().into_owned();
        patches.push((
            pod,
            json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}}),
        ));
    }
    turn.merge_all(patches).await.failure
}

/// A pod that is to be made.
fn pod(job: &Job, spec: &JobSpec, new: &New) -> Option<Pod> {
    const NAME: usize = 58; // what the server leaves of a name before its own part
    let meta = &job.metadata;
    let owner = template::owner_of(job)?;
    let mut pod = template::pod(name(meta), meta.namespace.as_deref(), &spec.template, owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let Some(index) = new.index else { return Some(pod) };
    let part = format!("-{index}-");
    let owner: String = job
        .name_any()
        .chars()
        .take(NAME.saturating_sub(part.len()))
        .collect();
    pod.metadata.generate_name = Some(format!("{owner}{part}"));
    let text = index.to_string();
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(INDEX.to_owned(), text.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text);
    if let Some((failures, ignored)) = new.failures {
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", job.name_any()));
    spec.containers.iter_mut().for_each(tell_index);
    spec.init_containers.iter_mut().flatten().for_each(tell_index);
    Some(pod)
}

/// Has a container know the index of its pod.
fn tell_index(container: &mut Container) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
}

//! The controller of CronJobs: Jobs at their times.

mod decide;
mod schedule;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::{Error, Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::{Clock, until};
use crate::workload::template;
use crate::workload::words::{is_ending, is_taken, reference_to, words_of};
use decide::{decide, job_name};

/// The controller's name.
pub(crate) const NAME: &str = "cronjob-controller";

/// How many are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;
/// The annotation of a Job with the time for which it was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let clock = options.clock;
    manager
        .controller::<CronJob, _>(CronJobs { clock })
        .named(NAME)
        .reporting_as(NAME)
        .owns::<Job>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

struct CronJobs {
    clock: Clock,
}

impl Reconcile<CronJob> for CronJobs {
    async fn reconcile(&self, turn: &mut Turn<CronJob>) -> Result<Next> {
        let Some(cron_job) = turn.latest() else {
            return Ok(Next::Done);
        };
        let uid = cron_job.uid().unwrap_or_default();
        let mut cached = turn.store::<Job>()?.owned_by(&uid);
        cached.retain(|job| job.belonging().controller.as_deref() == Some(&*uid));
        let jobs = cached
            .iter()
            .map(|job| job.decode())
            .collect::<Result<Vec<_>, _>>()?;
        let jobs: Vec<&Job> = jobs.iter().map(|job| &**job).collect();
        let mut plan = decide(&cron_job, &jobs, self.clock.now());
        for (warning, reason, message) in &plan.events {
            turn.event(match warning {
                true => Note::warning(*reason, "Schedule", message.clone()),
                false => Note::normal(*reason, "Schedule", message.clone()),
            });
        }
        let surplus: Vec<_> = plan
            .forget
            .iter()
            .chain(&plan.replace)
            .map(|at| cached[*at].clone())
            .collect();
        let written = turn.delete_all(&surplus).await;
        for key in &written.done {
            turn.event(Note::normal(
                "SuccessfulDelete",
                "Delete",
                format!("Deleted job {}", key.name),
            ));
        }
        if let Err(error) = &written.failure {
            let message = format!("Deleted job: {}", words_of(error));
            turn.event(Note::warning("FailedDelete", "Delete", message));
        }
        written.failure?;
        if let Some(due) = plan.due {
            let Some(job) = job(&cron_job, due) else {
                return Ok(Next::Done);
            };
            let made = match turn.create(&job).await {
                Ok(made) => {
                    let message = format!("Created job {}", made.name_any());
                    turn.event(Note::normal("SuccessfulCreate", "Create", message));
                    made
                }
                Err(error) if is_taken(&error) => {
                    let key = ObjectKey {
                        namespace: cron_job.namespace().unwrap_or_default(),
                        name: job.name_any(),
                    };
                    let there = turn.store::<Job>()?.get(&key);
                    let Some(there) = there else {
                        return Ok(Next::Again);
                    };
                    if there.belonging().controller.as_deref() != Some(&*uid) {
                        return Ok(Next::Done); // whoever made it sees to it
                    }
                    (*there.decode()?).clone()
                }
                Err(error) if is_ending(&error) => return Err(Error::terminal(error)),
                Err(error) => {
                    let message = format!("Error creating job: {}", words_of(&error));
                    turn.event(Note::warning("FailedCreate", "Create", message));
                    return Err(error);
                }
            };
            let reference = reference_to(&made);
            plan.status.active.get_or_insert_default().push(reference);
        }
        turn.put_status(cron_job.status.as_ref(), &plan.status)?;
        Ok(match plan.look_again {
            Some(then) => Next::After(until(then, self.clock.now())),
            None => Next::Done,
        })
    }
}

/// The Job of a time.
fn job(cron_job: &CronJob, due: jiff::Timestamp) -> Option<Job> {
    let spec = &cron_job.spec;
    let template = &spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let zone = schedule::zone(spec.time_zone.as_deref().unwrap_or_default()).ok()?;
    let zoned = due.to_zoned(zone);
    let when = match zoned.offset().is_zero() {
        true => due.to_string(),
        false => zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), when);
    Some(Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron_job, due)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![template::owner_of(cron_job)?]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })
}

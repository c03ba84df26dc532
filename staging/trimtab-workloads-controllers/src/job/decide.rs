//! The decision: which pods are made, deleted and let go, what has been counted, and whether the Job is at its end.
//!
//! What holds: each pod is counted once. A pod keeps its finalizer until the stored status has it among those that are to be
//! counted, and stays there until its finalizer is gone; then it becomes a number. An end is said in two steps: first that it is to
//! come, so that nothing that is let go can be forgotten, then that it is there, once nothing runs.

mod pods;
mod track;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes::Indexes;
use super::policy::{self, Verdict};
use super::seen::Seen;
use crate::workload::clock::seconds_later;
use crate::workload::pods::Phase;

/// How many pods are counted at a time, and made or deleted in one turn. kube-controller-manager's figures.
const MOST: usize = 500;

/// A pod that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct New {
    pub(super) index: Option<i32>,
    /// How often those before it have failed, where that is counted by index: counted and ignored.
    pub(super) failures: Option<(i32, i32)>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What is to be done. Places are those of pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<New>,
    /// These are deleted, and counted when they have ended.
    pub(super) delete: Vec<usize>,
    /// These are deleted and not counted.
    pub(super) drop: Vec<usize>,
    /// These are let go.
    pub(super) release: Vec<usize>,
    pub(super) status: JobStatus,
    pub(super) events: Vec<Event>,
    pub(super) look_again: Option<Timestamp>,
}

/// Whether a Job has ended, and how.
pub(crate) fn end_of(status: Option<&JobStatus>) -> Option<&JobCondition> {
    let mut conditions = status?.conditions.iter().flatten();
    conditions
        .find(|condition| matches!(&*condition.type_, "Complete" | "Failed") && condition.status == "True")
}

/// Decides.
pub(super) fn decide(
    spec: &JobSpec,
    before: &JobStatus,
    deleting: bool,
    pods: &[&Seen],
    now: Timestamp,
) -> Plan {
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let end = spec.completions.filter(|_| indexed).unwrap_or_default();
    let mut work = Work {
        spec,
        before,
        deleting,
        pods,
        now,
        indexed,
        end,
        replaces_failed_only: spec.pod_replacement_policy.as_deref() == Some("Failed")
            || spec.pod_failure_policy.is_some(),
        status: before.clone(),
        plan: Plan::default(),
    };
    work.run();
    work.plan.status = work.status;
    work.plan
}

struct Work<'a> {
    spec: &'a JobSpec,
    /// The status that is stored.
    before: &'a JobStatus,
    deleting: bool,
    pods: &'a [&'a Seen],
    now: Timestamp,
    indexed: bool,
    /// The end of the indexes.
    end: i32,
    replaces_failed_only: bool,
    status: JobStatus,
    plan: Plan,
}

/// An end that is to come.
struct Ending {
    well: bool,
    reason: String,
    message: String,
}

impl Work<'_> {
    fn run(&mut self) {
        self.count_released();
        let suspended = self.spec.suspend == Some(true);
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(Time(self.now));
        }
        let succeeded = self.succeeded();
        let failed_indexes = self.failed_indexes();
        let succeeded_count = match self.indexed {
            true => succeeded.count(),
            false => {
                let new = self.uncounted(|pod| pod.facts.phase == Phase::Succeeded).count();
                counted(self.status.succeeded) + self.listed(true).len() as i32 + new as i32
            }
        };
        let failed = {
            let counts = |pod: &Seen| self.is_failed(pod) && self.verdict(pod) != Verdict::Ignore;
            let new = self.uncounted(counts).count();
            counted(self.status.failed) + self.listed(false).len() as i32 + new as i32
        };
        let active: Vec<usize> = (0..self.pods.len())
            .filter(|at| self.pods[*at].facts.is_active())
            .collect();
        let mut ending = self.stored_ending();
        if ending.is_none() {
            ending = self.failure(failed, &succeeded, failed_indexes.as_ref());
        }
        if ending.is_none() && self.indexed {
            let met = policy::success(self.spec.success_policy.as_ref(), self.end, &succeeded);
            ending = met.map(|message| Ending {
                well: true,
                reason: "SuccessPolicy".to_owned(),
                message,
            });
        }
        let mut running = active.len() as i32;
        if ending.is_some() {
            // What was made before this was decided may not all be here yet; it comes, and is deleted then.
            running = 0;
            self.plan.delete = active;
        } else {
            if !self.deleting {
                running = self.manage(&active, succeeded_count, &succeeded, failed_indexes.as_ref());
            }
            let complete = match self.spec.completions {
                None => succeeded_count > 0 && running == 0,
                Some(completions) => succeeded_count >= completions && running == 0,
            };
            if complete && !self.deleting {
                self.plan.create.clear();
                let message = "Reached expected number of succeeded pods".to_owned();
                ending = Some(Ending {
                    well: true,
                    reason: "CompletionsReached".to_owned(),
                    message,
                });
            } else if !self.deleting {
                self.note_suspension(suspended);
            }
        }
        self.track(&ending, &succeeded, failed_indexes.as_ref());
        let gone = self.plan.delete.iter().chain(&self.plan.drop);
        let stays = |at: &usize| !self.plan.delete.contains(at) && !self.plan.drop.contains(at);
        let ready = (0..self.pods.len())
            .filter(stays)
            .filter(|at| self.pods[*at].facts.is_active() && self.pods[*at].facts.is_ready());
        let terminating = self.pods.iter().filter(|pod| pod.facts.is_terminating()).count() + gone.count();
        self.status.ready = Some(ready.count() as i32);
        self.status.active = (running != 0).then_some(running);
        self.status.terminating = Some(terminating as i32);
        if let Some(ending) = ending {
            self.end(&ending, terminating);
        }
    }

    // === counting ===

    fn listed(&self, succeeded: bool) -> &[String] {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let list = uncounted.and_then(|uncounted| match succeeded {
            true => uncounted.succeeded.as_deref(),
            false => uncounted.failed.as_deref(),
        });
        list.unwrap_or_default()
    }

    fn is_listed(&self, pod: &Seen, succeeded: bool) -> bool {
        self.listed(succeeded).iter().any(|uid| **uid == *pod.facts.uid)
    }

    /// Turns those that were let go into numbers.
    fn count_released(&mut self) {
        let tracked: BTreeSet<&str> = self
            .pods
            .iter()
            .filter(|pod| pod.tracked)
            .map(|pod| &*pod.facts.uid)
            .collect();
        let split = |list: &[String]| -> (Vec<String>, i32) {
            let (kept, gone): (Vec<_>, Vec<_>) =
                list.iter().cloned().partition(|uid| tracked.contains(&**uid));
            (kept, gone.len() as i32)
        };
        let (succeeded, more_succeeded) = split(self.listed(true));
        let (failed, more_failed) = split(self.listed(false));
        let add = |count: Option<i32>, more: i32| Some(counted(count) + more).filter(|count| *count != 0);
        self.status.succeeded = add(self.status.succeeded, more_succeeded);
        self.status.failed = add(self.status.failed, more_failed);
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: (!succeeded.is_empty()).then_some(succeeded),
            failed: (!failed.is_empty()).then_some(failed),
        });
    }

    fn has_valid_index(&self, pod: &Seen) -> bool {
        !self.indexed || pod.index.is_some_and(|index| index < self.end)
    }

    /// Pods that are not in the status yet.
    fn uncounted(&self, is: impl Fn(&Seen) -> bool) -> impl Iterator<Item = &Seen> {
        self.pods.iter().copied().filter(move |pod| {
            let listed = self.is_listed(pod, true) || self.is_listed(pod, false);
            pod.tracked && self.has_valid_index(pod) && !listed && is(pod)
        })
    }

    fn is_failed(&self, pod: &Seen) -> bool {
        match pod.facts.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => pod.facts.deleting && !self.replaces_failed_only,
        }
    }

    fn verdict(&self, pod: &Seen) -> Verdict {
        policy::judge(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// The indexes that have succeeded.
    fn succeeded(&self) -> Indexes {
        let before = Indexes::parse(
            self.before.completed_indexes.as_deref().unwrap_or_default(),
            self.end,
        );
        let new = self
            .pods
            .iter()
            .filter(|pod| pod.tracked && pod.facts.phase == Phase::Succeeded && !self.is_listed(pod, false));
        before.with(new.filter_map(|pod| pod.index).filter(|index| *index < self.end))
    }

    /// The indexes that have failed for good, where failures are counted by index.
    fn failed_indexes(&self) -> Option<Indexes> {
        let limit = self.spec.backoff_limit_per_index.filter(|_| self.indexed)?;
        let before = Indexes::parse(
            self.before.failed_indexes.as_deref().unwrap_or_default(),
            self.end,
        );
        let is_last = |pod: &&&Seen| {
            pod.tracked
                && self.is_failed(pod)
                && match self.verdict(pod) {
                    Verdict::FailIndex => true,
                    Verdict::Ignore => false,
                    _ => pod.failures >= limit,
                }
        };
        let new = self.pods.iter().filter(is_last).filter_map(|pod| pod.index);
        Some(before.with(new.filter(|index| *index < self.end)))
    }

    // === ends ===

    fn stored_ending(&self) -> Option<Ending> {
        let mut conditions = self.before.conditions.iter().flatten();
        let stored = conditions.find(|condition| {
            condition.status == "True" && matches!(&*condition.type_, "SuccessCriteriaMet" | "FailureTarget")
        })?;
        Some(Ending {
            well: stored.type_ == "SuccessCriteriaMet",
            reason: stored.reason.clone().unwrap_or_default(),
            message: stored.message.clone().unwrap_or_default(),
        })
    }

    fn failure(
        &mut self,
        failed: i32,
        succeeded: &Indexes,
        failed_indexes: Option<&Indexes>,
    ) -> Option<Ending> {
        let fail = |reason: &str, message: &str| {
            Some(Ending {
                well: false,
                reason: reason.to_owned(),
                message: message.to_owned(),
            })
        };
        let verdicts = self
            .pods
            .iter()
            .filter(|pod| self.is_failed(pod))
            .map(|pod| self.verdict(pod));
        for verdict in verdicts {
            if let Verdict::FailJob(message) = verdict {
                return fail("PodFailurePolicy", &message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if failed > limit || self.restarts_exceed(limit) {
            return fail(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        if let (Some(seconds), Some(start)) = (self.spec.active_deadline_seconds, &self.status.start_time)
            && self.spec.suspend != Some(true)
        {
            let deadline = seconds_later(start.0, seconds);
            if deadline <= self.now {
                return fail(
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline",
                );
            }
            self.look_again(deadline);
        }
        if let Some(failed) = failed_indexes {
            if self
                .spec
                .max_failed_indexes
                .is_some_and(|most| failed.count() > most)
            {
                return fail(
                    "MaxFailedIndexesExceeded",
                    "Job has exceeded the specified maximal number of failed indexes",
                );
            }
            if failed.count() > 0 && failed.count() + succeeded.count() >= self.end {
                return fail("FailedIndexes", "Job has failed indexes");
            }
        }
        None
    }

    fn restarts_exceed(&self, limit: i32) -> bool {
        let spec = self.spec.template.spec.as_ref();
        if spec.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let alive = self
            .pods
            .iter()
            .filter(|pod| matches!(pod.facts.phase, Phase::Running | Phase::Pending));
        let restarts: i32 = alive.map(|pod| pod.restarts).sum();
        restarts >= limit.max(1)
    }

    /// Says that the end is to come, or that it is there.
    fn end(&mut self, ending: &Ending, terminating: usize) {
        let interim = if ending.well {
            "SuccessCriteriaMet"
        } else {
            "FailureTarget"
        };
        let is_stored = self.stored_ending().is_some();
        self.set(interim, "True", &ending.reason, &ending.message);
        let waits = !self.listed(true).is_empty()
            || !self.listed(false).is_empty()
            || terminating > 0
            || !self.plan.release.is_empty()
            || self.pods.iter().any(|pod| pod.tracked);
        if !is_stored || waits {
            return;
        }
        if ending.well {
            self.set("Complete", "True", &ending.reason, &ending.message);
            self.status.completion_time = Some(Time(self.now));
            if self
                .spec
                .completions
                .is_some_and(|wanted| counted(self.status.succeeded) > wanted)
            {
                let message = "Too many succeeded pods running after completion count reached";
                self.tell(true, "TooManySucceededPods", message);
            }
            self.tell(false, "Completed", "Job completed");
        } else {
            self.set("Failed", "True", &ending.reason, &ending.message);
            self.tell(true, &ending.reason, &ending.message);
        }
    }

    fn note_suspension(&mut self, suspended: bool) {
        if suspended {
            if self.set("Suspended", "True", "JobSuspended", "Job suspended") {
                self.tell(false, "Suspended", "Job suspended");
                self.status.start_time = None;
            }
        } else {
            let mut conditions = self.status.conditions.iter().flatten();
            let was = conditions.any(|condition| condition.type_ == "Suspended");
            if was && self.set("Suspended", "False", "JobResumed", "Job resumed") {
                self.tell(false, "Resumed", "Job resumed");
                self.status.start_time = Some(Time(self.now));
            }
        }
    }

    // === words ===

    /// Sets a condition, and says whether that is news. That something which never was is not so is none.
    fn set(&mut self, type_: &str, status: &str, reason: &str, message: &str) -> bool {
        let conditions = self.status.conditions.get_or_insert_default();
        let new = JobCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(old) if old.status == status && old.reason == new.reason && old.message == new.message => {
                false
            }
            Some(old) => {
                *old = new;
                true
            }
            None => {
                conditions.push(new);
                true
            }
        }
    }

    fn tell(&mut self, warning: bool, reason: &str, message: &str) {
        self.plan.events.push(Event {
            warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    fn look_again(&mut self, at: Timestamp) {
        let soonest = self.plan.look_again.map_or(at, |before| before.min(at));
        self.plan.look_again = Some(soonest);
    }
}

fn counted(count: Option<i32>) -> i32 {
    count.unwrap_or_default()
}

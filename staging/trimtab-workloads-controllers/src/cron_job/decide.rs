//! The decision: whether a Job is due, and what becomes of those that were made before.

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::schedule::{Schedule, zone};
use crate::job::end_of;
use crate::workload::clock::{later, seconds_later};

/// More missed times than this are worth a warning. kube-controller-manager's figure.
const MANY: i64 = 100;
/// How much later than due it is looked, against clocks that differ. kube-controller-manager's figure.
const LATER: std::time::Duration = std::time::Duration::from_millis(100);

/// What is to be told: whether it should worry somebody, the reason, and the words.
pub(super) type Event = (bool, &'static str, String);

/// What is to be done. Places are those of Jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The time for which a Job is made.
    pub(super) due: Option<Timestamp>,
    /// These make room for it.
    pub(super) replace: Vec<usize>,
    /// These are older than history goes.
    pub(super) forget: Vec<usize>,
    pub(super) status: CronJobStatus,
    pub(super) events: Vec<Event>,
    pub(super) look_again: Option<Timestamp>,
}

/// The name of the Job of a time: the same however often it is asked for.
pub(super) fn job_name(cron_job: &CronJob, due: Timestamp) -> String {
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", due.as_second().div_euclid(60))
}

/// Decides.
pub(super) fn decide(cron_job: &CronJob, jobs: &[&Job], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron_job.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    let spec = &cron_job.spec;
    look_over(&mut plan, jobs);
    if cron_job.metadata.deletion_timestamp.is_none() {
        forget(&mut plan, spec, jobs);
        schedule(&mut plan, cron_job, spec, jobs, now);
    }
    if plan.status.active.as_ref().is_some_and(Vec::is_empty) {
        plan.status.active = None;
    }
    plan
}

/// Takes note of what has ended, and of what is gone.
fn look_over(plan: &mut Plan, jobs: &[&Job]) {
    let active = plan.status.active.get_or_insert_default();
    for job in jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let is_it = |listed: &ObjectReference| listed.uid == job.metadata.uid;
        let end = end_of(job.status.as_ref());
        match end {
            None if !active.iter().any(is_it) => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.events.push((true, "UnexpectedJob", message));
            }
            Some(end) if active.iter().any(is_it) => {
                active.retain(|listed| !is_it(listed));
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                plan.events.push((false, "SawCompletedJob", message));
            }
            _ => {}
        }
        let completed = job
            .status
            .as_ref()
            .and_then(|status| status.completion_time.clone());
        if end.is_some_and(|end| end.type_ == "Complete") && completed > plan.status.last_successful_time {
            plan.status.last_successful_time = completed;
        }
    }
    active.retain(|listed| {
        let is_there = jobs.iter().any(|job| job.metadata.uid == listed.uid);
        if !is_there {
            let name = listed.name.as_deref().unwrap_or_default();
            plan.events
                .push((false, "MissingJob", format!("Active job went missing: {name}")));
        }
        is_there
    });
}

/// Finds the Jobs that are older than history goes.
fn forget(plan: &mut Plan, spec: &CronJobSpec, jobs: &[&Job]) {
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    for (how, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let ended = |at: &usize| end_of(jobs[*at].status.as_ref()).is_some_and(|end| end.type_ == how);
        let mut ended: Vec<usize> = (0..jobs.len()).filter(ended).collect();
        ended.sort_by(|a, b| by_start(jobs[*a], jobs[*b]));
        let surplus = ended.len().saturating_sub(limit);
        let alive = |at: &usize| jobs[*at].metadata.deletion_timestamp.is_none();
        plan.forget.extend(ended.into_iter().take(surplus).filter(alive));
    }
}

/// The oldest first; what has not begun is the newest.
fn by_start(a: &Job, b: &Job) -> Ordering {
    let start = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
    let order = match (start(a), start(b)) {
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (a, b) => a.cmp(&b),
    };
    order.then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

fn schedule(plan: &mut Plan, cron_job: &CronJob, spec: &CronJobSpec, jobs: &[&Job], now: Timestamp) {
    let name = spec.time_zone.as_deref().unwrap_or_default();
    let zone = match zone(name) {
        Ok(zone) => zone,
        Err(error) => {
            plan.events.push((
                true,
                "UnknownTimeZone",
                format!("invalid timeZone: {name:?}: {error}"),
            ));
            return;
        }
    };
    if spec.suspend == Some(true) {
        return;
    }
    if spec.schedule.contains("TZ") {
        let message = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            spec.schedule
        );
        plan.events.push((true, "UnsupportedSchedule", message));
    }
    let schedule = match Schedule::parse(&spec.schedule, zone) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.events.push((true, "UnparseableSchedule", message));
            return;
        }
    };
    let made = cron_job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let last = plan.status.last_schedule_time.as_ref().map(|time| time.0);
    let since = last.or(made).unwrap_or(now);
    let late = spec.starting_deadline_seconds;
    let earliest = late.map_or(since, |late| since.max(seconds_later(now, -late)));
    let next = schedule.next(now);
    plan.look_again = next.map(|next| later(next, LATER));
    let Some((due, missed)) = last_due(&schedule, earliest, now) else {
        return;
    };
    if missed > MANY {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((true, "TooManyMissedTimes", message.to_owned()));
    }
    if late.is_some_and(|late| seconds_later(due, late) < now) {
        let when = due.strftime("%a, %d %b %Y %H:%M:%S UTC");
        let message = format!("Missed scheduled time to start a job: {when}");
        plan.events.push((true, "MissSchedule", message));
        return;
    }
    let name = job_name(cron_job, due);
    let active = plan.status.active.get_or_insert_default();
    if last == Some(due) || active.iter().any(|listed| listed.name.as_deref() == Some(&*name)) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((false, "JobAlreadyActive", message.to_owned()));
            return;
        }
        Some("Replace") => {
            let listed = |at: &usize| active.iter().any(|listed| listed.uid == jobs[*at].metadata.uid);
            plan.replace = (0..jobs.len()).filter(listed).collect();
            active.clear();
        }
        _ => {}
    }
    plan.due = Some(due);
    plan.status.last_schedule_time = Some(Time(due));
}

/// The last time after `since` and not after `now` at which it was due, and how many there were about.
fn last_due(schedule: &Schedule, since: Timestamp, now: Timestamp) -> Option<(Timestamp, i64)> {
    let first = schedule.next(since).filter(|first| *first <= now)?;
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return Some((first, 1));
    };
    let between = second.as_second() - first.as_second();
    if between < 1 {
        return None;
    }
    let missed = (now.as_second() - first.as_second()) / between + 1;
    // Most are skipped, since there may be many; the last ones are looked at one by one.
    let mut last = seconds_later(first, (missed - 2) * between - 1);
    while let Some(next) = schedule.next(last).filter(|next| *next <= now) {
        last = next;
    }
    (last >= first).then_some((last, missed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        format!("2024-01-01T{text}Z").parse().expect("a time")
    }

    fn cron_job(spec: Value, status: Value) -> CronJob {
        let mut object = json!({"metadata": {"name": "tick", "uid": "u", "creationTimestamp": at("00:00:00").to_string()},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": {}}}}, "status": status});
        for (field, value) in spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        serde_json::from_value(object).expect("a CronJob")
    }

    fn job(name: &str, end: Option<&str>, started: &str) -> Job {
        let conditions: Vec<_> = end
            .into_iter()
            .map(|end| json!({"type": end, "status": "True"}))
            .collect();
        let mut status = json!({"startTime": at(started).to_string(), "conditions": conditions});
        if end == Some("Complete") {
            status["completionTime"] = json!(at(started).to_string());
        }
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": status}))
            .expect("a Job")
    }

    fn reasons(plan: &Plan) -> Vec<&'static str> {
        plan.events.iter().map(|(_, reason, _)| *reason).collect()
    }

    #[test]
    fn jobs_are_due_at_their_times() {
        let active =
            json!({"active": [{"name": "a", "uid": "a"}], "lastScheduleTime": at("00:10:00").to_string()});
        let last = json!({"lastScheduleTime": at("00:10:00").to_string()});
        #[rustfmt::skip]
        let cases: Vec<(&str, Value, Value, &str, Option<&str>, &[&str])> = vec![
            ("not yet", json!({}), json!({}), "00:09:59", None, &[]),
            ("now", json!({}), json!({}), "00:10:00", Some("00:10:00"), &[]),
            ("once", json!({}), last.clone(), "00:19:59", None, &[]),
            ("only the last of those that were missed", json!({}), last.clone(), "00:45:00", Some("00:40:00"), &[]),
            ("many", json!({"schedule": "* * * * *"}), last.clone(), "02:30:30", Some("02:30:00"), &["TooManyMissedTimes"]),
            ("just in time", json!({"startingDeadlineSeconds": 60}), last.clone(), "00:20:59", Some("00:20:00"), &[]),
            ("too late", json!({"startingDeadlineSeconds": 60}), last.clone(), "00:21:30", None, &[]),
            ("suspended", json!({"suspend": true}), last.clone(), "00:20:00", None, &[]),
            ("side by side", json!({"concurrencyPolicy": "Allow"}), active.clone(), "00:20:00", Some("00:20:00"), &[]),
            ("one at a time", json!({"concurrencyPolicy": "Forbid"}), active.clone(), "00:20:00", None, &["JobAlreadyActive"]),
            ("one instead of the other", json!({"concurrencyPolicy": "Replace"}), active.clone(), "00:20:00", Some("00:20:00"), &[]),
            ("nowhere", json!({"timeZone": "No/Where"}), last.clone(), "00:20:00", None, &["UnknownTimeZone"]),
        ];
        let running = job("a", None, "00:10:00");
        for (why, spec, status, now, due, expected) in cases {
            let jobs: &[&Job] = if status.get("active").is_some() {
                &[&running]
            } else {
                &[]
            };
            let plan = decide(&cron_job(spec.clone(), status), jobs, at(now));
            assert_eq!(
                (plan.due, reasons(&plan)),
                (due.map(at), expected.to_vec()),
                "{why}"
            );
            assert_eq!(
                plan.replace.len(),
                usize::from(spec["concurrencyPolicy"] == "Replace"),
                "{why}"
            );
        }
        let plan = decide(&cron_job(json!({}), json!({})), &[], at("00:10:00"));
        assert_eq!(plan.look_again, Some(later(at("00:20:00"), LATER)));
        assert_eq!(
            job_name(&cron_job(json!({}), json!({})), at("00:10:00")),
            "tick-28401130"
        );
    }

    #[test]
    fn what_has_ended_is_noted_and_forgotten_in_time() {
        let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "gone", "uid": "gone"}]});
        let wanted = cron_job(
            json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true}),
            status,
        );
        let jobs = [
            job("a", Some("Complete"), "00:02:00"),
            job("b", Some("Complete"), "00:01:00"),
            job("c", Some("Failed"), "00:03:00"),
            job("d", None, "00:04:00"),
        ];
        let jobs: Vec<&Job> = jobs.iter().collect();
        let plan = decide(&wanted, &jobs, at("01:00:00"));
        assert_eq!(plan.forget, [1, 2]);
        assert_eq!(plan.status.active, None);
        assert_eq!(plan.status.last_successful_time, Some(Time(at("00:02:00"))));
        assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    }
}

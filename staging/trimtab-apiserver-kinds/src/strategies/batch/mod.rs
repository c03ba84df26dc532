//! Kinds of `batch`: work that ends, once or by the clock.

mod cron_job;
mod failure_policy;
mod job;
mod job_status;
mod schedule;

use super::rules::Rules;

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "Job" => job::JOB,
        "CronJob" => cron_job::CRON_JOB,
        _ => return None,
    })
}

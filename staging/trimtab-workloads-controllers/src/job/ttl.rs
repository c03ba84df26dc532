//! Deletes Jobs some time after their end, if they say when.

use k8s_openapi::api::batch::v1::Job;
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use super::end_of;
use crate::workload::clock::{Clock, seconds_later, until};

/// The controller's name.
pub(crate) const NAME: &str = "ttl-after-finished-controller";

/// How many are worked on at once. kube-controller-manager's figure.
const WORKERS: usize = 5;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let clock = options.clock;
    manager
        .controller::<Job, _>(Expiry { clock })
        .named(NAME)
        .workers(WORKERS)
        .start()
        .map(drop)
}

struct Expiry {
    clock: Clock,
}

impl Reconcile<Job> for Expiry {
    async fn reconcile(&self, turn: &mut Turn<Job>) -> Result<Next> {
        let Some(job) = turn.latest().filter(|_| !turn.is_deleting()) else {
            return Ok(Next::Done);
        };
        let seconds = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
        let ended = end_of(job.status.as_ref()).and_then(|end| end.last_transition_time.as_ref());
        let (Some(seconds), Some(ended)) = (seconds, ended) else {
            return Ok(Next::Done);
        };
        let now = self.clock.now();
        let due = seconds_later(ended.0, seconds);
        if due > now {
            return Ok(Next::After(until(due, now)));
        }
        turn.delete(&*job).await.map(|()| Next::Done)
    }
}

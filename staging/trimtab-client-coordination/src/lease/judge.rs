//! What may be done about a Lease, by what was seen of it.

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::{Observed, Owner, holder};

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take the lease, with this count of transitions.
    Take(i32),
    /// It belongs to somebody until then.
    Wait(Instant),
}

/// Whether the record is this owner's: it has its name, and one of the times at which it acquired the lease or began to try.
/// Another process by the same name is somebody else.
pub(crate) fn is_ours(spec: &LeaseSpec, identity: &str, own: &[&MicroTime]) -> bool {
    let acquired = spec.acquire_time.as_ref();
    holder(spec) == Some(identity) && acquired.is_some_and(|acquired| own.contains(&acquired))
}

/// What to do at `now`, when this is what was seen last, if anything. That holds for a Lease that is not there any more, too:
/// its holder has not noticed yet that it was deleted.
pub(crate) fn judge(seen: Option<&Observed>, own: &[&MicroTime], owner: &Owner, now: Instant) -> Verdict {
    let Some(seen) = seen else {
        return Verdict::Take(0);
    };
    let until = seen.in_force_until(owner.timing.lease_duration);
    let free = holder(&seen.spec).is_none() || is_ours(&seen.spec, &owner.identity, own);
    if free || until <= now {
        Verdict::Take(transitions(&seen.spec).saturating_add(1))
    } else {
        Verdict::Wait(until)
    }
}

/// How often the lease has had another holder.
pub(crate) fn transitions(spec: &LeaseSpec) -> i32 {
    spec.lease_transitions.unwrap_or(0).max(0)
}

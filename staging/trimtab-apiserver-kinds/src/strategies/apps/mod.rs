//! Kinds of `apps`: controllers that keep pods running.

mod deployment;
pub(super) mod template;

use super::rules::Rules;

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "Deployment" => deployment::DEPLOYMENT,
        "ReplicaSet" => deployment::REPLICA_SET,
        _ => return None,
    })
}

//! Kinds of `apps`: controllers that keep pods running.

mod daemon_set;
mod deployment;
mod stateful_set;
pub(super) mod template;

use super::rules::Rules;

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "Deployment" => deployment::DEPLOYMENT,
        "ReplicaSet" => deployment::REPLICA_SET,
        "DaemonSet" => daemon_set::DAEMON_SET,
        "StatefulSet" => stateful_set::STATEFUL_SET,
        "ControllerRevision" => stateful_set::CONTROLLER_REVISION,
        _ => return None,
    })
}

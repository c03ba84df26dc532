//! Kinds of the group without a name: pods, services, namespaces, configuration, storage.

mod pod;
pub(super) mod pod_spec;
mod resources;
mod storage;
pub(super) mod words;

use std::sync::Arc;

use crate::strategy::Strategy;

/// The strategy of a kind of this group; `None` for an ordinary one.
pub(super) fn strategy(kind: &str) -> Option<Arc<dyn Strategy>> {
    Some(match kind {
        "Pod" => Arc::new(pod::Pod),
        _ => return None,
    })
}

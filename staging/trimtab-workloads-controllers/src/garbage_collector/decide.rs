//! What is done with an object, decided from what the server says of it and of its owners.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;
use trimtab_apimachinery_meta::finalizers;

use super::graph::{Deletion, View};

/// Holds an object that is deleted in the foreground until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Holds an object whose dependents are to be released.
pub(crate) const ORPHAN: &str = "orphan";

/// What the server says of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It exists and is not waiting for its dependents.
    Solid,
    /// It does not exist.
    Dangling,
    /// It is being deleted in the foreground: it waits for its dependents to be deleted.
    Waiting,
}

/// What to do with an object that is not waiting for its own dependents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Nothing: it has no owners, or solid ones only.
    Keep,
    /// Keep it, with these references only: the others have no solid owner.
    Release(Vec<OwnerReference>),
    /// Delete it like this.
    Delete(PropagationPolicy),
    /// A dependent of it is deleted in the foreground as it is to be itself, perhaps because they own each other. Make
    /// its references such that nobody waits for it, then delete it in the foreground.
    UnblockAndDelete(Vec<OwnerReference>),
}

/// Whether an object is being deleted, and what its deletion waits for.
pub(crate) fn deletion(metadata: &ObjectMeta) -> Deletion {
    if metadata.deletion_timestamp.is_none() {
        Deletion::None
    } else if finalizers::contains(metadata, ORPHAN) {
        Deletion::Orphan
    } else if finalizers::contains(metadata, FOREGROUND) {
        Deletion::Foreground
    } else {
        Deletion::Plain
    }
}

/// What an owner that exists is to its dependents.
pub(crate) fn living(owner: &ObjectMeta) -> Owner {
    let waits = owner.deletion_timestamp.is_some() && finalizers::contains(owner, FOREGROUND);
    if waits { Owner::Waiting } else { Owner::Solid }
}

/// Decides on an object from its latest metadata, its owners in the order of its references, and its dependents.
pub(crate) fn decide(latest: &ObjectMeta, owners: &[(OwnerReference, Owner)], view: &View) -> Decision {
    let any = |state: Owner| owners.iter().any(|(_, owner)| *owner == state);
    if owners.is_empty() {
        return Decision::Keep;
    }
    if any(Owner::Solid) {
        if !any(Owner::Dangling) && !any(Owner::Waiting) {
            return Decision::Keep;
        }
        let solid = owners.iter().filter(|(_, owner)| *owner == Owner::Solid);
        return Decision::Release(solid.map(|(reference, _)| reference.clone()).collect());
    }
    if any(Owner::Waiting) && !view.dependents.is_empty() {
        let circular = |dependent: &super::graph::Dependent| dependent.deletion == Deletion::Foreground;
        if !view.dependents.iter().any(circular) {
            return Decision::Delete(PropagationPolicy::Foreground);
        }
        let unblocked = owners.iter().map(|(reference, _)| OwnerReference {
            block_owner_deletion: reference.block_owner_deletion.map(|_| false),
            ..reference.clone()
        });
        return Decision::UnblockAndDelete(unblocked.collect());
    }
    Decision::Delete(if finalizers::contains(latest, ORPHAN) {
        PropagationPolicy::Orphan
    } else if finalizers::contains(latest, FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

/// The dependents that a foreground deletion still waits for and that are not on their way yet; `None` if it waits for
/// none at all.
pub(crate) fn awaited(view: &View) -> Option<Vec<super::graph::Uid>> {
    let mut blocking = view
        .dependents
        .iter()
        .filter(|dependent| dependent.blocks)
        .peekable();
    blocking.peek()?;
    let idle = blocking.filter(|dependent| dependent.deletion != Deletion::Foreground);
    Some(idle.map(|dependent| dependent.at.uid.clone()).collect())
}

//! Owner references: which object another one belongs to, and which one of its owners manages it.
//!
//! At most one owner of an object is its *controller*. When a reference is set, two mean the same owner if group, kind
//! and name are equal; version and UID may differ, so an owner that was deleted and made again replaces its former self.
//! Who may act on an object that is there already is another question, and decided by UID alone: [`is_controlled_by`],
//! and [`Claimant`] for controllers that select what they manage by labels.

mod claim;
mod patch;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource;

pub use claim::{Claim, ClaimError, Claimant};
pub use patch::{adopt_merge, adopt_strategic, release_merge, release_strategic};

/// Why an object cannot be given an owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// Another controller manages the object already. Do not take it over: pick another name, or stop.
    #[error("object {object:?} is already owned by another {kind} controller {name}")]
    AlreadyOwned {
        /// The object's name.
        object: String,
        /// The kind of its controller.
        kind: String,
        /// The name of its controller.
        name: String,
    },
    /// The owner lives in another namespace than the object, where garbage collection does not look for it.
    #[error(
        "cross-namespace owner references are disallowed, owner's namespace {owner:?}, object's namespace {object:?}"
    )]
    CrossNamespace {
        /// The owner's namespace.
        owner: String,
        /// The object's namespace.
        object: String,
    },
    /// The object is cluster-scoped and the owner is not.
    #[error("cluster-scoped object must not have a namespaced owner, owner's namespace {owner:?}")]
    NamespacedOwner {
        /// The owner's namespace.
        owner: String,
    },
    /// The owner has no name or UID: it was not read from a server.
    #[error("owner has no name or uid")]
    NoIdentity,
    /// A reference that was made by hand lacks a field, and an API server would refuse it. Make it by
    /// [`reference_to`].
    #[error("owner reference has no {0}")]
    Incomplete(&'static str),
    /// The object lacks what makes a patch safe: it was not read from a server.
    #[error("object {object:?} has no {missing}, so that a patch could meet another one")]
    NotRead {
        /// The object's name.
        object: String,
        /// The field.
        missing: &'static str,
    },
}

/// The object's controller: the one owner that manages it.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|r| r.controller == Some(true))
}

/// Whether the two mean the same owner: group, kind and name are equal.
pub fn same_owner(a: &OwnerReference, b: &OwnerReference) -> bool {
    group(&a.api_version) == group(&b.api_version) && a.kind == b.kind && a.name == b.name
}

/// Whether the object with that UID is an owner of this one, its controller or not.
pub fn is_owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|r| r.uid == uid)
}

/// Whether the object with that UID is this one's controller. An object of the same name that was made after that one was
/// deleted is not.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller_of(metadata).is_some_and(|r| r.uid == uid)
}

// === references ===

/// A reference to an owner that does not manage. Set `block_owner_deletion` on it if the owner, when it is deleted in the
/// foreground, is to wait for the object.
///
/// # Errors
/// [`OwnerError::NoIdentity`].
pub fn reference_to<O>(owner: &O) -> Result<OwnerReference, OwnerError>
where
    O: Resource,
    O::DynamicType: Default,
{
    reference_to_with(owner, &O::DynamicType::default())
}

/// [`reference_to`] for owners whose kind is known only at run time.
///
/// # Errors
/// [`OwnerError::NoIdentity`].
pub fn reference_to_with<O: Resource>(
    owner: &O,
    kind: &O::DynamicType,
) -> Result<OwnerReference, OwnerError> {
    let reference = owner.owner_ref(kind).ok_or(OwnerError::NoIdentity)?;
    let named = !reference.name.is_empty() && !reference.uid.is_empty();
    named.then_some(reference).ok_or(OwnerError::NoIdentity)
}

/// A reference to the owner that manages, with its deletion blocked while the object exists and the owner is deleted in
/// the foreground.
///
/// # Errors
/// [`OwnerError::NoIdentity`].
pub fn controller_reference_to<O>(owner: &O) -> Result<OwnerReference, OwnerError>
where
    O: Resource,
    O::DynamicType: Default,
{
    controller_reference_to_with(owner, &O::DynamicType::default())
}

/// [`controller_reference_to`] for owners whose kind is known only at run time.
///
/// # Errors
/// [`OwnerError::NoIdentity`].
pub fn controller_reference_to_with<O: Resource>(
    owner: &O,
    kind: &O::DynamicType,
) -> Result<OwnerReference, OwnerError> {
    Ok(OwnerReference {
        controller: Some(true),
        block_owner_deletion: Some(true),
        ..reference_to_with(owner, kind)?
    })
}

// === setting ===

/// Makes `owner` the controller of the object with this metadata, with deletion of the owner blocked while the
/// object exists and the owner is deleted in the foreground.
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_controller_reference<O>(owner: &O, metadata: &mut ObjectMeta) -> Result<(), OwnerError>
where
    O: Resource,
    O::DynamicType: Default,
{
    set_controller_reference_with(owner, &O::DynamicType::default(), metadata)
}

/// [`set_controller_reference`] for owners whose kind is known only at run time.
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_controller_reference_with<O: Resource>(
    owner: &O,
    kind: &O::DynamicType,
    metadata: &mut ObjectMeta,
) -> Result<(), OwnerError> {
    let reference = controller_reference_to_with(owner, kind)?;
    set_reference(owner.meta().namespace.as_deref(), reference, metadata)
}

/// Makes `owner` an owner of the object, without managing it: the object is garbage collected when all owners are
/// gone. An owner that was the controller is it no more.
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_owner_reference<O>(owner: &O, metadata: &mut ObjectMeta) -> Result<(), OwnerError>
where
    O: Resource,
    O::DynamicType: Default,
{
    set_owner_reference_with(owner, &O::DynamicType::default(), metadata)
}

/// [`set_owner_reference`] for owners whose kind is known only at run time.
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_owner_reference_with<O: Resource>(
    owner: &O,
    kind: &O::DynamicType,
    metadata: &mut ObjectMeta,
) -> Result<(), OwnerError> {
    let reference = reference_to_with(owner, kind)?;
    set_reference(owner.meta().namespace.as_deref(), reference, metadata)
}

/// Puts a reference among the object's, in place of the one to the same owner if there is one. `namespace` is the
/// owner's; `None` if it is cluster-scoped. What the others set, with fields of one's own choice:
///
/// ```
/// # use k8s_openapi::api::core::v1::{ConfigMap, Pod};
/// # use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
/// # use trimtab_apimachinery_meta::owner;
/// # fn f(config: &ConfigMap, pod: &mut Pod) -> Result<(), owner::OwnerError> {
/// let waited_for = OwnerReference { block_owner_deletion: Some(true), ..owner::reference_to(config)? };
/// owner::set_reference(config.metadata.namespace.as_deref(), waited_for, &mut pod.metadata)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_reference(
    namespace: Option<&str>,
    reference: OwnerReference,
    metadata: &mut ObjectMeta,
) -> Result<(), OwnerError> {
    check_namespaces(namespace, metadata)?;
    check_complete(&reference)?;
    if let Some(other) = controller_of(metadata)
        && reference.controller == Some(true)
        && !same_owner(other, &reference)
    {
        return Err(already_owned(metadata, other));
    }
    upsert(metadata, reference);
    Ok(())
}

// === removing ===

/// Removes the references to this owner and says whether there were any.
pub fn remove_owner_reference(metadata: &mut ObjectMeta, owner: &OwnerReference) -> bool {
    retain(metadata, |r| !same_owner(r, owner))
}

/// Removes the reference to this owner if it is the object's controller, and says whether it was.
pub fn remove_controller_reference(metadata: &mut ObjectMeta, owner: &OwnerReference) -> bool {
    retain(metadata, |r| r.controller != Some(true) || !same_owner(r, owner))
}

/// Removes the references to the owner with that UID and says whether there were any.
pub fn remove_owner(metadata: &mut ObjectMeta, uid: &str) -> bool {
    retain(metadata, |r| r.uid != uid)
}

fn retain(metadata: &mut ObjectMeta, stays: impl Fn(&OwnerReference) -> bool) -> bool {
    let Some(references) = &mut metadata.owner_references else {
        return false;
    };
    let before = references.len();
    references.retain(stays);
    let removed = references.len() != before;
    if references.is_empty() {
        metadata.owner_references = None;
    }
    removed
}

fn upsert(metadata: &mut ObjectMeta, reference: OwnerReference) {
    let references = metadata.owner_references.get_or_insert_default();
    match references.iter_mut().find(|r| same_owner(r, &reference)) {
        Some(old) => *old = reference,
        None => references.push(reference),
    }
}

fn already_owned(metadata: &ObjectMeta, controller: &OwnerReference) -> OwnerError {
    OwnerError::AlreadyOwned {
        object: metadata.name.clone().unwrap_or_default(),
        kind: controller.kind.clone(),
        name: controller.name.clone(),
    }
}

fn check_complete(reference: &OwnerReference) -> Result<(), OwnerError> {
    let fields = [
        ("apiVersion", &reference.api_version),
        ("kind", &reference.kind),
        ("name", &reference.name),
        ("uid", &reference.uid),
    ];
    match fields.into_iter().find(|(_, value)| value.is_empty()) {
        Some((missing, _)) => Err(OwnerError::Incomplete(missing)),
        None => Ok(()),
    }
}

fn check_namespaces(owner: Option<&str>, object: &ObjectMeta) -> Result<(), OwnerError> {
    let owner = owner.unwrap_or_default().to_owned();
    let object = object.namespace.clone().unwrap_or_default();
    if owner.is_empty() || owner == object {
        return Ok(());
    }
    Err(if object.is_empty() {
        OwnerError::NamespacedOwner { owner }
    } else {
        OwnerError::CrossNamespace { owner, object }
    })
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests;

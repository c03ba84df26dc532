//! Owner references: which object another one belongs to, and which one of its owners manages it.
//!
//! At most one owner of an object is its *controller*. Two references mean the same owner when group, kind and name
//! are equal; version and UID may differ, so an owner that was deleted and made again replaces its former self.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource;

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
    check_namespaces(owner.meta(), metadata)?;
    let reference = owner.controller_owner_ref(kind).ok_or(OwnerError::NoIdentity)?;
    let reference = OwnerReference {
        block_owner_deletion: Some(true),
        ..reference
    };
    if let Some(other) = controller_of(metadata)
        && !same_owner(other, &reference)
    {
        return Err(OwnerError::AlreadyOwned {
            object: metadata.name.clone().unwrap_or_default(),
            kind: other.kind.clone(),
            name: other.name.clone(),
        });
    }
    upsert(metadata, reference);
    Ok(())
}

/// Makes `owner` an owner of the object, without managing it: the object is garbage collected when all owners are
/// gone.
///
/// # Errors
/// See [`OwnerError`]; the metadata is then as it was.
pub fn set_owner_reference<O>(owner: &O, metadata: &mut ObjectMeta) -> Result<(), OwnerError>
where
    O: Resource,
    O::DynamicType: Default,
{
    check_namespaces(owner.meta(), metadata)?;
    let reference = owner
        .owner_ref(&O::DynamicType::default())
        .ok_or(OwnerError::NoIdentity)?;
    upsert(metadata, reference);
    Ok(())
}

/// Removes the references to this owner and says whether there were any.
pub fn remove_owner_reference(metadata: &mut ObjectMeta, owner: &OwnerReference) -> bool {
    let Some(references) = &mut metadata.owner_references else {
        return false;
    };
    let before = references.len();
    references.retain(|r| !same_owner(r, owner));
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

fn check_namespaces(owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), OwnerError> {
    let owner = owner.namespace.clone().unwrap_or_default();
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
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn metadata(namespace: &str, name: &str, uid: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        }
    }

    fn deployment(namespace: &str, name: &str, uid: &str) -> Deployment {
        Deployment {
            metadata: metadata(namespace, name, uid),
            ..Deployment::default()
        }
    }

    #[test]
    fn a_controller_is_set_once_and_refreshed() {
        let mut object = metadata("ns", "pod", "p");
        set_controller_reference(&deployment("ns", "web", "1"), &mut object).expect("first controller");
        set_controller_reference(&deployment("ns", "web", "2"), &mut object)
            .expect("the same one, made again");
        let controller = controller_of(&object).expect("there is one");
        assert_eq!(
            (controller.uid.as_str(), controller.block_owner_deletion),
            ("2", Some(true))
        );
        assert_eq!(object.owner_references.as_deref().map(<[_]>::len), Some(1));

        let before = object.clone();
        let other = set_controller_reference(&deployment("ns", "other", "3"), &mut object);
        assert!(matches!(other, Err(OwnerError::AlreadyOwned { name, .. }) if name == "web"));
        assert_eq!(object, before);

        set_owner_reference(&deployment("ns", "other", "3"), &mut object).expect("a plain owner may join");
        assert_eq!(object.owner_references.as_deref().map(<[_]>::len), Some(2));
        let web = controller_of(&object).expect("still there").clone();
        assert!(remove_owner_reference(&mut object, &web) && !remove_owner_reference(&mut object, &web));
        assert_eq!(controller_of(&object), None);
    }

    #[test]
    fn owners_must_be_where_garbage_collection_finds_them() {
        let owner = deployment("ns", "web", "1");
        let elsewhere = set_controller_reference(&owner, &mut metadata("other", "pod", "p"));
        assert!(matches!(elsewhere, Err(OwnerError::CrossNamespace { .. })));
        let cluster = set_controller_reference(&owner, &mut metadata("", "node", "n"));
        assert!(matches!(cluster, Err(OwnerError::NamespacedOwner { .. })));
        let node = Node {
            metadata: metadata("", "node", "n"),
            ..Node::default()
        };
        assert_eq!(
            set_controller_reference(&node, &mut metadata("ns", "pod", "p")),
            Ok(())
        );
        let unread = Deployment {
            metadata: ObjectMeta::default(),
            ..Deployment::default()
        };
        let unread = set_controller_reference(&unread, &mut metadata("ns", "pod", "p"));
        assert_eq!(unread, Err(OwnerError::NoIdentity));
    }
}

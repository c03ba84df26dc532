//! The bodies of the patches by which objects are adopted and released.
//!
//! Each has the object's UID as a precondition, so that a patch never meets another object of the same name: the server
//! refuses it, and the next turn sees why. The strategic ones name a single reference, and are for built-in kinds. Custom
//! resources know merge patches only, which replace the list, so those have the object's resource version too, and fail
//! with a conflict if it has changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::{OwnerError, already_owned, check_complete, controller_of};

/// The strategic merge patch that makes `owner` the controller of `object`. `owner` is made by
/// [`controller_reference_to`](super::controller_reference_to).
///
/// # Errors
/// [`OwnerError::NotRead`] if the object has no UID, [`OwnerError::AlreadyOwned`] if it has another controller,
/// [`OwnerError::Incomplete`].
pub fn adopt_strategic(owner: &OwnerReference, object: &ObjectMeta) -> Result<Value, OwnerError> {
    let owner = controller(owner, object)?;
    Ok(json!({"metadata": {"uid": uid(object)?, "ownerReferences": [owner]}}))
}

/// The merge patch that makes `owner` the controller of `object`: see [`adopt_strategic`].
///
/// # Errors
/// As [`adopt_strategic`], and [`OwnerError::NotRead`] if the object has no resource version.
pub fn adopt_merge(owner: &OwnerReference, object: &ObjectMeta) -> Result<Value, OwnerError> {
    let owner = controller(owner, object)?;
    let mut references = object.owner_references.clone().unwrap_or_default();
    match references.iter_mut().find(|r| r.uid == owner.uid) {
        Some(plain) => *plain = owner,
        None => references.push(owner),
    }
    replace(object, &references)
}

/// The strategic merge patch that takes the references to the owner with that UID from `object`.
///
/// # Errors
/// [`OwnerError::NotRead`] if the object has no UID.
pub fn release_strategic(owner: &str, object: &ObjectMeta) -> Result<Value, OwnerError> {
    let delete = json!({"$patch": "delete", "uid": owner});
    Ok(json!({"metadata": {"uid": uid(object)?, "ownerReferences": [delete]}}))
}

/// The merge patch that takes the references to the owner with that UID from `object`.
///
/// # Errors
/// [`OwnerError::NotRead`] if the object has no UID or no resource version.
pub fn release_merge(owner: &str, object: &ObjectMeta) -> Result<Value, OwnerError> {
    let mut references = object.owner_references.clone().unwrap_or_default();
    references.retain(|r| r.uid != owner);
    replace(object, &references)
}

fn controller(owner: &OwnerReference, object: &ObjectMeta) -> Result<OwnerReference, OwnerError> {
    check_complete(owner)?;
    if let Some(other) = controller_of(object).filter(|other| other.uid != owner.uid) {
        return Err(already_owned(object, other));
    }
    Ok(OwnerReference {
        controller: Some(true),
        ..owner.clone()
    })
}

fn replace(object: &ObjectMeta, references: &[OwnerReference]) -> Result<Value, OwnerError> {
    let references = if references.is_empty() {
        Value::Null
    } else {
        json!(references)
    };
    let version = read(object, "resourceVersion", object.resource_version.as_deref())?;
    Ok(json!({"metadata": {"uid": uid(object)?, "resourceVersion": version, "ownerReferences": references}}))
}

fn uid(object: &ObjectMeta) -> Result<&str, OwnerError> {
    read(object, "uid", object.uid.as_deref())
}

fn read<'a>(object: &ObjectMeta, field: &'static str, value: Option<&'a str>) -> Result<&'a str, OwnerError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| OwnerError::NotRead {
            object: object.name.clone().unwrap_or_default(),
            missing: field,
        })
}

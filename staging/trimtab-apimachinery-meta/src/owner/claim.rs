//! Claims: what a controller that selects its objects by labels does with each of them.
//!
//! The decision is that of kube-controller-manager's `ControllerRefManager`, without its requests:
//!
//! - *By UID*: an object is one's own if its controller has one's UID. Names are not looked at.
//! - *One controller*: what another one controls is left alone, whatever its labels are.
//! - *The dying decide nothing*: an owner that is being deleted adopts nothing and releases nothing, since the garbage
//!   collector acts on the references that are there; and an object that is being deleted is not adopted.
//! - *Settled*: once the patch for a decision is applied, there is nothing to be done with the object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::controller_of;
use crate::LabelSelector;

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// It is one's own, and selected: count it.
    Keep,
    /// It is nobody's, and selected. Ask [`Claimant::may_adopt`] first, then patch it by
    /// [`adopt_strategic`](super::adopt_strategic) or [`adopt_merge`](super::adopt_merge), then count it.
    Adopt,
    /// It is one's own, and not selected any more: patch it by [`release_strategic`](super::release_strategic) or
    /// [`release_merge`](super::release_merge), and do not count it.
    Release,
    /// It is not one's own, and not to be.
    Ignore,
}

/// Why an owner cannot claim, or cannot adopt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The owner has no UID: it was not read from a server.
    #[error("owner {0:?} has no uid, so that nothing can be known to be its own")]
    NoIdentity(String),
    /// The selector matches everything, so the owner would adopt all that is nobody's. Refuse the owner: to treat its
    /// selector as one that matches nothing would release all that it has.
    #[error("the selector of owner {0:?} is empty and would claim every object")]
    EmptySelector(String),
    /// The owner does not exist any more. The next turn will know.
    #[error("owner {0:?} is gone")]
    Gone(String),
    /// Another object has the owner's name by now. The next turn will know.
    #[error("owner {name:?} is gone: got uid {found:?}, wanted {wanted:?}")]
    Replaced {
        /// The owner's name.
        name: String,
        /// The UID that the owner had.
        wanted: String,
        /// The UID of the object that has the name now.
        found: String,
    },
    /// The owner is being deleted. The next turn will know.
    #[error("owner {0:?} is being deleted")]
    Deleting(String),
}

/// An owner as it claims objects.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    name: &'a str,
    uid: &'a str,
    /// Where it is; empty if it is cluster-scoped.
    namespace: &'a str,
    deleting: bool,
    selector: &'a LabelSelector,
}

impl<'a> Claimant<'a> {
    /// The owner with this metadata, which claims what `selector` matches.
    ///
    /// # Errors
    /// [`ClaimError::NoIdentity`], [`ClaimError::EmptySelector`].
    pub fn new(owner: &'a ObjectMeta, selector: &'a LabelSelector) -> Result<Self, ClaimError> {
        let name = owner.name.as_deref().unwrap_or_default();
        let uid = owner.uid.as_deref().unwrap_or_default();
        if uid.is_empty() {
            return Err(ClaimError::NoIdentity(name.to_owned()));
        }
        if selector.is_empty() {
            return Err(ClaimError::EmptySelector(name.to_owned()));
        }
        Ok(Self {
            name,
            uid,
            namespace: owner.namespace.as_deref().unwrap_or_default(),
            deleting: owner.deletion_timestamp.is_some(),
            selector,
        })
    }

    /// What is done with the object with this metadata.
    pub fn claim(&self, object: &ObjectMeta) -> Claim {
        match controller_of(object) {
            Some(controller) if controller.uid != self.uid => Claim::Ignore,
            Some(_) if self.selects(object) => Claim::Keep,
            Some(_) if self.deleting => Claim::Ignore,
            Some(_) => Claim::Release,
            None if self.deleting || object.deletion_timestamp.is_some() => Claim::Ignore,
            None if self.reaches(object) && self.selects(object) => Claim::Adopt,
            None => Claim::Ignore,
        }
    }

    /// Whether the owner may adopt, by its `latest` metadata; `None` if it is not there. The metadata must come from the
    /// server, once before the first adoption of a turn. A cache that is behind may still show an owner that was deleted,
    /// or deleted and made again, and what is adopted for that one goes to the garbage collector.
    ///
    /// # Errors
    /// [`ClaimError::Gone`], [`ClaimError::Replaced`], [`ClaimError::Deleting`].
    pub fn may_adopt(&self, latest: Option<&ObjectMeta>) -> Result<(), ClaimError> {
        let Some(latest) = latest else {
            return Err(ClaimError::Gone(self.name.to_owned()));
        };
        let found = latest.uid.as_deref().unwrap_or_default();
        if found != self.uid {
            return Err(ClaimError::Replaced {
                name: self.name.to_owned(),
                wanted: self.uid.to_owned(),
                found: found.to_owned(),
            });
        }
        if latest.deletion_timestamp.is_some() {
            return Err(ClaimError::Deleting(self.name.to_owned()));
        }
        Ok(())
    }

    fn selects(&self, object: &ObjectMeta) -> bool {
        let labels = object.labels.as_ref();
        self.selector
            .matches_with(|key| labels.and_then(|labels| labels.get(key)))
    }

    /// Whether garbage collection would find the owner from there.
    fn reaches(&self, object: &ObjectMeta) -> bool {
        self.namespace.is_empty() || object.namespace.as_deref() == Some(self.namespace)
    }
}

//! Where other parts of the server take part in a request: admission, allocation, and resources with no storage.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, GroupVersionKind};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Compare, Op};

use super::Registry;
use crate::api::{ApiRequest, ApiResponse};

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Makes it.
    Create,
    /// Changes it: PUT and PATCH.
    Update,
    /// Deletes it.
    Delete,
    /// Reaches through it, as `pods/exec`.
    Connect,
}

impl Operation {
    /// As admission reviews write it: `CREATE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What is known of a request when its object is looked at.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub resource: Arc<Resource>,
    /// Below the object; empty for the object itself.
    pub subresource: String,
    /// The object's namespace; of a namespace its name; empty for other cluster-scoped objects.
    pub namespace: String,
    /// The object's name; empty before one has been generated, and when a collection is deleted.
    pub name: String,
    /// Who asks.
    pub user: UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of the operation, as `CreateOptions` of meta.k8s.io/v1; null for [`Operation::Connect`]. They may be
    /// others than the request's: a patch that makes an object has `CreateOptions`.
    pub options: Value,
    /// When the request has to be answered; `None` when it may last.
    pub deadline: Option<Instant>,
}

impl Attributes {
    /// What kind of object the request is about: the resource's own, or that of the subresource, as `Scale`.
    pub fn kind(&self) -> GroupVersionKind {
        self.resource
            .subresource(&self.subresource)
            .map_or_else(|| self.resource.gvk(), |below| below.gvk.clone())
    }
}

/// Looks at objects before they are stored, and may change or refuse them. The default bodies do neither.
///
/// Objects are defaulted when [`Admission::mutate`] sees them, and final and valid when [`Admission::validate`] does.
/// Both may be called more than once for one request when the object changes meanwhile.
#[async_trait]
pub trait Admission: fmt::Debug + Send + Sync {
    /// Whether there may be anything to do about requests like this; if not, neither of the others is called. It must cost
    /// next to nothing.
    fn concerns(&self, attributes: &Attributes) -> bool {
        let _ = attributes;
        true
    }

    /// Changes an object that is about to be created or updated, or the options of a connection; `old` is what is
    /// stored. Of subresources with a kind of their own both are of that kind.
    ///
    /// # Errors
    ///
    /// Any error refuses the request and is its answer.
    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let _ = (attributes, object, old, warnings);
        Ok(())
    }

    /// Has the last word: `object` is the new state (`None` for deletes), `old` the stored one. Of deletes this is the
    /// only word, since there is nothing to change.
    ///
    /// # Errors
    ///
    /// Any error refuses the request and is its answer.
    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let _ = (attributes, object, old, warnings);
        Ok(())
    }
}

/// Admits everything as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

impl Admission for AdmitAll {}

/// What has been allocated for an object that is not stored yet.
///
/// Conditions and changes become part of the object's own transaction, so that nothing is held twice and nothing
/// leaks. When a condition fails, the request is tried again with a new allocation.
pub trait Allocation: Send {
    /// What must hold in the store when the object is written.
    fn conditions(&self) -> Vec<Compare> {
        Vec::new()
    }

    /// What is written along with the object.
    fn changes(&self) -> Vec<Op> {
        Vec::new()
    }

    /// The object has been stored. An allocation that is dropped without this was not used.
    fn committed(self: Box<Self>) {}
}

/// Fills in what must be unique in the cluster: cluster IPs, node ports.
#[async_trait]
pub trait Allocators: fmt::Debug + Send + Sync {
    /// Whether anything may be allocated for an object like this; if not, [`Allocators::allocate`] answers `None`.
    fn concerns(&self, attributes: &Attributes) -> bool {
        let _ = attributes;
        true
    }

    /// Fills in `object`, which is defaulted and not yet validated. Called for every create and update; dry runs
    /// (`attributes.dry_run`) are filled in and never committed.
    ///
    /// # Errors
    ///
    /// When what the object asks for cannot be had.
    async fn allocate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError>;

    /// What to write along with an object's removal, to give back what it held.
    fn release(&self, resource: &Resource, object: &Value) -> Vec<Op>;

    /// The object has been removed.
    fn released(&self, resource: &Resource, object: &Value);
}

/// Allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAllocators;

#[async_trait]
impl Allocators for NoAllocators {
    fn concerns(&self, _: &Attributes) -> bool {
        false
    }

    async fn allocate(
        &self,
        _: &Attributes,
        _: &mut Value,
        _: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError> {
        Ok(None)
    }

    fn release(&self, _: &Resource, _: &Value) -> Vec<Op> {
        Vec::new()
    }

    fn released(&self, _: &Resource, _: &Value) {}
}

/// Counts what objects use against what may be used.
#[async_trait]
pub trait Accounts: fmt::Debug + Send + Sync {
    /// Whether a request like this may have to be counted; if not, [`Accounts::charge`] is not called. Asked for every
    /// create and update, and must cost next to nothing.
    fn concerns(&self, attributes: &Attributes) -> bool;

    /// Counts an object that has been admitted, against what is counted of `old`. The count is written along with the
    /// object, or not at all; of dry runs (`attributes.dry_run`) nothing is.
    ///
    /// # Errors
    ///
    /// When the object would use more than may be used.
    async fn charge(
        &self,
        attributes: &Attributes,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError>;
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccounts;

#[async_trait]
impl Accounts for NoAccounts {
    fn concerns(&self, _: &Attributes) -> bool {
        false
    }

    async fn charge(
        &self,
        _: &Attributes,
        _: &Value,
        _: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError> {
        Ok(None)
    }
}

/// Answers requests for a resource, or subresource, that the registry does not store: reviews, tokens.
#[async_trait]
pub trait VirtualResource: fmt::Debug + Send + Sync {
    /// Answers a request.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError>;
}

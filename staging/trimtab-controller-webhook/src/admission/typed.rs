//! Defaulting and validation of objects of one type.

use std::fmt;
use std::marker::PhantomData;

use kube::core::GroupVersionKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::difference::difference;
use super::handler::{Admitted, Handler};
use super::refusal::Refusal;
use super::request::{Operation, Request};

/// A kind that webhooks can review: its type says which kind it is, and can be read and written.
///
/// Implemented for every type that fits: those of `k8s-openapi` and derived custom resources.
pub trait Reviewed:
    kube::Resource<DynamicType: Default> + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

impl<K> Reviewed for K where
    K: kube::Resource<DynamicType: Default>
        + Serialize
        + DeserializeOwned
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// Completes objects before they are validated and written.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not default `{K}`",
    note = "implement `async fn default(&self, object: &mut {K}, request: &Request) -> Result<(), Refusal>`"
)]
pub trait Defaulter<K: Reviewed>: Send + Sync + 'static {
    /// Completes an object that is to be created or updated.
    ///
    /// Only what is changed here is changed in the object as it was sent (*Difference only*): a value that decoding
    /// has filled in, as by `#[serde(default)]`, is not written unless it is changed. Can be asked more than once about one
    /// object, which then is complete already. Cancelled when the server gives up.
    fn default(&self, object: &mut K, request: &Request) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Says which objects may be created, and how they may be changed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not validate `{K}`",
    note = "implement `async fn create(&self, object: &{K}, request: &Request) -> Result<(), Refusal>`"
)]
pub trait Validator<K: Reviewed>: Send + Sync + 'static {
    /// Whether the object may be created. Cancelled when the server gives up.
    fn create(&self, object: &K, request: &Request) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Whether the object may be changed so; if nothing else is said, as whether it could be created.
    ///
    /// What was let in once should not be refused for the same reason later: rules that were tightened since would keep
    /// finalizers from being removed ([`Request::is_deleting`]).
    fn update(
        &self,
        old: &K,
        new: &K,
        request: &Request,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = old;
        self.create(new, request)
    }
}

/// Says which objects may be deleted.
///
/// Namespaces cannot end while an object in them may not: this is for protection against mistakes, not for cleaning
/// up, which is what finalizers are for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not validate deletions of `{K}`",
    note = "implement `async fn delete(&self, object: &{K}, request: &Request) -> Result<(), Refusal>`"
)]
pub trait DeletionValidator<K: Reviewed>: Send + Sync + 'static {
    /// Whether the object may be deleted. Cancelled when the server gives up.
    fn delete(&self, object: &K, request: &Request) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// A [`Defaulter`] as a [`Handler`].
pub(crate) struct Defaults<K, D>(D, PhantomData<fn() -> K>);

/// A [`Validator`] as a [`Handler`].
pub(crate) struct Validates<K, V>(V, PhantomData<fn() -> K>);

/// A [`DeletionValidator`] as a [`Handler`].
pub(crate) struct Deletions<K, V>(V, PhantomData<fn() -> K>);

impl<K, D> Defaults<K, D> {
    pub(crate) fn new(defaulter: D) -> Self {
        Self(defaulter, PhantomData)
    }
}

impl<K, V> Validates<K, V> {
    pub(crate) fn new(validator: V) -> Self {
        Self(validator, PhantomData)
    }
}

impl<K, V> Deletions<K, V> {
    pub(crate) fn new(validator: V) -> Self {
        Self(validator, PhantomData)
    }
}

impl<K: Reviewed, D: Defaulter<K>> Handler for Defaults<K, D> {
    async fn handle(&self, request: &Request) -> Result<Admitted, Refusal> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(Admitted::AsSent);
        }
        let mut object: K = decode(request, &request.object, "object")?;
        let before = encode(&object)?;
        self.0.default(&mut object, request).await?;
        let after = encode(&object)?;
        if before == after {
            return Ok(Admitted::AsSent);
        }
        Ok(Admitted::Changed(difference(&request.object, &before, &after)))
    }
}

impl<K: Reviewed, V: Validator<K>> Handler for Validates<K, V> {
    async fn handle(&self, request: &Request) -> Result<Admitted, Refusal> {
        match request.operation {
            Operation::Create => {
                let object = decode(request, &request.object, "object")?;
                self.0.create(&object, request).await?;
            }
            Operation::Update => {
                let new = decode(request, &request.object, "object")?;
                let old = decode(request, &request.old_object, "oldObject")?;
                self.0.update(&old, &new, request).await?;
            }
            Operation::Delete | Operation::Connect => {}
        }
        Ok(Admitted::AsSent)
    }
}

impl<K: Reviewed, V: DeletionValidator<K>> Handler for Deletions<K, V> {
    async fn handle(&self, request: &Request) -> Result<Admitted, Refusal> {
        if request.operation == Operation::Delete {
            let object = decode(request, &request.old_object, "oldObject")?;
            self.0.delete(&object, request).await?;
        }
        Ok(Admitted::AsSent)
    }
}

/// The object as a `K`. The error names the kind, and the place as far as the decoder knows it.
fn decode<K: Reviewed>(request: &Request, object: &Value, part: &str) -> Result<K, Refusal> {
    let kind = K::DynamicType::default();
    let wanted = GroupVersionKind::gvk(&K::group(&kind), &K::version(&kind), &K::kind(&kind));
    if request.kind != wanted {
        return Err(Refusal::bad_request(format!(
            "this webhook is about {} of {}, and not {} of {}; correct its rules",
            wanted.kind,
            wanted.api_version(),
            request.kind.kind,
            request.kind.api_version(),
        )));
    }
    K::deserialize(object)
        .map_err(|error| Refusal::bad_request(format!("{part} is not a {}: {error}", wanted.kind)))
}

fn encode<K: Reviewed>(object: &K) -> Result<Value, Refusal> {
    serde_json::to_value(object).map_err(Refusal::failed)
}

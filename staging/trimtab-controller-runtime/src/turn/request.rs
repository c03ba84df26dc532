//! The requests that turns make, for kinds of any scope.

use std::any::TypeId;

use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions, Request};
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{Instrument, Span};
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Object;

use crate::error::{Error, Result};
use crate::spans;
use crate::subject::Reconciled;

/// Whether objects of this kind live in namespaces, as far as the type tells.
pub(crate) fn is_namespaced<T: Object>() -> bool {
    TypeId::of::<T::Scope>() != TypeId::of::<ClusterResourceScope>()
}

/// Reads an object from the server. None: there is none.
pub(super) async fn get<T: Reconciled>(client: &Client, key: &ObjectKey) -> Result<Option<T>> {
    let request = collection::<T>(key).get(&key.name, &GetParams::default());
    match send(client, request, spans::request::<T>("get", key, None)).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates an object, in the namespace that it says.
pub(super) async fn create<T: Reconciled>(client: &Client, object: &T, params: &PostParams) -> Result<T> {
    let key = ObjectKey {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    };
    let request = collection::<T>(&key).create(params, serde_json::to_vec(object)?);
    send(client, request, spans::request::<T>("create", &key, None)).await
}

/// Patches an object, or a part of it.
pub(super) async fn patch<T: Reconciled, P: Serialize>(
    client: &Client,
    key: &ObjectKey,
    part: Option<&str>,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<T> {
    let request = match part {
        Some(part) => collection::<T>(key).patch_subresource(part, &key.name, params, patch),
        None => collection::<T>(key).patch(&key.name, params, patch),
    };
    let verb = match patch {
        Patch::Apply(_) => "apply",
        _ => "patch",
    };
    send(client, request, spans::request::<T>(verb, key, part)).await
}

/// Deletes an object, with its dependents left to the collector.
pub(super) async fn delete<T: Reconciled>(
    client: &Client,
    key: &ObjectKey,
    preconditions: Option<Preconditions>,
) -> Result<()> {
    let params = DeleteParams {
        preconditions,
        ..DeleteParams::background()
    };
    let request = collection::<T>(key).delete(&key.name, &params);
    let span = spans::request::<T>("delete", key, None);
    // The answer is the object or a status, whichever the server likes.
    send::<serde_json::Value>(client, request, span).await.map(drop)
}

fn collection<T: Reconciled>(key: &ObjectKey) -> Request {
    Request::new(T::url_path(&T::DynamicType::default(), key.namespace()))
}

async fn send<A: DeserializeOwned>(
    client: &Client,
    request: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    span: Span,
) -> Result<A> {
    let answer = ask(client, request).instrument(span.clone()).await;
    let answer = answer.and_then(|text| serde_json::from_str(&text).map_err(kube::Error::SerdeError));
    let answer = answer.map_err(Error::from);
    spans::answered(&span, &answer);
    answer
}

/// The text of an answer: what is the same for all kinds.
async fn ask(
    client: &Client,
    request: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<String> {
    client
        .request_text(request.map_err(kube::Error::BuildRequest)?)
        .await
}

/// The version of an answer.
pub(super) fn version_of<T: Reconciled>(answer: &T) -> Option<&str> {
    answer.meta().resource_version.as_deref()
}

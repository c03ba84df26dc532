//! The server's own word on an object: requests for one object's metadata, none of which waits for ever.

use std::time::Duration;

use futures::io::{copy_buf, sink};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{Request, Status};
use kube::{Client, Error, Resource as _};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::resources::Resource;

/// Whose fields they are that the controllers write.
const MANAGER: &str = "trimtab-controller-manager";

/// What creates and updates are sent with.
pub(crate) fn post_params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// How long one request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Objects per page of a list.
pub(crate) const PER_PAGE: u32 = 500;

/// Why a request failed. All of these may pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    #[error(transparent)]
    Server(#[from] Error),
    #[error("the server did not answer within {0:?}")]
    Late(Duration),
}

/// An object's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'a> {
    pub(crate) resource: &'a Resource,
    /// Ignored if the resource is cluster-scoped.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// The objects of a resource, in one namespace if it has any.
pub(crate) fn api(client: &Client, resource: &Resource, namespace: &str) -> Api<DynamicObject> {
    if resource.namespaced {
        Api::namespaced_with(client.clone(), namespace, &resource.api)
    } else {
        Api::all_with(client.clone(), &resource.api)
    }
}

/// Deletes all objects of a resource in a namespace by one request. Its answer lists them, and may be as large as they are
/// together, so that it is not kept.
pub(crate) async fn delete_all(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    params: &DeleteParams,
) -> Result<(), LiveError> {
    let path = DynamicObject::url_path(&resource.api, Some(namespace));
    let request = Request::new(path).delete_collection(params, &ListParams::default());
    let request = request.map_err(Error::BuildRequest)?;
    patiently(async {
        let answer = client.request_stream(request).await?;
        copy_buf(answer, &mut sink()).await.map_err(Error::ReadEvents)?;
        Ok(())
    })
    .await
}

/// A page of the objects of a resource in a namespace, of which only metadata is sent, and of that only read what `T` has; with
/// how many are left, where the server says so, and the token of the next page, if there is one.
pub(crate) async fn page<T: DeserializeOwned>(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    params: &ListParams,
) -> Result<(Vec<T>, Option<i64>, Option<String>), LiveError> {
    #[derive(Deserialize)]
    struct Page<T> {
        metadata: ListMeta,
        items: Option<Vec<T>>, // `null`, where there is none
    }

    let path = DynamicObject::url_path(&resource.api, Some(namespace));
    let request = Request::new(path).list_metadata(params);
    let request = request.map_err(Error::BuildRequest)?;
    let page: Page<T> = patiently(client.request(request)).await?;
    let next = page.metadata.continue_.filter(|token| !token.is_empty());
    Ok((
        page.items.unwrap_or_default(),
        page.metadata.remaining_item_count,
        next,
    ))
}

/// How many objects of a resource there are in a namespace: what the server says is left after the first one.
pub(crate) async fn count(client: &Client, resource: &Resource, namespace: &str) -> Result<u64, LiveError> {
    let mut params = ListParams::default().limit(1);
    let mut count = 0;
    loop {
        let (items, left, next) = page::<IgnoredAny>(client, resource, namespace, &params).await?;
        count += items.len() as u64;
        match (left, next) {
            (Some(left), _) => return Ok(count + u64::try_from(left).unwrap_or_default()),
            // This one does not count for others.
            (None, Some(token)) => params = ListParams::default().limit(PER_PAGE).continue_token(&token),
            (None, None) => return Ok(count),
        }
    }
}

/// Waits for a request, but not for ever.
pub(crate) async fn patiently<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, LiveError> {
    let answered = tokio::time::timeout(PATIENCE, request).await;
    Ok(answered.map_err(|_| LiveError::Late(PATIENCE))??)
}

impl Address<'_> {
    /// The object's metadata; `None` only if the server says that there is no object of this name. That a server does
    /// not know the resource at all says nothing of the object.
    pub(crate) async fn get(self, client: &Client) -> Result<Option<ObjectMeta>, LiveError> {
        let api = api(client, self.resource, self.namespace);
        match patiently(api.get_metadata(self.name)).await {
            Ok(object) => Ok(Some(object.metadata)),
            Err(LiveError::Server(Error::Api(status))) if is_missing(&status, self.name) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Merges into the object's metadata.
    pub(crate) async fn patch(self, client: &Client, metadata: serde_json::Value) -> Result<(), LiveError> {
        let api = api(client, self.resource, self.namespace);
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        patiently(api.patch_metadata(self.name, &params, &patch))
            .await
            .map(drop)
    }

    /// Deletes the object. Being told that it is gone is success.
    pub(crate) async fn delete(self, client: &Client, params: &DeleteParams) -> Result<(), LiveError> {
        let api = api(client, self.resource, self.namespace);
        match patiently(api.delete(self.name, params)).await {
            Err(LiveError::Server(Error::Api(status))) if is_missing(&status, self.name) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

fn is_missing(status: &Status, name: &str) -> bool {
    status.code == 404
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.name == name)
}

impl LiveError {
    /// Whether the object has changed since it was read.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Server(Error::Api(status)) if status.is_conflict())
    }

    /// The answer's status code; 0 if there was none.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Server(Error::Api(status)) => status.code,
            _ => 0,
        }
    }
}

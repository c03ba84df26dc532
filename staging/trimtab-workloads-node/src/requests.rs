//! What all requests of the simulation have in common: none waits for ever, and each says whose it is.

use std::time::Duration;

use std::fmt::Debug;

use kube::Error;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long one request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request failed. All of these may pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Server(#[from] Error),
    #[error("the server did not answer within {0:?}")]
    Late(Duration),
}

/// Waits for a request, but not for ever.
pub(crate) async fn patiently<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, RequestError> {
    let answered = tokio::time::timeout(PATIENCE, request).await;
    Ok(answered.map_err(|_| RequestError::Late(PATIENCE))??)
}

/// What creates are sent with in the name of `manager`.
pub(crate) fn post(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}

/// Changes an object in the name of `manager`.
pub(crate) async fn change<K>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    change: Patch<impl Serialize + Debug>,
) -> Result<K, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    patiently(api.patch(name, &by(manager), &change)).await
}

/// Changes an object's status in the name of `manager`.
pub(crate) async fn change_status<K>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    change: Patch<impl Serialize + Debug>,
) -> Result<K, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    patch_part(api, "status", name, manager, change).await
}

/// Changes a part of an object in the name of `manager`.
pub(crate) async fn patch_part<K>(
    api: &Api<K>,
    part: &str,
    name: &str,
    manager: &str,
    change: Patch<impl Serialize + Debug>,
) -> Result<K, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    patiently(api.patch_subresource(part, name, &by(manager), &change)).await
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

impl RequestError {
    /// The answer's status code; 0 if there was none.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Server(Error::Api(status)) => status.code,
            _ => 0,
        }
    }
}

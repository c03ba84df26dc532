//! Requests that the server makes to itself on behalf of definitions.

use bytes::Bytes;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

use super::{GROUP, PLURAL};
use crate::api::{ApiRequest, ApiResponse};
use crate::registry::{Registry, meta};

/// A request of the server's own.
pub(super) fn own(verb: &str, method: &str) -> ApiRequest {
    ApiRequest::own(verb, method, "kube-apiserver")
}

fn of_definition(verb: &str, method: &str, name: &str) -> ApiRequest {
    let mut request = own(verb, method);
    request.info.group = GROUP.to_owned();
    request.info.version = "v1".to_owned();
    request.info.resource = PLURAL.to_owned();
    request.info.name = name.to_owned();
    request
}

fn value(response: ApiResponse) -> Result<Value, ApiError> {
    Ok(match response.decoded()? {
        ApiResponse::Value { value, .. } => value,
        ApiResponse::Encoded { .. } | ApiResponse::Watch { .. } => Value::Null,
    })
}

/// Reads a definition.
pub(super) async fn get(registry: &Registry, name: &str) -> Result<Value, ApiError> {
    registry
        .handle(of_definition("get", "GET", name))
        .await
        .and_then(value)
}

/// Writes a definition's status, and its finalizers, if it is still as it was read. Answers what is stored.
pub(super) async fn update_status(registry: &Registry, definition: &Value) -> Result<Value, ApiError> {
    let mut request = of_definition("update", "PUT", meta::name(definition));
    request.info.subresource = "status".to_owned();
    request.body = Bytes::from(definition.to_string());
    registry.handle(request).await.and_then(value)
}

//! Where namespaces are looked for: at the API server in front.

use async_trait::async_trait;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_core::admission::Reader;

use super::delegation::Delegation;

/// Reads namespaces, as they are now. Of others an extension server knows nothing.
#[derive(Debug)]
pub(super) struct Namespaces(pub(super) Delegation);

#[async_trait]
impl Reader for Namespaces {
    async fn get(&self, group: &str, plural: &str, _: &str, name: &str) -> Result<Option<Value>, ApiError> {
        if (group, plural) != ("", "namespaces") {
            return Err(unread(plural));
        }
        let path = format!(
            "/api/v1/namespaces/{}",
            utf8_percent_encode(name, NON_ALPHANUMERIC)
        );
        match self.0.call(Method::GET, &path, &Value::Null).await {
            Ok(namespace) => Ok(Some(namespace)),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(ApiError::internal(format!(
                "namespace {name} cannot be looked for, which this server's account needs the right to get: {}",
                error.message
            ))),
        }
    }

    async fn list(&self, _: &str, plural: &str, _: &str) -> Result<Vec<Value>, ApiError> {
        Err(unread(plural))
    }
}

fn unread(plural: &str) -> ApiError {
    ApiError::internal(format!(
        "an extension server does not read {plural} of the API server in front of it"
    ))
}

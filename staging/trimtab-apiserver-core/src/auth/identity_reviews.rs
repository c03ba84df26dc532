//! Reviews of who somebody is: of oneself, and of the bearer of a token.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;

use super::authenticate::Known;
use super::body;
use crate::api::{ApiRequest, ApiResponse};
use crate::registry::Registry;
use crate::registry::hooks::VirtualResource;

pub(super) const GROUP: &str = "authentication.k8s.io";

/// Says who asks.
#[derive(Debug)]
pub(super) struct SelfReview;

#[async_trait]
impl VirtualResource for SelfReview {
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let object = body::read(&request, GROUP, "SelfSubjectReview")?;
        Ok(body::created(json!({
            "kind": "SelfSubjectReview",
            "apiVersion": object["apiVersion"],
            "metadata": {"creationTimestamp": body::time(registry.now())},
            "status": {"userInfo": user_info(&request.user)},
        })))
    }
}

/// Says whom a token stands for.
#[derive(Debug)]
pub(super) struct TokenReview {
    pub(super) known: Arc<Known>,
}

#[async_trait]
impl VirtualResource for TokenReview {
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let mut object = body::read(&request, GROUP, "TokenReview")?;
        let spec = object["spec"].clone();
        let Some(token) = spec["token"].as_str() else {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        };
        object["status"] = match self.known.token(token, &body::texts(&spec["audiences"])).await {
            Ok((user, audiences)) => {
                let user = user_info(&user.authenticated());
                json!({"authenticated": true, "user": user, "audiences": audiences})
            }
            Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
        };
        body::track(&request, &mut object, &spec, registry.now());
        Ok(body::created(object))
    }
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

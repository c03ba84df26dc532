//! Resources whose objects are made when somebody asks for them, and kept nowhere.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_core::api::{ApiRequest, ApiResponse};
use trimtab_apiserver_core::registry::{Registry, VirtualResource};
use trimtab_apiserver_kinds::resource::Resource;

/// What can be done with them.
pub(super) const VERBS: [&str; 2] = ["get", "list"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The namespace; `None` for cluster-scoped resources, and for lists across namespaces.
    pub namespace: Option<String>,
    /// Who asks. That they may has been decided.
    pub user: UserInfo,
}

/// Makes the objects of a resource. They have to say their names, and in namespaces their namespace; `kind` and `apiVersion` are
/// added. Selectors are applied, and pages and tables made, of what it answers.
#[async_trait]
pub trait Computed: fmt::Debug + Send + Sync + 'static {
    /// The objects.
    type Object: Serialize + Send;

    /// All objects that there are, of one namespace or of all.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    async fn list(&self, asked: &Asked) -> Result<Vec<Self::Object>, ApiError>;

    /// The object of that name, if there is one. As it is given, it is looked for among all of its namespace.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    async fn get(&self, asked: &Asked, name: &str) -> Result<Option<Self::Object>, ApiError> {
        for object in self.list(asked).await? {
            let value = serde_json::to_value(&object).map_err(ApiError::internal)?;
            if value["metadata"]["name"] == name {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

/// One version of a resource that is computed.
#[derive(Debug)]
pub(super) struct Computing<C> {
    pub(super) computed: Arc<C>,
    pub(super) resource: Arc<Resource>,
}

/// An object that somebody has computed, with what is added.
pub(super) fn whole(object: &impl Serialize, resource: &Resource) -> Result<Value, ApiError> {
    let mut value = serde_json::to_value(object).map_err(ApiError::internal)?;
    value["kind"] = resource.kind.as_str().into();
    value["apiVersion"] = resource.api_version().into();
    Ok(value)
}

#[async_trait]
impl<C: Computed> VirtualResource for Computing<C> {
    async fn handle(&self, registry: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let info = &request.info;
        let named = |verb: &str| ApiError::method_not_allowed(&self.resource.group_resource(), verb);
        if self.resource.namespaced() && info.namespace.is_empty() && !info.name.is_empty() {
            return Err(ApiError::unknown_resource());
        }
        let asked = Asked {
            namespace: Some(info.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            user: request.user.clone(),
        };
        match info.verb.as_str() {
            "list" => {
                let objects = self.computed.list(&asked).await?;
                let values: Result<Vec<_>, _> = objects
                    .iter()
                    .map(|object| whole(object, &self.resource))
                    .collect();
                registry.show_all(&request, &self.resource, values?)
            }
            "get" => {
                let object = self.computed.get(&asked, &info.name).await?;
                let object =
                    object.ok_or_else(|| ApiError::not_found(&self.resource.group_resource(), &info.name))?;
                registry.show(&request, &self.resource, whole(&object, &self.resource)?)
            }
            other => Err(named(other)),
        }
    }
}

//! Admission of what is created without being stored, by a part of the server that answers by itself.

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

use super::hooks::{Attributes, Operation};
use super::{Call, Registry};
use crate::api::ApiRequest;

/// A create on its way through admission.
pub(crate) struct Creation<'a> {
    call: Call<'a>,
    attributes: Attributes,
}

impl<'a> Creation<'a> {
    /// The create that a request asks for, of a resource or below one.
    ///
    /// # Errors
    ///
    /// When the request cannot be understood.
    pub(crate) fn new(registry: &'a Registry, request: &ApiRequest) -> Result<Self, ApiError> {
        let info = &request.info;
        let resource = registry
            .resources
            .get(&info.group, &info.version, &info.resource)
            .ok_or_else(ApiError::unknown_resource)?;
        let call = Call::new(registry, request.clone(), resource)?;
        let dry_run = request.param("dryRun") == Some("All");
        let options = call.options("CreateOptions", dry_run);
        let attributes = call.attributes(Operation::Create, &info.name, dry_run, options);
        Ok(Self { call, attributes })
    }

    /// Shows admission the object, which it may change.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub(crate) async fn mutate(&mut self, object: &mut Value) -> Result<(), ApiError> {
        let admission = self.call.hooks.admission.clone();
        admission
            .mutate(&self.attributes, object, None, &mut self.call.warnings)
            .await
    }

    /// Asks admission for its last word; answers what the client is to be warned of.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub(crate) async fn validate(mut self, object: &Value) -> Result<Vec<String>, ApiError> {
        let admission = self.call.hooks.admission.clone();
        admission
            .validate(&self.attributes, Some(object), None, &mut self.call.warnings)
            .await?;
        Ok(self.call.warnings)
    }
}

//! Objects that nobody stores: made when somebody asks for them, and shown as stored ones are.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;

use super::Registry;
use super::list::Page;
use super::list_options::ListOptions;
use super::shape::Shaper;
use super::view::Filter;
use crate::api::{ApiRequest, ApiResponse};

impl Registry {
    /// A list of these objects, as the request wants it: what its selectors match, in its shape. It is one page, and of no
    /// resource version.
    ///
    /// # Errors
    ///
    /// When the options make no sense, or the shape is none of a list.
    pub fn show_all(
        &self,
        request: &ApiRequest,
        resource: &Arc<Resource>,
        mut objects: Vec<Value>,
    ) -> Result<ApiResponse, ApiError> {
        let options = ListOptions::read(request, resource, false)?;
        let filter = Filter::new(resource.clone(), options.labels, options.fields);
        objects.retain(|object| filter.matches(object));
        let shaper = Shaper::new(resource, request, self.now());
        shaper.check(true)?;
        let page = Page {
            objects,
            revision: 0,
            next: None,
            remaining: None,
        };
        let mut value = shaper.list(page);
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        Ok(answer(value, resource))
    }

    /// One object, as the request wants it.
    ///
    /// # Errors
    ///
    /// When the shape is none of an object.
    pub fn show(
        &self,
        request: &ApiRequest,
        resource: &Arc<Resource>,
        object: Value,
    ) -> Result<ApiResponse, ApiError> {
        let shaper = Shaper::new(resource, request, self.now());
        shaper.check(false)?;
        Ok(answer(shaper.object(object), resource))
    }
}

fn answer(value: Value, resource: &Resource) -> ApiResponse {
    ApiResponse::Value {
        code: 200,
        value,
        warnings: resource.deprecation_warning.clone().into_iter().collect(),
    }
}

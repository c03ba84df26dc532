//! Objects that nobody stores: made when somebody asks for them, and shown as stored ones are.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;

use super::Registry;
use super::continue_token::ContinueToken;
use super::list::Page;
use super::list_options::{ListOptions, ReadAt};
use super::meta;
use super::shape::Shaper;
use super::view::Filter;
use crate::api::{ApiRequest, ApiResponse};

impl Registry {
    /// A list of these objects, as the request wants it: what its selectors match, in the order of their names, in pages, in its
    /// shape. It is of no resource version, and the pages of a list are of different moments.
    ///
    /// # Errors
    ///
    /// When the options make no sense or ask for a resource version, or the shape is none of a list.
    pub fn show_all(
        &self,
        request: &ApiRequest,
        resource: &Arc<Resource>,
        mut objects: Vec<Value>,
    ) -> Result<ApiResponse, ApiError> {
        let options = ListOptions::read(request, resource, false)?;
        if matches!(options.read_at, ReadAt::Exactly(_)) {
            let why = "objects that are computed when they are asked for are of no resource version: ask without one";
            return Err(ApiError::expired(why));
        }
        let (is_open, limit, token) = (options.is_open(), options.limit, options.token);
        let filter = Filter::new(resource.clone(), options.labels, options.fields);
        objects.retain(|object| filter.matches(object));
        let across = request.info.namespace.is_empty() && resource.namespaced();
        let key = |object: &Value| match across {
            true => format!("{}/{}", meta::namespace(object), meta::name(object)),
            false => meta::name(object).to_owned(),
        };
        objects.sort_by_cached_key(key);
        if let Some(token) = token {
            objects.retain(|object| key(object).as_str() >= token.start());
        }
        let left = objects.len().saturating_sub(limit);
        let is_whole = limit == 0 || left == 0;
        if !is_whole {
            objects.truncate(limit);
        }
        let last = objects.last().filter(|_| !is_whole);
        let next = last.map(|last| ContinueToken::new(0, key(last) + "\0").inconsistent());
        let remaining = (is_open && !is_whole).then_some(left);
        let shaper = Shaper::new(resource, request, self.now());
        shaper.check(true)?;
        let page = Page {
            objects,
            revision: 0,
            next,
            remaining,
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

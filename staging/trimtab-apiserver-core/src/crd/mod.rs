//! Custom resources: the kind that defines them, and what the server does so that they are served.
//!
//! `definition` is the strategy of CustomResourceDefinition: what is filled in and refused. `controller` watches
//! definitions in the store, decides on their names, and keeps the resource table: an accepted definition is in the
//! table before it is called established. `resource` makes of each served version a resource with its own strategy;
//! `conversion` has webhooks convert objects between versions. `cleanup` deletes the objects of a definition that is being deleted.

mod cleanup;
pub(crate) mod controller;
pub(crate) mod conversion;
mod definition;
mod names;
mod own;
mod requests;
mod resource;
mod schema;
mod strategy;
mod validate;
mod validate_version;
pub(crate) mod view;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;

pub use own::{Convert, define};

use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// Their resource.
pub(crate) const PLURAL: &str = "customresourcedefinitions";
/// Keeps a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether this is the resource of definitions.
pub(crate) fn is_definitions(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// The built-in resources, definitions with a strategy that knows them.
pub(crate) fn builtin() -> Vec<Arc<Resource>> {
    let mut all = trimtab_apiserver_kinds::builtin::all();
    for resource in all.iter_mut().filter(|r| is_definitions(r)) {
        Arc::make_mut(resource).strategy = Arc::new(definition::Definitions);
    }
    all
}

/// What a delete does to a definition first: it waits for its objects, and says so.
pub(crate) fn begin_deletion(definition: &mut Value, now: &str) {
    let mut finalizers: Vec<Value> = meta::finalizers(definition)
        .into_iter()
        .map(Value::from)
        .collect();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    meta::set(definition, "finalizers", finalizers);
    view::set_condition(
        definition,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
}

/// Refuses to make objects whose definition is being deleted.
#[derive(Debug)]
pub(crate) struct NoCreation(pub(crate) controller::Terminating);

#[async_trait]
impl Admission for NoCreation {
    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let resource = &attributes.resource;
        let creates = resource.custom && attributes.operation == Operation::Create;
        let id = (resource.group.clone(), resource.plural.clone());
        if !creates || !self.0.read().contains(&id) {
            return Ok(());
        }
        let why = "create not allowed while custom resource definition is terminating";
        Err(ApiError::forbidden(
            &resource.group_resource(),
            meta::name(object),
            why,
        ))
    }
}

#[cfg(test)]
mod tests;

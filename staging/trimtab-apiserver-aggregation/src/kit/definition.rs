//! What a resource is: in the form in which clusters have custom resources defined, which kube's `CustomResource` derives of a Rust
//! type.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use trimtab_apiserver_core::extensions::{Convert, define};
use trimtab_apiserver_core::registry::ResourceTable;
use trimtab_apiserver_kinds::resource::Resource;

/// A resource with all its versions: names, schemas with defaults and CEL rules, columns, subresources, selectable fields.
#[derive(Clone, Debug)]
pub struct Definition {
    definition: Value,
    convert: Option<Arc<dyn Convert>>,
}

/// A definition that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("the definition of a resource cannot be used: {0}")]
pub struct DefinitionError(pub(super) String);

impl Definition {
    /// The resource of a CustomResourceDefinition of apiextensions.k8s.io/v1. Nothing is written to any cluster.
    ///
    /// # Errors
    ///
    /// When it makes no sense, with what API servers say about it.
    pub fn of(definition: &impl Serialize) -> Result<Self, DefinitionError> {
        let definition =
            serde_json::to_value(definition).map_err(|error| DefinitionError(error.to_string()))?;
        let found = Self {
            definition,
            convert: None,
        };
        found.define(&ResourceTable::new([]), None)?;
        Ok(found)
    }

    /// Has objects converted between versions by this; unless set, they differ in their `apiVersion` alone.
    #[must_use]
    pub fn converting(mut self, convert: impl Convert + 'static) -> Self {
        self.convert = Some(Arc::new(convert));
        self
    }

    /// Adds its served versions to a table, with these verbs or all.
    pub(super) fn define(
        &self,
        table: &ResourceTable,
        verbs: Option<&[&str]>,
    ) -> Result<Vec<Arc<Resource>>, DefinitionError> {
        define(table, &self.definition, verbs, self.convert.clone()).map_err(DefinitionError)
    }
}

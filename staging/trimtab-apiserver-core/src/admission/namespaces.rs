//! Namespaces: nothing is made where there is none or where all is being deleted, and some cannot be deleted.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, GroupResource};

use super::{Reader, forbidden};
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

/// The namespaces without which nothing works.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Keeps objects out of namespaces that do not exist or are being deleted, and protects the system's namespaces.
#[derive(Debug)]
pub struct NamespaceLifecycle {
    reader: Arc<dyn Reader>,
}

impl NamespaceLifecycle {
    /// The plugin, which finds namespaces by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

fn is_namespaces(attributes: &Attributes) -> bool {
    attributes.resource.group.is_empty() && attributes.resource.plural == "namespaces"
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn concerns(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Delete)
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let name = &attributes.namespace;
        if attributes.operation != Operation::Create || name.is_empty() || is_namespaces(attributes) {
            return Ok(());
        }
        let namespace = self.reader.namespace(name).await?;
        let Some(namespace) = namespace else {
            return Err(ApiError::not_found(&GroupResource::new("", "namespaces"), name));
        };
        if meta::is_deleting(&namespace) || namespace["status"]["phase"] == "Terminating" {
            let why =
                format!("unable to create new content in namespace {name} because it is being terminated");
            let message = format!("namespace {name} is being terminated");
            return Err(forbidden(attributes, Some(object), why).with_cause(
                "NamespaceTerminating",
                message,
                "metadata.namespace",
            ));
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        _: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let deletes = attributes.operation == Operation::Delete && is_namespaces(attributes);
        if deletes && PROTECTED.contains(&attributes.name.as_str()) {
            return Err(forbidden(attributes, old, "this namespace may not be deleted"));
        }
        Ok(())
    }
}

/// Refuses what is written where there is no namespace: less than [`NamespaceLifecycle`] does.
#[derive(Debug)]
pub struct NamespaceExists {
    reader: Arc<dyn Reader>,
}

impl NamespaceExists {
    /// The plugin, which finds namespaces by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for NamespaceExists {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Connect
            && !attributes.namespace.is_empty()
            && !is_namespaces(attributes)
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        _: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let name = &attributes.namespace;
        match self.reader.namespace(name).await? {
            Some(_) => Ok(()),
            None => Err(ApiError::not_found(&GroupResource::new("", "namespaces"), name)),
        }
    }
}

//! The namespace of a request, read when somebody first looks at it.

use serde_json::Value;
use tokio::sync::OnceCell;
use trimtab_apimachinery_meta::{ApiError, GroupResource, LabelSelector};

use super::matching::{NamespaceLabels, namespace_labels};
use crate::admission::Reader;
use crate::registry::hooks::Attributes;

/// The namespace of a request.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    reader: &'a dyn Reader,
    attributes: &'a Attributes,
    object: OnceCell<Value>,
}

impl<'a> Namespace<'a> {
    pub(crate) fn new(reader: &'a dyn Reader, attributes: &'a Attributes) -> Self {
        Self {
            reader,
            attributes,
            object: OnceCell::new(),
        }
    }

    /// Whether a selector selects the namespace: of namespaces, the one that is written. What is in none is selected.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not there.
    pub(crate) async fn matches(
        &self,
        selector: &LabelSelector,
        object: Option<&Value>,
    ) -> Result<bool, ApiError> {
        if selector.is_empty() {
            return Ok(true);
        }
        match namespace_labels(self.attributes) {
            NamespaceLabels::None => Ok(true),
            NamespaceLabels::Object => {
                Ok(object.is_some_and(|object| selector.matches(&object["metadata"]["labels"])))
            }
            NamespaceLabels::Of(name) => Ok(selector.matches(&self.read(name).await?["metadata"]["labels"])),
        }
    }

    /// The namespace that the object is in; `None` for what is in none, as namespaces are.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not there.
    pub(crate) async fn object(&self) -> Result<Option<&Value>, ApiError> {
        let kind = self.attributes.kind();
        let is_namespace =
            (kind.group.as_str(), kind.version.as_str(), kind.kind.as_str()) == ("", "v1", "Namespace");
        let name = &self.attributes.namespace;
        if name.is_empty() || is_namespace {
            return Ok(None);
        }
        self.read(name).await.map(Some)
    }

    async fn read(&self, name: &str) -> Result<&Value, ApiError> {
        let read = async {
            let found = self.reader.get("", "namespaces", "", name).await?;
            found.ok_or_else(|| ApiError::not_found(&GroupResource::new("", "namespaces"), name))
        };
        self.object.get_or_try_init(|| read).await
    }
}

//! The shapes in which objects are answered: themselves, their metadata alone, or rows of a table.

mod jsonpath;
mod table;

use std::sync::Arc;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_kinds::resource::Resource;

use super::list::Page;
use crate::api::{ApiRequest, OutputShape};

const META: &str = "meta.k8s.io/v1";

/// Which part of an object a table's row carries along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// Shapes objects of one resource for one request.
#[derive(Clone, Debug)]
pub(crate) struct Shaper {
    resource: Arc<Resource>,
    shape: OutputShape,
    include: Include,
    /// Seconds since the epoch, for ages.
    now: i64,
}

impl Shaper {
    pub(crate) fn new(resource: &Arc<Resource>, request: &ApiRequest, now: jiff::Timestamp) -> Self {
        let include = match request.param("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Self {
            resource: resource.clone(),
            shape: request.shape,
            include,
            now: now.as_second(),
        }
    }

    /// Refuses to show one thing as another: a list as an object, an object as a list.
    pub(crate) fn check(&self, is_list: bool) -> Result<(), ApiError> {
        let (asked, is) = match (self.shape, is_list) {
            (OutputShape::PartialMetadata, true) => ("PartialObjectMetadata", "is a list"),
            (OutputShape::PartialMetadataList, false) => ("PartialObjectMetadataList", "is not a list"),
            _ => return Ok(()),
        };
        let name = match &*self.resource {
            r if r.custom && is_list => "*unstructured.UnstructuredList".to_owned(),
            r if r.custom => "*unstructured.Unstructured".to_owned(),
            r => {
                let group = r
                    .group
                    .split('.')
                    .next()
                    .filter(|g| !g.is_empty())
                    .unwrap_or("core");
                format!("*{group}.{}", if is_list { &r.list_kind } else { &r.kind })
            }
        };
        let text = format!("you requested {asked}, but the requested object {is} ({name})");
        Err(ApiError::new(406, StatusReason::NotAcceptable, text))
    }

    /// One object.
    pub(crate) fn object(&self, object: Value) -> Value {
        match self.shape {
            OutputShape::Object => object,
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => partial(&object),
            OutputShape::Table => {
                let version = object["metadata"]["resourceVersion"].clone();
                table::table(self, json!({"resourceVersion": version}), &[object], true)
            }
        }
    }

    /// One object of a watch; of tables only the first has the columns' definitions.
    pub(crate) fn event(&self, object: Value, first: bool) -> Value {
        match self.shape {
            OutputShape::Table => {
                let version = object["metadata"]["resourceVersion"].clone();
                table::table(self, json!({"resourceVersion": version}), &[object], first)
            }
            _ => self.object(object),
        }
    }

    /// The shape that is asked for.
    pub(crate) fn shape(&self) -> OutputShape {
        self.shape
    }

    /// A page of a list.
    pub(crate) fn list(&self, page: Page<Value>) -> Value {
        let metadata = self.list_metadata(&page);
        if self.shape == OutputShape::Table {
            return table::table(self, metadata, &page.objects, true);
        }
        let (kind, api_version) = self.list_kind();
        let items: Vec<Value> = page.objects.into_iter().map(|o| self.list_item(o)).collect();
        let items = if items.is_empty() && self.shape != OutputShape::Object {
            Value::Null
        } else {
            items.into()
        };
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})
    }

    /// The text before a page's items, and after them. Items are separated by commas.
    pub(crate) fn list_frame<T>(&self, page: &Page<T>) -> (String, &'static str) {
        let metadata = self.list_metadata(page);
        if self.shape == OutputShape::Table {
            let columns = table::definitions(self);
            let head = format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"{META}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":"
            );
            return if page.objects.is_empty() && table::is_unprinted(self) {
                (head + "null", "}")
            } else {
                (head + "[", "]}")
            };
        }
        let (kind, api_version) = self.list_kind();
        let (kind, api_version) = (Value::from(kind), Value::from(api_version));
        let head =
            format!("{{\"kind\":{kind},\"apiVersion\":{api_version},\"metadata\":{metadata},\"items\":");
        if page.objects.is_empty() && self.shape != OutputShape::Object {
            // No metadata at all is null, as Go has it.
            return (head + "null", "}");
        }
        (head + "[", "]}")
    }

    /// An object as an item of a list, or as a row of a table.
    pub(crate) fn list_item(&self, mut object: Value) -> Value {
        match self.shape {
            OutputShape::Table => table::row(self, &object),
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => partial(&object),
            OutputShape::Object => {
                if !self.resource.custom
                    && let Some(item) = object.as_object_mut()
                {
                    // The list says what kind they are.
                    item.remove("kind");
                    item.remove("apiVersion");
                }
                object
            }
        }
    }

    fn list_kind(&self) -> (&str, String) {
        if self.shape == OutputShape::Object {
            (&self.resource.list_kind, self.resource.api_version())
        } else {
            ("PartialObjectMetadataList", META.to_owned())
        }
    }

    fn list_metadata<T>(&self, page: &Page<T>) -> Value {
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some(next) = &page.next {
            metadata["continue"] = next.encode().into();
        } else if self.resource.custom && self.shape == OutputShape::Object {
            metadata["continue"] = "".into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// The object's metadata alone.
fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"]})
}

//! The shapes in which objects are answered: themselves, their metadata alone, or rows of a table.

mod jsonpath;
mod table;

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
pub(crate) struct Shaper<'a> {
    resource: &'a Resource,
    shape: OutputShape,
    include: Include,
    /// Seconds since the epoch, for ages.
    now: i64,
}

impl<'a> Shaper<'a> {
    pub(crate) fn new(resource: &'a Resource, request: &ApiRequest, now: jiff::Timestamp) -> Self {
        let include = match request.param("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Self {
            resource,
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
        let name = match self.resource {
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

    /// A page of a list.
    pub(crate) fn list(&self, page: Page) -> Value {
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some(next) = &page.next {
            metadata["continue"] = next.encode().into();
        } else if self.resource.custom && self.shape == OutputShape::Object {
            metadata["continue"] = "".into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        match self.shape {
            OutputShape::Table => table::table(self, metadata, &page.objects, true),
            OutputShape::PartialMetadata | OutputShape::PartialMetadataList => {
                let items: Vec<Value> = page.objects.iter().map(partial).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": metadata, "items": items})
            }
            OutputShape::Object => {
                let mut items = page.objects;
                if !self.resource.custom {
                    // The list says what kind they are.
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        item.remove("kind");
                        item.remove("apiVersion");
                    }
                }
                json!({
                    "kind": self.resource.list_kind,
                    "apiVersion": self.resource.api_version(),
                    "metadata": metadata,
                    "items": items,
                })
            }
        }
    }
}

/// The object's metadata alone.
fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"]})
}

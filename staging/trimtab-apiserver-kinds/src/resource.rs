//! What the server knows about one resource, built-in or custom.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{GroupKind, GroupResource, GroupVersionKind};

use crate::columns;
use crate::conversion::Conversion;
use crate::schema_ref::SchemaRef;
use crate::strategy::Strategy;

/// What can be done with the objects of an ordinary kind, in the order in which discovery lists it.
pub const ALL_VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Whether objects of a kind live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every object has a namespace.
    Namespaced,
    /// No object has one.
    Cluster,
}

/// One served version of one resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The API group; empty for core.
    pub group: String,
    /// The version, as `v1`.
    pub version: String,
    /// The kind, as `Deployment`.
    pub kind: String,
    /// The kind of a list, as `DeploymentList`.
    pub list_kind: String,
    /// Lower case, plural, as `deployments`: the path segment.
    pub plural: String,
    /// Lower case, singular, as `deployment`.
    pub singular: String,
    /// Abbreviations that kubectl accepts, as `deploy`.
    pub short_names: Vec<String>,
    /// Groupings that kubectl accepts, as `all`.
    pub categories: Vec<String>,
    /// Namespaced or not.
    pub scope: Scope,
    /// What can be done, as discovery lists it: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`,
    /// `update`, `watch`, in alphabetical order.
    pub verbs: Vec<String>,
    /// What lies below an object, as `status`.
    pub subresources: Vec<Subresource>,
    /// Where objects are stored: two resources with the same one (events of core and of events.k8s.io) share them.
    pub storage: GroupResource,
    /// Columns of the table that kubectl prints. [`Resource::cells`] computes the cells of built-in kinds.
    pub columns: Vec<Column>,
    /// The structure of an object: what is known, pruned, defaulted, merged by key.
    pub schema: SchemaRef,
    /// What is special about the kind.
    pub strategy: Arc<dyn Strategy>,
    /// Whether the resource comes from a CustomResourceDefinition.
    pub custom: bool,
    /// A warning header for every request, when the version is deprecated.
    pub deprecation_warning: Option<String>,
    /// How objects are stored when that is not as they are served.
    pub conversion: Option<Conversion>,
}

/// What lies below an object at its own path.
#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// The path segment, as `status`.
    pub name: String,
    /// The kind that is read and written there; the resource's own for `status`.
    pub gvk: GroupVersionKind,
    /// What can be done, in alphabetical order.
    pub verbs: Vec<String>,
    /// For `scale`: where in the object its parts are.
    pub scale: Option<ScalePaths>,
}

/// Where a scale's parts are in the scaled object; each a path of field names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalePaths {
    /// The desired count, as `["spec", "replicas"]`.
    pub spec_replicas: Vec<String>,
    /// The observed count, as `["status", "replicas"]`.
    pub status_replicas: Vec<String>,
    /// The selector: for custom resources the path of its text form, for built-ins of the label selector.
    pub selector: Option<Vec<String>>,
}

/// One column of a resource's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The heading, as kubectl upper-cases it.
    pub name: String,
    /// An OpenAPI type: `string`, `integer`, `date`, …
    pub type_: String,
    /// An OpenAPI format, or empty; `name` marks the name column.
    pub format: String,
    /// One sentence.
    pub description: String,
    /// 0 shows always; more only with `-o wide`.
    pub priority: i32,
    /// Where the cell comes from, for custom resources: a JSONPath; `None` for built-in kinds.
    pub json_path: Option<String>,
}

impl Resource {
    /// The group, version and kind of an object.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.group, &self.version, &self.kind)
    }

    /// The group and kind: what validation errors name.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.storage.group, &self.kind)
    }

    /// The group and resource: what other errors name.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.plural)
    }

    /// What `apiVersion` says: `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The cells of an object's row, one for each of the columns; `None` for custom resources, whose columns say where
    /// their cells come from. `now` is in seconds since the epoch, for ages.
    pub fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        (!self.custom).then(|| columns::cells(&self.kind, object, now))
    }

    /// What an object's row says about it beyond its cells: conditions, as `Completed` of a pod that has ended.
    pub fn row_conditions(&self, object: &Value) -> Vec<Value> {
        if self.custom {
            Vec::new()
        } else {
            columns::conditions(&self.kind, object)
        }
    }
}

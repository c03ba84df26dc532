//! What is read of an object's metadata: only what tells who it is, who owns it, and what its deletion waits for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;

/// Metadata without labels, annotations and managed fields, which are most of it.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Slim {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Slim> for ObjectMeta {
    fn from(slim: Slim) -> Self {
        Self {
            namespace: slim.namespace,
            name: slim.name,
            uid: slim.uid,
            deletion_timestamp: slim.deletion_timestamp,
            finalizers: slim.finalizers,
            owner_references: slim.owner_references,
            ..Self::default()
        }
    }
}

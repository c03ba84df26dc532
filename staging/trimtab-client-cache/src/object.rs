//! What can be cached: any Kubernetes object that can be decoded from JSON.

use kube::Resource;
use serde::de::DeserializeOwned;
use trimtab_apimachinery_meta::ObjectKey;

/// An object that can be listed, watched and stored.
///
/// Implemented for every type that fits: the types of `k8s-openapi`, derived custom resources, `DynamicObject`, and
/// `PartialObjectMeta` of any of these, for which only metadata is asked of the server.
pub trait Object: Resource + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// The object's key: its namespace and name, empty where the object has none.
pub fn key_of<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

pub(crate) fn version<K: Resource>(object: &K) -> &str {
    object.meta().resource_version.as_deref().unwrap_or_default()
}

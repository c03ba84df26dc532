//! Kinds of the group without a name: pods, services, namespaces, configuration, storage.

mod addresses;
mod config;
mod controllers;
mod difference;
mod event;
mod limits;
mod namespace;
mod nodes;
mod pod;
pub(super) mod pod_spec;
pub(super) mod resources;
mod service;
pub(super) mod storage;
mod volume_sources;
pub(super) mod words;

use std::sync::Arc;

use trimtab_apimachinery_meta::GroupVersionKind;

use super::rules::Rules;
use crate::schema_ref::SchemaRef;
use crate::strategy::Strategy;

/// The strategy of a kind that rules cannot state; events are here for both of their groups.
pub(super) fn strategy(gvk: &GroupVersionKind, schema: &SchemaRef) -> Option<Arc<dyn Strategy>> {
    let schema = schema.clone();
    Some(match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("" | "events.k8s.io", "Event") => Arc::new(event::Event::of(&gvk.group, schema)),
        ("", "Namespace") => Arc::new(namespace::Namespace { schema }),
        ("", "Pod") => Arc::new(pod::Pod { schema }),
        _ => return None,
    })
}

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "ConfigMap" => config::CONFIG_MAP,
        "Endpoints" => nodes::ENDPOINTS,
        "LimitRange" => limits::LIMIT_RANGE,
        "Node" => nodes::NODE,
        "PersistentVolume" => storage::VOLUME,
        "PersistentVolumeClaim" => storage::CLAIM,
        "PodTemplate" => controllers::POD_TEMPLATE,
        "ReplicationController" => controllers::REPLICATION_CONTROLLER,
        "ResourceQuota" => limits::QUOTA,
        "Secret" => config::SECRET,
        "Service" => service::SERVICE,
        "ServiceAccount" => config::SERVICE_ACCOUNT,
        _ => return None,
    })
}

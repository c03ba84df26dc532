//! What every cluster starts with: namespaces, the `kubernetes` Service, priority classes.

use std::net::IpAddr;

use bytes::Bytes;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{MIGRATION, RangeRequest, Store};

use crate::allocators::{InvalidRange, IpRange};
use crate::api::ApiRequest;
use crate::registry::Registry;

use super::StartError;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The range of cluster IPs unless another is chosen.
pub(super) fn default_range() -> Result<IpRange, InvalidRange> {
    IpRange::new(IpAddr::from([10, 0, 0, 0]), 16)
}

/// Refuses a store into which a migration has not ended: clients would see some of their objects, and the migration others
/// than it has written.
pub(super) async fn check_whole(store: &dyn Store) -> Result<(), StartError> {
    let Some(mark) = store.range(RangeRequest::key(MIGRATION)).await?.kvs.pop() else {
        return Ok(());
    };
    let read: Value = serde_json::from_slice(&mark.value).unwrap_or_default();
    let from = read["from"]
        .as_str()
        .map_or_else(|| mark.value.escape_ascii().to_string(), str::to_owned);
    Err(StartError::Migrating { from })
}

/// Writes what is missing; what is there is left as it is.
pub(super) async fn write_first_objects(registry: &Registry, kubernetes_ip: IpAddr) -> Result<(), String> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(registry, "", "v1", "namespaces", "", &namespace).await?;
    }
    for (name, value, what) in [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": what,
        });
        create(registry, "scheduling.k8s.io", "v1", "priorityclasses", "", &class).await?;
    }
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": kubernetes_ip.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
            "type": "ClusterIP",
        },
    });
    create(registry, "", "v1", "services", "default", &service).await
}

/// Creates an object as the server itself, unless it exists or its kind is not served.
pub(crate) async fn create(
    registry: &Registry,
    group: &str,
    version: &str,
    resource: &str,
    namespace: &str,
    object: &Value,
) -> Result<(), String> {
    if registry.resources().get(group, version, resource).is_none() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let request = |verb: &str, method: &str, name: &str| {
        let mut request = ApiRequest::own(verb, method, "trimtab-apiserver");
        request.info.group = group.to_owned();
        request.info.version = version.to_owned();
        request.info.namespace = namespace.to_owned();
        request.info.resource = resource.to_owned();
        request.info.name = name.to_owned();
        if method == "POST" {
            request.body = Bytes::from(object.to_string());
        }
        request
    };
    // A Service that exists holds its address, so a second one would be refused for that.
    if registry.handle(request("get", "GET", name)).await.is_ok() {
        return Ok(());
    }
    match registry.handle(request("create", "POST", "")).await {
        Ok(_) => Ok(()),
        Err(error) if ApiError::is_already_exists(&error) => Ok(()),
        // Another server that starts beside this one may have made it meanwhile.
        Err(_) if registry.handle(request("get", "GET", name)).await.is_ok() => Ok(()),
        Err(error) => Err(format!("{resource} {name}: {error}")),
    }
}

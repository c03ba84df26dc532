//! Where objects are in the store: `/registry/<resource>/<namespace>/<name>`, as kube-apiserver lays them out.

use trimtab_apiserver_kinds::resource::Resource;

/// The root of everything that the API server stores.
pub const ROOT: &str = "/registry/";

/// The prefix of a resource's objects, with a slash at its end.
///
/// Groups of built-in kinds are not part of it, those of custom resources are. A few resources are stored under
/// names from before there were groups.
pub fn resource_prefix(resource: &Resource) -> String {
    let storage = &resource.storage;
    if resource.custom {
        return format!("{ROOT}{}/{}/", storage.group, storage.resource);
    }
    let path = match (storage.group.as_str(), storage.resource.as_str()) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "replicationcontrollers") => "controllers",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("policy", "podsecuritypolicies") => "podsecuritypolicy",
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => {
            return format!("{ROOT}{}/{plural}/", storage.group);
        }
        (_, plural) => plural,
    };
    format!("{ROOT}{path}/")
}

/// The prefix of a resource's objects in a namespace; of all of them when it is empty.
pub fn collection_prefix(resource: &Resource, namespace: &str) -> String {
    let mut prefix = resource_prefix(resource);
    if resource.namespaced() && !namespace.is_empty() {
        prefix.push_str(namespace);
        prefix.push('/');
    }
    prefix
}

/// The key of one object.
pub fn object_key(resource: &Resource, namespace: &str, name: &str) -> String {
    let mut key = collection_prefix(resource, namespace);
    key.push_str(name);
    key
}

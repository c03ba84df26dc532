//! Where objects are in the store: `/registry/<resource>/<namespace>/<name>`, as kube-apiserver lays them out.

use std::borrow::Cow;

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

/// The name of the object with this key.
pub(crate) fn name(key: &[u8]) -> Cow<'_, str> {
    let from = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    String::from_utf8_lossy(key.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::crd;

    #[test]
    fn objects_are_where_kube_apiserver_looks_for_them() {
        let all: BTreeMap<String, _> = crd::builtin()
            .into_iter()
            .map(|r| (format!("{}/{}", r.group, r.plural), r))
            .collect();
        for (resource, namespace, name, wanted) in [
            ("/configmaps", "ns", "a", "configmaps/ns/a"),
            ("/pods", "ns", "a", "pods/ns/a"),
            ("/namespaces", "", "a", "namespaces/a"),
            ("/nodes", "", "a", "minions/a"),
            ("/services", "ns", "a", "services/specs/ns/a"),
            ("/endpoints", "ns", "a", "services/endpoints/ns/a"),
            ("/replicationcontrollers", "ns", "a", "controllers/ns/a"),
            ("/events", "ns", "a", "events/ns/a"),
            ("events.k8s.io/events", "ns", "a", "events/ns/a"),
            ("/secrets", "ns", "a", "secrets/ns/a"),
            ("/serviceaccounts", "ns", "a", "serviceaccounts/ns/a"),
            ("/persistentvolumes", "", "a", "persistentvolumes/a"),
            ("apps/deployments", "ns", "a", "deployments/ns/a"),
            ("batch/jobs", "ns", "a", "jobs/ns/a"),
            ("coordination.k8s.io/leases", "ns", "a", "leases/ns/a"),
            (
                "discovery.k8s.io/endpointslices",
                "ns",
                "a",
                "endpointslices/ns/a",
            ),
            ("networking.k8s.io/ingresses", "ns", "a", "ingress/ns/a"),
            (
                "networking.k8s.io/networkpolicies",
                "ns",
                "a",
                "networkpolicies/ns/a",
            ),
            (
                "policy/poddisruptionbudgets",
                "ns",
                "a",
                "poddisruptionbudgets/ns/a",
            ),
            (
                "rbac.authorization.k8s.io/clusterroles",
                "",
                "a",
                "clusterroles/a",
            ),
            ("rbac.authorization.k8s.io/roles", "ns", "a", "roles/ns/a"),
            ("scheduling.k8s.io/priorityclasses", "", "a", "priorityclasses/a"),
            ("storage.k8s.io/storageclasses", "", "a", "storageclasses/a"),
            (
                "admissionregistration.k8s.io/validatingwebhookconfigurations",
                "",
                "a",
                "validatingwebhookconfigurations/a",
            ),
            (
                "apiextensions.k8s.io/customresourcedefinitions",
                "",
                "as.example.com",
                "apiextensions.k8s.io/customresourcedefinitions/as.example.com",
            ),
            (
                "apiregistration.k8s.io/apiservices",
                "",
                "v1.a",
                "apiregistration.k8s.io/apiservices/v1.a",
            ),
        ] {
            let Some(found) = all.get(resource) else {
                // Not all of them are served.
                assert_eq!(resource, "apiregistration.k8s.io/apiservices");
                continue;
            };
            let key = object_key(found, namespace, name);
            assert_eq!(key, format!("/registry/{wanted}"), "{resource}");
            assert_eq!(super::name(key.as_bytes()), name, "{resource}");
        }
    }

    #[test]
    fn every_other_built_in_kind_is_under_its_plural() {
        let special = [
            "services",
            "endpoints",
            "nodes",
            "replicationcontrollers",
            "ingresses",
            "customresourcedefinitions",
            "apiservices",
        ];
        for resource in crd::builtin() {
            if special.contains(&resource.plural.as_str()) {
                continue;
            }
            assert_eq!(
                resource_prefix(&resource),
                format!("/registry/{}/", resource.plural)
            );
        }
    }
}

//! The strategy of an ordinary kind: a spec that users write, a status that controllers write, each at its own path.

use serde_json::Value;
use trimtab_apimachinery_meta::{GroupVersionKind, names};

use crate::strategy::{RequestContext, Strategy};

/// Kinds without a status of their own that is kept apart.
const NO_STATUS: &[&str] = &[
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "PodTemplate",
    "Secret",
    "ServiceAccount",
    "ControllerRevision",
    "Lease",
    "EndpointSlice",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// Kinds whose generation is kept.
const GENERATION: &[&str] = &[
    "DaemonSet",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "Job",
    "CronJob",
    "Pod",
    "ReplicationController",
    "PodDisruptionBudget",
    "Ingress",
    "NetworkPolicy",
    "IngressClass",
    "CustomResourceDefinition",
    "FlowSchema",
    "PriorityLevelConfiguration",
    "PriorityClass",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// The strategy of a kind with nothing special.
#[derive(Clone, Debug)]
pub(crate) struct Standard {
    has_status: bool,
    has_generation: bool,
    any_name: bool,
}

impl Standard {
    pub(crate) fn of(gvk: &GroupVersionKind) -> Self {
        Self {
            has_status: !NO_STATUS.contains(&gvk.kind.as_str()),
            has_generation: GENERATION.contains(&gvk.kind.as_str()),
            any_name: gvk.group == "rbac.authorization.k8s.io",
        }
    }
}

impl Strategy for Standard {
    fn prepare_create(&self, _: &RequestContext, object: &mut Value) {
        if self.has_status
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        if !self.has_status {
            return;
        }
        let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else {
            return;
        };
        if ctx.subresource == "status" {
            let status = new.remove("status");
            let metadata = new.remove("metadata");
            *new = old.clone();
            let parts = [("status", status), ("metadata", metadata)];
            for (name, part) in parts {
                match part {
                    Some(part) => drop(new.insert(name.to_owned(), part)),
                    None => drop(new.remove(name)),
                }
            }
        } else {
            match old.get("status") {
                Some(status) => drop(new.insert("status".to_owned(), status.clone())),
                None => drop(new.remove("status")),
            }
        }
    }

    fn has_generation(&self) -> bool {
        self.has_generation
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { name.trim_end_matches('-') } else { name };
        if self.any_name {
            names::path_segment(name)
        } else {
            names::dns1123_subdomain(name)
        }
    }
}

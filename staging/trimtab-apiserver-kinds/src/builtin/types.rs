//! Which type describes which kind.

use k8s_openapi::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;

use super::definitions::schema_of;
use crate::schema_ref::SchemaRef;

/// The schema of a built-in kind; of one that has no type here, a schema that accepts anything.
pub(super) fn schema(group: &str, version: &str, kind: &str) -> SchemaRef {
    macro_rules! of {
        ($path:ident :: $version:ident; $($kind:ident)*) => {
            match kind {
                $(stringify!($kind) => SchemaRef::lazy(schema_of::<api::$path::$version::$kind>),)*
                _ => SchemaRef::from(trimtab_apimachinery_schema::Schema::any()),
            }
        };
    }
    match (group, version) {
        ("", _) => of!(core::v1; Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node
            PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service
            ServiceAccount),
        ("apps", _) => of!(apps::v1; ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet),
        ("events.k8s.io", _) => of!(events::v1; Event),
        ("authentication.k8s.io", _) => of!(authentication::v1; SelfSubjectReview TokenReview TokenRequest),
        ("authorization.k8s.io", _) => {
            of!(authorization::v1; LocalSubjectAccessReview SelfSubjectAccessReview
            SelfSubjectRulesReview SubjectAccessReview)
        }
        ("autoscaling", "v1") => of!(autoscaling::v1; HorizontalPodAutoscaler Scale),
        ("autoscaling", _) => of!(autoscaling::v2; HorizontalPodAutoscaler),
        ("batch", _) => of!(batch::v1; CronJob Job),
        ("certificates.k8s.io", _) => of!(certificates::v1; CertificateSigningRequest),
        ("networking.k8s.io", _) => {
            of!(networking::v1; Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR)
        }
        ("policy", _) => of!(policy::v1; Eviction PodDisruptionBudget),
        ("rbac.authorization.k8s.io", _) => of!(rbac::v1; ClusterRole ClusterRoleBinding Role RoleBinding),
        ("storage.k8s.io", _) => {
            of!(storage::v1; CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment
            VolumeAttributesClass)
        }
        ("admissionregistration.k8s.io", _) => of!(admissionregistration::v1; MutatingAdmissionPolicy
            MutatingAdmissionPolicyBinding MutatingWebhookConfiguration ValidatingAdmissionPolicy
            ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration),
        ("scheduling.k8s.io", _) => of!(scheduling::v1; PriorityClass),
        ("coordination.k8s.io", _) => of!(coordination::v1; Lease),
        ("node.k8s.io", _) => of!(node::v1; RuntimeClass),
        ("discovery.k8s.io", _) => of!(discovery::v1; EndpointSlice),
        ("flowcontrol.apiserver.k8s.io", _) => of!(flowcontrol::v1; FlowSchema PriorityLevelConfiguration),
        ("apiextensions.k8s.io", _) => SchemaRef::lazy(schema_of::<apiextensions::CustomResourceDefinition>),
        ("apiregistration.k8s.io", _) => SchemaRef::lazy(schema_of::<apiregistration::APIService>),
        _ => SchemaRef::from(trimtab_apimachinery_schema::Schema::any()),
    }
}

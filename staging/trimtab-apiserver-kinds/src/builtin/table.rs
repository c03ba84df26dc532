//! Every built-in resource's names, as data: one line each.
//!
//! A line holds kind, plural, singular, scope, verbs, short names, categories and subresources. `-` stands for none.
//! Scope is `ns` or `cluster`. Verbs are `all`, or a list. A subresource is `name=verbs[=group/version/Kind]`; without
//! a kind it has the resource's own.

use crate::resource::ALL_VERBS;

/// Groups in the order in which discovery lists them: group, version, lines.
pub(super) const GROUPS: &[(&str, &str, &str)] = &[
    ("", "v1", CORE),
    ("apiregistration.k8s.io", "v1", "APIService apiservices apiservice cluster all - api-extensions status=gpu"),
    ("apps", "v1", APPS),
    ("events.k8s.io", "v1", "Event events event ns all ev - -"),
    (
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview selfsubjectreviews selfsubjectreview cluster create - - -
         TokenReview tokenreviews tokenreview cluster create - - -",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "LocalSubjectAccessReview localsubjectaccessreviews localsubjectaccessreview ns create - - -
         SelfSubjectAccessReview selfsubjectaccessreviews selfsubjectaccessreview cluster create - - -
         SelfSubjectRulesReview selfsubjectrulesreviews selfsubjectrulesreview cluster create - - -
         SubjectAccessReview subjectaccessreviews subjectaccessreview cluster create - - -",
    ),
    ("autoscaling", "v2", "HorizontalPodAutoscaler horizontalpodautoscalers horizontalpodautoscaler ns all hpa all status=gpu"),
    ("autoscaling", "v1", "HorizontalPodAutoscaler horizontalpodautoscalers horizontalpodautoscaler ns all hpa all status=gpu"),
    (
        "batch",
        "v1",
        "CronJob cronjobs cronjob ns all cj all status=gpu
         Job jobs job ns all - all status=gpu",
    ),
    (
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest certificatesigningrequests certificatesigningrequest cluster all csr - approval=gpu,status=gpu",
    ),
    (
        "networking.k8s.io",
        "v1",
        "Ingress ingresses ingress ns all ing - status=gpu
         IngressClass ingressclasses ingressclass cluster all - - -
         IPAddress ipaddresses ipaddress cluster all ip - -
         NetworkPolicy networkpolicies networkpolicy ns all netpol - -
         ServiceCIDR servicecidrs servicecidr cluster all - - status=gpu",
    ),
    ("policy", "v1", "PodDisruptionBudget poddisruptionbudgets poddisruptionbudget ns all pdb - status=gpu"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRole clusterroles clusterrole cluster all - - -
         ClusterRoleBinding clusterrolebindings clusterrolebinding cluster all - - -
         Role roles role ns all - - -
         RoleBinding rolebindings rolebinding ns all - - -",
    ),
    (
        "storage.k8s.io",
        "v1",
        "CSIDriver csidrivers csidriver cluster all - - -
         CSINode csinodes csinode cluster all - - -
         CSIStorageCapacity csistoragecapacities csistoragecapacity ns all - - -
         StorageClass storageclasses storageclass cluster all sc - -
         VolumeAttachment volumeattachments volumeattachment cluster all - - status=gpu
         VolumeAttributesClass volumeattributesclasses volumeattributesclass cluster all vac - -",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicy mutatingadmissionpolicies mutatingadmissionpolicy cluster all - api-extensions -
         MutatingAdmissionPolicyBinding mutatingadmissionpolicybindings mutatingadmissionpolicybinding cluster all - api-extensions -
         MutatingWebhookConfiguration mutatingwebhookconfigurations mutatingwebhookconfiguration cluster all - api-extensions -
         ValidatingAdmissionPolicy validatingadmissionpolicies validatingadmissionpolicy cluster all - api-extensions status=gpu
         ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings validatingadmissionpolicybinding cluster all - api-extensions -
         ValidatingWebhookConfiguration validatingwebhookconfigurations validatingwebhookconfiguration cluster all - api-extensions -",
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition customresourcedefinitions customresourcedefinition cluster all crd,crds api-extensions status=gpu",
    ),
    ("scheduling.k8s.io", "v1", "PriorityClass priorityclasses priorityclass cluster all pc - -"),
    ("coordination.k8s.io", "v1", "Lease leases lease ns all - - -"),
    ("node.k8s.io", "v1", "RuntimeClass runtimeclasses runtimeclass cluster all - - -"),
    ("discovery.k8s.io", "v1", "EndpointSlice endpointslices endpointslice ns all - - -"),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "FlowSchema flowschemas flowschema cluster all - - status=gpu
         PriorityLevelConfiguration prioritylevelconfigurations prioritylevelconfiguration cluster all - - status=gpu",
    ),
];

const CORE: &str = "\
    Binding bindings binding ns create - - -
    ComponentStatus componentstatuses componentstatus cluster get,list cs - -
    ConfigMap configmaps configmap ns all cm - -
    Endpoints endpoints endpoints ns all ep - -
    Event events event ns all ev - -
    LimitRange limitranges limitrange ns all limits - -
    Namespace namespaces namespace cluster create,delete,get,list,patch,update,watch ns - finalize=update,status=gpu
    Node nodes node cluster all no - proxy=proxy=/v1/NodeProxyOptions,status=gpu
    PersistentVolume persistentvolumes persistentvolume cluster all pv - status=gpu
    PersistentVolumeClaim persistentvolumeclaims persistentvolumeclaim ns all pvc - status=gpu
    Pod pods pod ns all po all attach=connect=/v1/PodAttachOptions,binding=create=/v1/Binding,ephemeralcontainers=gpu,eviction=create=policy/v1/Eviction,exec=connect=/v1/PodExecOptions,log=get,portforward=connect=/v1/PodPortForwardOptions,proxy=proxy=/v1/PodProxyOptions,resize=gpu,status=gpu
    PodTemplate podtemplates podtemplate ns all - - -
    ReplicationController replicationcontrollers replicationcontroller ns all rc all scale=gpu=autoscaling/v1/Scale,status=gpu
    ResourceQuota resourcequotas resourcequota ns all quota - status=gpu
    Secret secrets secret ns all - - -
    ServiceAccount serviceaccounts serviceaccount ns all sa - token=create=authentication.k8s.io/v1/TokenRequest
    Service services service ns all svc all proxy=proxy=/v1/ServiceProxyOptions,status=gpu";

const APPS: &str = "\
    ControllerRevision controllerrevisions controllerrevision ns all - - -
    DaemonSet daemonsets daemonset ns all ds all status=gpu
    Deployment deployments deployment ns all deploy all scale=gpu=autoscaling/v1/Scale,status=gpu
    ReplicaSet replicasets replicaset ns all rs all scale=gpu=autoscaling/v1/Scale,status=gpu
    StatefulSet statefulsets statefulset ns all sts all scale=gpu=autoscaling/v1/Scale,status=gpu";

/// What the verb words of the table stand for.
pub(super) fn verbs(word: &str) -> Vec<String> {
    let list: &[&str] = match word {
        "all" => &ALL_VERBS,
        "gpu" => &["get", "patch", "update"],
        "connect" => &["create", "get"],
        "proxy" => &["create", "delete", "get", "patch", "update"],
        other => return other.split(',').map(str::to_owned).collect(),
    };
    list.iter().map(|v| (*v).to_owned()).collect()
}

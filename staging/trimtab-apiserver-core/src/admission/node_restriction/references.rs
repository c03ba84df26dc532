//! What a pod refers to in the API: those that mirror what a node runs by itself refer to nothing.

use serde_json::Value;

/// Volumes that refer to nothing.
const FREE: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];
/// Volumes that refer to something, and to what.
const BOUND: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field].as_array().map_or(&[], Vec::as_slice)
}

/// The first thing that a pod refers to, if any.
///
/// # Errors
///
/// A volume of a kind that is not known.
pub(super) fn of_pod(pod: &Value) -> Result<Option<&'static str>, String> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"]
        .as_str()
        .is_some_and(|name| !name.is_empty())
    {
        return Ok(Some("serviceaccounts"));
    }
    if names(spec, ["secretKeyRef", "secretRef"]) || has_secret(spec) {
        return Ok(Some("secrets"));
    }
    if names(spec, ["configMapKeyRef", "configMapRef"]) || has_map(spec) {
        return Ok(Some("configmaps"));
    }
    if !list(spec, "resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(spec, "volumes") {
        let has = |(kind, _): &&(&str, &str)| !volume[kind].is_null();
        let name = || volume["name"].as_str().unwrap_or_default().to_owned();
        if FREE.iter().any(|kind| !volume[kind].is_null()) {
            continue;
        }
        if let Some((_, what)) = BOUND.iter().find(has) {
            return Ok(Some(what));
        }
        if volume["projected"].is_null() {
            return Err(format!("unknown volume type for volume  {:?}", name()));
        }
        for source in list(&volume["projected"], "sources") {
            let has = |(kind, _): &&(&str, &str)| !source[kind].is_null();
            match PROJECTED.iter().find(has) {
                Some((_, what)) => return Ok(Some(what)),
                None if !source["downwardAPI"].is_null() => {}
                None => return Err(format!("unknown source for projected volume {:?}", name())),
            }
        }
    }
    Ok(None)
}

/// Whether any container takes its environment from what is referred to by one of two fields.
fn names(spec: &Value, [value, all]: [&str; 2]) -> bool {
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    containers
        .into_iter()
        .flat_map(|field| list(spec, field))
        .any(|container| {
            list(container, "env")
                .iter()
                .any(|env| !env["valueFrom"][value].is_null())
                || list(container, "envFrom").iter().any(|from| !from[all].is_null())
        })
}

/// Whether pull secrets or volumes name a secret.
fn has_secret(spec: &Value) -> bool {
    let in_volume = |volume: &Value| {
        let directly = [
            "/secret",
            "/azureFile",
            "/cephfs/secretRef",
            "/cinder/secretRef",
            "/flexVolume/secretRef",
            "/rbd/secretRef",
            "/scaleIO/secretRef",
            "/iscsi/secretRef",
            "/storageos/secretRef",
            "/csi/nodePublishSecretRef",
        ];
        let sources = list(&volume["projected"], "sources");
        directly
            .iter()
            .any(|at| volume.pointer(at).is_some_and(|v| !v.is_null()))
            || sources.iter().any(|source| !source["secret"].is_null())
    };
    !list(spec, "imagePullSecrets").is_empty() || list(spec, "volumes").iter().any(in_volume)
}

/// Whether volumes name a config map.
fn has_map(spec: &Value) -> bool {
    let in_volume = |volume: &Value| {
        let sources = list(&volume["projected"], "sources");
        !volume["configMap"].is_null() || sources.iter().any(|source| !source["configMap"].is_null())
    };
    list(spec, "volumes").iter().any(in_volume)
}

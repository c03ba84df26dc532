//! What is filled in in pod specs and pod templates.

use serde_json::{Value, json};

use super::volume_defaults::default_volume;
use crate::strategies::checks::{default_text, default_to, int, object, text};
use crate::strategies::fields::{each_mut, round_up_resources, zero_to};

/// The lists of containers that a pod spec has.
pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fills in what a pod template leaves out; makes its spec if there is none.
pub(in crate::strategies) fn default_pod_template(template: &mut Value) {
    object(template, "metadata");
    default_pod_spec(object(template, "spec"));
}

/// Fills in what a pod spec leaves out, as in all places where there are pod specs. Pods have more defaults.
pub(in crate::strategies) fn default_pod_spec(spec: &mut Value) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    object(spec, "securityContext");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    // The one is the name that the other once had.
    if text(&spec["serviceAccountName"]).is_empty() && !text(&spec["serviceAccount"]).is_empty() {
        spec["serviceAccountName"] = spec["serviceAccount"].clone();
    }
    if spec["serviceAccountName"].is_string() {
        spec["serviceAccount"] = spec["serviceAccountName"].clone();
    }
    each_mut(spec, "volumes").for_each(default_volume);
    for list in CONTAINERS {
        each_mut(spec, list).for_each(default_container);
    }
    if let Some(resources) = spec.get_mut("resources") {
        default_resources(resources);
    }
    if let Some(overhead) = spec.get_mut("overhead") {
        round_up_resources(overhead);
    }
}

fn default_container(container: &mut Value) {
    if text(&container["imagePullPolicy"]).is_empty() {
        let policy = pull_policy(text(&container["image"]));
        container["imagePullPolicy"] = policy.into();
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    for port in each_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for env in each_mut(container, "env") {
        let Some(from) = env.get_mut("valueFrom") else {
            continue;
        };
        default_field_ref(from);
        if let Some(key) = from.get_mut("fileKeyRef").filter(|key| key.is_object()) {
            default_to(key, "optional", false);
        }
    }
    default_resources(object(container, "resources"));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container
            .pointer_mut(&format!("/lifecycle/{hook}/httpGet"))
            .filter(|get| get.is_object())
        {
            default_http_get(get);
        }
    }
}

fn default_resources(resources: &mut Value) {
    for part in ["limits", "requests"] {
        if let Some(part) = resources.get_mut(part) {
            round_up_resources(part);
        }
    }
}

fn default_probe(probe: &mut Value) {
    zero_to(probe, "timeoutSeconds", 1);
    zero_to(probe, "periodSeconds", 10);
    zero_to(probe, "successThreshold", 1);
    zero_to(probe, "failureThreshold", 3);
    if let Some(get) = probe.get_mut("httpGet").filter(|get| get.is_object()) {
        default_http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object()) {
        default_to(grpc, "service", "");
    }
}

fn default_http_get(get: &mut Value) {
    default_text(get, "path", "/");
    default_text(get, "scheme", "HTTP");
}

/// The version that a reference to a pod's field is about.
pub(super) fn default_field_ref(parent: &mut Value) {
    if let Some(reference) = parent.get_mut("fieldRef").filter(|r| r.is_object()) {
        default_text(reference, "apiVersion", "v1");
    }
}

/// When an image is pulled if the user does not say: always if what it names may change.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if has_latest_tag(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Whether an image is named with the tag `latest`, or without a tag and digest.
fn has_latest_tag(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    // A reference that makes no sense has no tag; it is refused elsewhere.
    if !is_repository(name) || digest.is_some_and(|d| !d.contains(':')) {
        return false;
    }
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

/// Whether a name without its digest is one of an image: a registry, and words of small letters and digits.
fn is_repository(name: &str) -> bool {
    const MOST: usize = 255;
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let registry =
        first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase);
    let path = if registry { rest } else { name };
    let path = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => path,
    };
    let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    path.len() <= MOST
        && path.split('/').all(|word| {
            let bytes = word.as_bytes();
            bytes.first().is_some_and(end)
                && bytes.last().is_some_and(end)
                && bytes.iter().all(|b| end(b) || matches!(b, b'.' | b'_' | b'-'))
        })
}

/// What pods have beyond pod specs: requests made of limits, ports of the host's network.
pub(in crate::strategies) fn default_pod_only(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in each_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    default_to(spec, "enableServiceLinks", true);
    if spec["hostNetwork"] == true {
        for list in ["containers", "initContainers"] {
            for container in each_mut(spec, list) {
                for port in each_mut(container, "ports") {
                    if int(&port["hostPort"]) == 0 {
                        port["hostPort"] = port["containerPort"].clone();
                    }
                }
            }
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container
        .pointer("/resources/limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    let requests = &mut container["resources"]["requests"];
    if !requests.is_object() {
        *requests = json!({});
    }
    for (name, limit) in limits {
        if requests.get(&name).is_none() {
            requests[name.as_str()] = limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_pod_spec_is_filled_in() {
        let mut spec = json!({
            "hostNetwork": true,
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100u"}}}],
            "volumes": [{"name": "none"}, {"name": "map", "configMap": {"name": "m"}},
                {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
        });
        default_pod_only(&mut spec);
        default_pod_spec(&mut spec);
        let expected = json!({
            "hostNetwork": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Gi"}}}],
            "volumes": [{"name": "none", "emptyDir": {}}, {"name": "map", "configMap": {"name": "m", "defaultMode": 420}},
                {"name": "all", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}]
        });
        assert_eq!(spec, expected);
        let once = spec.clone();
        default_pod_only(&mut spec);
        default_pod_spec(&mut spec);
        assert_eq!(spec, once);
    }

    #[test]
    fn images_that_may_change_are_always_pulled() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/a/nginx", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("host:5000/a/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, expected) in cases {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}

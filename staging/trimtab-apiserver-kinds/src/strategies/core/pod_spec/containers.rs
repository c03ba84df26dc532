//! What is wrong with containers: regular ones, those that run first, and those that are added for a while.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::env::{validate_env, validate_env_from};
use super::probes::validate_probes;
use super::security::validate_container_security;
use super::volumes::{descending, no_backsteps};
use crate::strategies::checks::{int, invalid_for, is_empty, items, one_of, text};
use crate::strategies::core::resources;
use crate::strategies::core::words::{port_name, port_number};

/// What a pod says that its containers depend on.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'p> {
    pub(super) spec: &'p Value,
    /// The volumes with which nothing is wrong.
    pub(super) volumes: &'p [&'p Value],
}

/// What may not be set on a container that is added for a while.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// The regular containers.
pub(super) fn validate_containers(pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let containers = items(&pod.spec["containers"]);
    if containers.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let grace = &pod.spec["terminationGracePeriodSeconds"];
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = at.index(i);
        errors.extend(validate_common(container, pod, &at));
        errors.extend(unique(container, &mut seen, &at));
        errors.extend(validate_probes(container, grace, &at));
        errors.extend(restart_policy(container, &at));
    }
    errors.extend(host_ports(containers, at));
    errors
}

/// The containers that run before the regular ones.
pub(super) fn validate_init_containers(pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let grace = &pod.spec["terminationGracePeriodSeconds"];
    let mut seen: HashSet<&str> = items(&pod.spec["containers"])
        .iter()
        .map(|c| text(&c["name"]))
        .collect();
    let mut errors = Vec::new();
    for (i, container) in items(&pod.spec["initContainers"]).iter().enumerate() {
        let path = at.index(i);
        errors.extend(validate_common(container, pod, &path));
        errors.extend(restart_policy(container, &path));
        errors.extend(unique(container, &mut seen, &path));
        errors.extend(host_ports(std::slice::from_ref(container), at));
        if text(&container["restartPolicy"]) == "Always" {
            errors.extend(validate_probes(container, grace, &path));
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container[field].is_object() {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&path.child(field), why));
            }
        }
        for (j, policy) in items(&container["resizePolicy"]).iter().enumerate() {
            if text(&policy["restartPolicy"]) == "RestartContainer" {
                let at = path.child("resizePolicy").index(j).child("restartPolicy");
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(FieldError::invalid(&at, "RestartContainer", why));
            }
        }
    }
    errors
}

/// The containers that are added to a running pod.
pub(super) fn validate_ephemeral_containers(pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let others: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(&pod.spec[*list]))
        .map(|container| text(&container["name"]))
        .collect();
    let mut seen = others.clone();
    let mut errors = Vec::new();
    for (i, container) in items(&pod.spec["ephemeralContainers"]).iter().enumerate() {
        let at = at.index(i);
        errors.extend(validate_common(container, pod, &at));
        errors.extend(no_blanks(container, &at));
        errors.extend(unique(container, &mut seen, &at));
        let target = text(&container["targetContainerName"]);
        if !target.is_empty() && !others.contains(target) {
            errors.push(FieldError::not_found(&at.child("targetContainerName"), target));
        }
        let why = "cannot be set for an Ephemeral Container";
        let set = NOT_EPHEMERAL
            .iter()
            .filter(|field| !is_empty(&container[**field]));
        errors.extend(set.map(|field| FieldError::forbidden(&at.child(field), why)));
        for (j, mount) in items(&container["volumeMounts"]).iter().enumerate() {
            let at = at.child("volumeMounts").index(j);
            let set = ["subPath", "subPathExpr"]
                .into_iter()
                .filter(|f| !is_empty(&mount[*f]));
            errors.extend(set.map(|field| FieldError::forbidden(&at.child(field), why)));
        }
    }
    errors
}

fn unique<'c>(container: &'c Value, seen: &mut HashSet<&'c str>, at: &FieldPath) -> Option<FieldError> {
    let name = text(&container["name"]);
    (!seen.insert(name)).then(|| FieldError::duplicate(&at.child("name"), name))
}

/// In pods, unlike in templates, images have no blanks around them.
pub(in crate::strategies::core) fn no_blanks(container: &Value, at: &FieldPath) -> Option<FieldError> {
    let image = text(&container["image"]);
    let why = "must not have leading or trailing whitespace";
    (image != image.trim()).then(|| FieldError::invalid(&at.child("image"), image, why))
}

fn required_one_of(value: &Value, supported: &[&str], at: &FieldPath) -> Vec<FieldError> {
    if text(value).is_empty() {
        vec![FieldError::required(at, "")]
    } else {
        one_of(value, supported, at)
    }
}

fn validate_common(container: &Value, pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = text(&container["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        errors.extend(invalid_for(
            names::dns1123_label(name),
            &name.into(),
            &at.child("name"),
        ));
    }
    if text(&container["image"]).is_empty() {
        errors.push(FieldError::required(&at.child("image"), ""));
    }
    let policy = "terminationMessagePolicy";
    let policies = ["File", "FallbackToLogsOnError"];
    errors.extend(required_one_of(&container[policy], &policies, &at.child(policy)));
    errors.extend(ports(&container["ports"], &at.child("ports")));
    errors.extend(validate_env(&container["env"], &at.child("env")));
    errors.extend(validate_env_from(&container["envFrom"], &at.child("envFrom")));
    errors.extend(mounts(container, pod, &at.child("volumeMounts")));
    errors.extend(devices(container, pod, &at.child("volumeDevices")));
    let policies = ["Always", "IfNotPresent", "Never"];
    errors.extend(required_one_of(
        &container["imagePullPolicy"],
        &policies,
        &at.child("imagePullPolicy"),
    ));
    let resources = &container["resources"];
    errors.extend(resources::requirements(
        resources,
        &at.child("resources"),
        resources::container_name,
    ));
    errors.extend(claims(
        &resources["claims"],
        pod,
        &at.child("resources").child("claims"),
    ));
    errors.extend(resize_policy(container, pod, &at.child("resizePolicy")));
    errors.extend(validate_container_security(
        &container["securityContext"],
        pod.spec["hostUsers"] != false,
        &at.child("securityContext"),
    ));
    errors
}

fn ports(ports: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, port) in items(ports).iter().enumerate() {
        let at = at.index(i);
        let name = text(&port["name"]);
        if !name.is_empty() {
            let wrong = port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            errors.extend(invalid_for(wrong, &name.into(), &at.child("name")));
        }
        if int(&port["containerPort"]) == 0 {
            errors.push(FieldError::required(&at.child("containerPort"), ""));
        }
        for field in ["containerPort", "hostPort"] {
            let number = int(&port[field]);
            if number != 0 {
                errors.extend(invalid_for(port_number(number), &number.into(), &at.child(field)));
            }
        }
        errors.extend(required_one_of(
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
            &at.child("protocol"),
        ));
    }
    errors
}

fn host_ports(containers: &[Value], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in items(&container["ports"]).iter().enumerate() {
            let number = int(&port["hostPort"]);
            let all = format!("{}/{}/{number}", text(&port["protocol"]), text(&port["hostIP"]));
            if number != 0 && !seen.insert(all.clone()) {
                let at = at.index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::duplicate(&at, all));
            }
        }
    }
    errors
}

/// The paths of a container's mounts or devices by their volume.
fn by_volume<'c>(list: &'c Value, path: &str) -> HashMap<&'c str, &'c str> {
    items(list)
        .iter()
        .map(|m| (text(&m["name"]), text(&m[path])))
        .collect()
}

fn mounts(container: &Value, pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let devices = by_volume(&container["volumeDevices"], "devicePath");
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, mount) in items(&container["volumeMounts"]).iter().enumerate() {
        let item = at.index(i);
        let (name, path) = (text(&mount["name"]), text(&mount["mountPath"]));
        let (at_name, at_path) = (item.child("name"), item.child("mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(&at_name, ""));
        }
        if !pod.volumes.iter().any(|volume| text(&volume["name"]) == name) {
            errors.push(FieldError::not_found(&at_name, name));
        }
        if path.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        }
        if !seen.insert(path) {
            errors.push(FieldError::invalid(&at_path, path, "must be unique"));
        }
        if devices.contains_key(name) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&at_name, name, why));
        }
        if devices.values().any(|device| *device == path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&at_path, path, why));
        }
        let (sub, expression) = (text(&mount["subPath"]), text(&mount["subPathExpr"]));
        errors.extend(descending(sub, &at.child("subPath")));
        if !expression.is_empty() && !sub.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&item.child("subPathExpr"), expression, why));
        }
        errors.extend(descending(expression, &at.child("subPathExpr")));
        errors.extend(propagation(mount, container, at));
    }
    errors
}

/// How mounts inside a volume are seen outside of it; `at` is the path of all mounts, as Kubernetes says it.
fn propagation(mount: &Value, container: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (propagation, recursive) = (&mount["mountPropagation"], mount["recursiveReadOnly"].as_str());
    if !propagation.is_null() {
        let at = at.child("mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        errors.extend(one_of(propagation, &known, &at));
        if propagation == "Bidirectional" && container["securityContext"]["privileged"] != true {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    let at = at.child("recursiveReadOnly");
    match recursive {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount["readOnly"] != true {
                let why = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(&at, why));
            }
            if !matches!(text(propagation), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&at, why));
            }
        }
        Some(other) => {
            let known = ["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::not_supported(&at, other, &known));
        }
    }
    errors
}

fn devices(container: &Value, pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mounts = by_volume(&container["volumeMounts"], "mountPath");
    let mut errors = Vec::new();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (i, device) in items(&container["volumeDevices"]).iter().enumerate() {
        let at = at.index(i);
        let (name, path) = (text(&device["name"]), text(&device["devicePath"]));
        let (at_name, at_path) = (at.child("name"), at.child("devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(&at_name, ""));
        } else if !names.insert(name) {
            errors.push(FieldError::invalid(&at_name, name, "must be unique"));
        }
        match pod.volumes.iter().find(|volume| text(&volume["name"]) == name) {
            None => errors.push(FieldError::not_found(&at_name, name)),
            Some(volume) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&at_name, name, why));
            }
            Some(_) => {}
        }
        if path.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        }
        if paths.contains(path) {
            errors.push(FieldError::invalid(&at_path, path, "must be unique"));
        }
        if no_backsteps(path).is_empty() {
            paths.insert(path);
        } else {
            let why = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&at_path, path, why));
        }
        if mounts.contains_key(name) {
            let why = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(&at_name, name, why));
        }
        if mounts.values().any(|mount| *mount == path) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&at_path, path, why));
        }
    }
    errors
}

fn claims(claims: &Value, pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, claim) in items(claims).iter().enumerate() {
        let (name, at) = (text(&claim["name"]), at.index(i));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !items(&pod.spec["resourceClaims"])
            .iter()
            .any(|known| text(&known["name"]) == name)
        {
            errors.push(FieldError::not_found(&at, name));
        }
    }
    errors
}

fn resize_policy(container: &Value, pod: Surroundings<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, policy) in items(&container["resizePolicy"]).iter().enumerate() {
        let (resource, restart) = (&policy["resourceName"], &policy["restartPolicy"]);
        if !seen.insert(text(resource)) {
            errors.push(FieldError::duplicate(&at.index(i), text(resource)));
        }
        errors.extend(required_one_of(resource, &["cpu", "memory"], at));
        errors.extend(required_one_of(restart, &["NotRequired", "RestartContainer"], at));
        if text(&pod.spec["restartPolicy"]) == "Never" && text(restart) != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(at, text(restart), why));
        }
    }
    errors
}

/// Whether a container starts again, and by which exit codes.
fn restart_policy(container: &Value, at: &FieldPath) -> Vec<FieldError> {
    let policy = &container["restartPolicy"];
    let rules = items(&container["restartPolicyRules"]);
    let mut errors = Vec::new();
    if !policy.is_null() {
        let known = ["Always", "Never", "OnFailure"];
        errors.extend(one_of(policy, &known, &at.child("restartPolicy")));
    } else if !rules.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&at.child("restartPolicy"), why));
    }
    let at = at.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&at, rules.len(), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let actions = ["Restart", "RestartAllContainers"];
        errors.extend(one_of(&rule["action"], &actions, &at.child("action")));
        let (codes, at) = (&rule["exitCodes"], at.child("exitCodes"));
        if codes.is_null() {
            errors.push(FieldError::required(&at, "must be specified"));
        } else {
            errors.extend(one_of(
                &codes["operator"],
                &["In", "NotIn"],
                &at.child("operator"),
            ));
        }
    }
    errors
}

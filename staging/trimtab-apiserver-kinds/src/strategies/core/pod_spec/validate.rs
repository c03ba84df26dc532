//! What is wrong with pod specs and pod templates as a whole.

use std::collections::HashSet;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::containers::{
    Surroundings, validate_containers, validate_ephemeral_containers, validate_init_containers,
};
use super::scheduling::{validate_affinity, validate_spread, validate_tolerations};
use super::security::validate_pod_security;
use super::volumes::validate_volumes;
use crate::strategies::checks::{int, invalid_for, items, labels, one_of, text};
use crate::strategies::core::addresses::ip;
use crate::strategies::core::resources;
use crate::strategies::core::words::{MAX_INT32, in_range};

/// How many search paths a pod's resolver takes, and how many characters they may have together (`MaxDNSSearchPaths` and
/// `MaxDNSSearchListChars` of `k8s.io/kubernetes/pkg/apis/core/validation`).
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LIST: usize = 2048;

/// What is wrong with a pod template, its metadata included; `at` is the path of the template.
pub(in crate::strategies) fn validate_pod_template_spec(template: &Value, at: &FieldPath) -> Vec<FieldError> {
    let metadata = &template["metadata"];
    let mut errors = labels(&metadata["labels"], &at.child("labels"));
    for (key, _) in metadata["annotations"].as_object().into_iter().flatten() {
        let lower = key.to_lowercase();
        let wrong = names::qualified_name(&lower);
        errors.extend(invalid_for(wrong, &key.as_str().into(), &at.child("annotations")));
    }
    let of = at.child("spec");
    errors.extend(validate_pod_spec(&template["spec"], &of));
    if !items(&template["spec"]["ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&of.child("ephemeralContainers"), why));
    }
    errors
}

/// What is wrong with a pod spec; `at` is the path of the spec.
pub(in crate::strategies) fn validate_pod_spec(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec["terminationGracePeriodSeconds"].is_null() {
        let at = at.child("terminationGracePeriodSeconds");
        errors.push(FieldError::required(&at, ""));
    }
    let (volumes, wrong) = validate_volumes(&spec["volumes"], &at.child("volumes"));
    errors.extend(wrong);
    let pod = Surroundings {
        spec,
        volumes: &volumes,
    };
    errors.extend(validate_containers(pod, &at.child("containers")));
    errors.extend(validate_init_containers(pod, &at.child("initContainers")));
    errors.extend(validate_ephemeral_containers(
        pod,
        &at.child("ephemeralContainers"),
    ));
    if spec["resources"].is_object() {
        let at = at.child("resources");
        if !spec["resources"]["claims"].is_null() {
            let why = "claims may not be set for Resources at pod-level";
            errors.push(FieldError::forbidden(&at.child("claims"), why));
        }
        errors.extend(resources::requirements(
            &spec["resources"],
            &at,
            resources::pod_name,
        ));
    }
    errors.extend(host_network_ports(spec, at));
    let policies = ["Always", "OnFailure", "Never"];
    errors.extend(one_of(
        &spec["restartPolicy"],
        &policies,
        &at.child("restartPolicy"),
    ));
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.extend(one_of(&spec["dnsPolicy"], &policies, &at.child("dnsPolicy")));
    errors.extend(labels(&spec["nodeSelector"], &at.child("nodeSelector")));
    errors.extend(validate_pod_security(spec, &at.child("securityContext")));
    errors.extend(validate_affinity(&spec["affinity"], &at.child("affinity")));
    errors.extend(dns_config(spec, &at.child("dnsConfig")));
    for (i, gate) in items(&spec["readinessGates"]).iter().enumerate() {
        let at = at.child("readinessGates").index(i).child("conditionType");
        let name = text(&gate["conditionType"]);
        errors.extend(invalid_for(names::qualified_name(name), &name.into(), &at));
    }
    errors.extend(scheduling_gates(spec, &at.child("schedulingGates")));
    let spread = "topologySpreadConstraints";
    errors.extend(validate_spread(&spec[spread], &at.child(spread)));
    errors.extend(simple_fields(spec, at));
    errors.extend(validate_tolerations(
        &spec["tolerations"],
        &at.child("tolerations"),
    ));
    errors.extend(host_aliases(spec, &at.child("hostAliases")));
    errors.extend(late_fields(spec, at));
    errors
}

/// Names of this and that, in the order in which they are looked at.
fn simple_fields(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(named(
        spec,
        at,
        &["serviceAccountName", "nodeName"],
        names::dns1123_subdomain,
    ));
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        let wrong = in_range(seconds, 1, MAX_INT32);
        errors.extend(invalid_for(
            wrong,
            &seconds.into(),
            &at.child("activeDeadlineSeconds"),
        ));
    }
    errors.extend(named(spec, at, &["hostname", "subdomain"], names::dns1123_label));
    errors
}

fn late_fields(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let names = ["priorityClassName", "runtimeClassName"];
    let mut errors = named(spec, at, &names, names::dns1123_subdomain);
    if !spec["preemptionPolicy"].is_null() {
        let policies = ["PreemptLowerPriority", "Never"];
        errors.extend(one_of(
            &spec["preemptionPolicy"],
            &policies,
            &at.child("preemptionPolicy"),
        ));
    }
    if spec["overhead"].is_object() {
        let overhead = serde_json::json!({"limits": spec["overhead"]});
        let wrong = resources::requirements(&overhead, &at.child("overhead"), resources::container_name);
        errors.extend(wrong);
    }
    if spec["os"].is_object() {
        let (name, at) = (&spec["os"]["name"], at.child("os"));
        if text(name).is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            errors.extend(one_of(name, &["linux", "windows"], &at));
        }
    }
    errors
}

fn named(spec: &Value, at: &FieldPath, fields: &[&str], rule: fn(&str) -> Vec<String>) -> Vec<FieldError> {
    fields
        .iter()
        .filter(|field| !text(&spec[**field]).is_empty())
        .flat_map(|field| invalid_for(rule(text(&spec[*field])), &spec[*field], &at.child(field)))
        .collect()
}

fn host_network_ports(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec["hostNetwork"] != true {
        return errors;
    }
    for (i, container) in items(&spec["containers"]).iter().enumerate() {
        for (j, port) in items(&container["ports"]).iter().enumerate() {
            let (host, inner) = (int(&port["hostPort"]), int(&port["containerPort"]));
            // In pods it is filled in, so only templates have none.
            if host != 0 && host != inner {
                let at = at.child("containers").index(i).child("ports").index(j);
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&at.child("hostPort"), host, why));
            }
        }
    }
    errors
}

fn dns_config(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let config = &spec["dnsConfig"];
    let servers = items(&config["nameservers"]);
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            return vec![FieldError::required(at, why)];
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![FieldError::required(&at.child("nameservers"), why)];
        }
    }
    let mut errors = Vec::new();
    if servers.len() > 3 {
        let why = "must not have more than 3 nameservers";
        errors.push(FieldError::invalid(
            &at.child("nameservers"),
            config["nameservers"].clone(),
            why,
        ));
    }
    for (i, server) in servers.iter().enumerate() {
        errors.extend(ip(text(server), &at.child("nameservers").index(i)));
    }
    let searches = items(&config["searches"]);
    let path = at.child("searches");
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(&path, config["searches"].clone(), why));
    }
    let length: usize = searches.iter().map(|search| text(search).len() + 1).sum();
    if length > MAX_SEARCH_LIST + 1 {
        let why = format!(
            "must not have more than {MAX_SEARCH_LIST} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&path, config["searches"].clone(), why));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = text(search).strip_suffix('.').unwrap_or(text(search));
        errors.extend(invalid_for(
            names::dns1123_subdomain_with_underscores(search),
            &search.into(),
            &path.index(i),
        ));
    }
    for (i, option) in items(&config["options"]).iter().enumerate() {
        if text(&option["name"]).is_empty() {
            let at = at.child("options").index(i);
            errors.push(FieldError::required(&at, "must not be empty"));
        }
    }
    errors
}

fn scheduling_gates(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, gate) in items(&spec["schedulingGates"]).iter().enumerate() {
        let name = text(&gate["name"]);
        errors.extend(invalid_for(
            names::qualified_name(name),
            &name.into(),
            &at.index(i),
        ));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.index(i), name));
        }
    }
    errors
}

fn host_aliases(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, alias) in items(&spec["hostAliases"]).iter().enumerate() {
        let at = at.index(i);
        errors.extend(ip(text(&alias["ip"]), &at.child("ip")));
        for (j, name) in items(&alias["hostnames"]).iter().enumerate() {
            let at = at.child("hostnames").index(j);
            errors.extend(invalid_for(names::dns1123_subdomain(text(name)), name, &at));
        }
    }
    errors
}

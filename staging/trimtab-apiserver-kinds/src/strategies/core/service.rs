//! Services. Their addresses and ports are allocated elsewhere; here is what else is filled in, dropped and refused.

#[cfg(test)]
mod tests;
mod validate;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::names;

use crate::strategies::checks::{default_text, default_to, int, is_empty, items, object, text};
use crate::strategies::fields::each_mut;
use crate::strategies::rules::{Rules, carry_over};

/// How long a client stays with the same pod: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) const SERVICE: Rules = Rules {
    create_on_update: true,
    // Relaxed since 1.36: a name may begin with a digit.
    name: names::dns1123_label,
    default,
    prepare_create: |_, service| drop_internal_policy(service),
    prepare_update: |new, old| {
        drop_dependents(new, old);
        drop_internal_policy(new);
    },
    prepare_status: |service, _| default(service),
    validate: |service| validate::validate(service),
    validate_update: Some(validate::validate_update),
    validate_status: |new, _| validate::validate_status(new),
    warnings: |new, _| warnings(new),
    selectable: &["spec.clusterIP", "spec.type"],
    select: |service, field| {
        let name = field.strip_prefix("spec.")?;
        matches!(name, "clusterIP" | "type").then(|| text(&service["spec"][name]).to_owned())
    },
    ..Rules::ORDINARY
};

fn is_balanced(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer"
}

/// Whether a service has no address of its own, its clients looking up those of its pods.
fn is_headless(service: &Value) -> bool {
    let ips = items(&service["spec"]["clusterIPs"]);
    matches!(ips, [only] if only == "None")
}

/// Whether a service may be reached from outside of the cluster.
fn is_external(service: &Value) -> bool {
    let kind = text(&service["spec"]["type"]);
    matches!(kind, "LoadBalancer" | "NodePort")
        || (kind == "ClusterIP" && !is_empty(&service["spec"]["externalIPs"]))
}

/// Whether balancers ask nodes whether they have pods of the service.
fn needs_health_check(service: &Value) -> bool {
    is_balanced(service) && service["spec"]["externalTrafficPolicy"] == "Local"
}

fn needs_node_ports(service: &Value) -> bool {
    let allocates = service["spec"]["allocateLoadBalancerNodePorts"] != false;
    match text(&service["spec"]["type"]) {
        "NodePort" => true,
        "LoadBalancer" => allocates,
        _ => false,
    }
}

fn default(service: &mut Value) {
    let spec = object(service, "spec");
    default_text(spec, "sessionAffinity", "None");
    match text(&spec["sessionAffinity"]) {
        "None" => carry_over(spec, &json!({}), "sessionAffinityConfig"),
        "ClientIP" if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() => {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    for port in each_mut(spec, "ports") {
        default_text(port, "protocol", "TCP");
        let target = &port["targetPort"];
        if target.is_null() || *target == 0 || *target == "" {
            port["targetPort"] = int(&port["port"]).into();
        }
    }
    if is_external(service) {
        default_text(object(service, "spec"), "externalTrafficPolicy", "Cluster");
    }
    let balanced = is_balanced(service);
    let spec = object(service, "spec");
    if matches!(text(&spec["type"]), "NodePort" | "LoadBalancer" | "ClusterIP") {
        default_to(spec, "internalTrafficPolicy", "Cluster");
    }
    if balanced {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in service
            .pointer_mut("/status/loadBalancer/ingress")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if !text(&ingress["ip"]).is_empty() {
                default_to(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// Drops what a name outside of the cluster has no use for. Its owner stays, as Kubernetes leaves the field out of
/// answers only.
fn drop_internal_policy(service: &mut Value) {
    if service["spec"]["type"] == "ExternalName" {
        carry_over(object(service, "spec"), &json!({}), "internalTrafficPolicy");
    }
}

/// Drops what a service of the new type has no use for, if the user has not changed it.
fn drop_dependents(new: &mut Value, old: &Value) {
    let nothing = json!({});
    let needs_ip = |service: &Value| service["spec"]["type"] != "ExternalName";
    let same = |new: &Value, fields: &[&str]| fields.iter().all(|f| new["spec"][*f] == old["spec"][*f]);
    let mut dropped: Vec<&str> = Vec::new();
    if needs_ip(old) && !needs_ip(new) {
        for group in [
            &["clusterIP", "clusterIPs"][..],
            &["ipFamilies"],
            &["ipFamilyPolicy"],
        ] {
            if same(new, group) {
                dropped.extend(group);
            }
        }
    }
    if needs_node_ports(old) && !needs_node_ports(new) {
        let ports = |service: &Value| -> Vec<i64> {
            items(&service["spec"]["ports"])
                .iter()
                .map(|port| int(&port["nodePort"]))
                .collect()
        };
        if ports(new) == ports(old) {
            each_mut(object(new, "spec"), "ports").for_each(|port| carry_over(port, &nothing, "nodePort"));
        }
    }
    if needs_health_check(old) && !needs_health_check(new) {
        dropped.push("healthCheckNodePort");
    }
    if is_balanced(old) && !is_balanced(new) {
        dropped.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if is_external(old) && !is_external(new) {
        dropped.push("externalTrafficPolicy");
    }
    for field in dropped {
        if same(new, &[field]) {
            carry_over(object(new, "spec"), &nothing, field);
        }
    }
    if !is_balanced(new) {
        object(new, "status")["loadBalancer"] = nothing;
    }
}

fn warnings(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let headless = spec["type"] == "ClusterIP" && spec["clusterIP"] == "None";
    let named = spec["type"] == "ExternalName";
    let outside = !is_empty(&spec["externalIPs"]);
    let mut warnings = Vec::new();
    if service["metadata"]["annotations"]["service.kubernetes.io/topology-aware-hints"].is_string() {
        warnings.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead",
        );
    }
    if headless && !is_empty(&spec["loadBalancerIP"]) {
        warnings.push("spec.loadBalancerIP is ignored for headless services");
    }
    if headless && outside {
        warnings.push("spec.externalIPs is ignored for headless services");
    }
    if headless && spec["sessionAffinity"] != "None" {
        warnings.push("spec.SessionAffinity is ignored for headless services");
    }
    if outside && !headless && !named {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters");
    }
    if named && outside {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    }
    if !named && !is_empty(&spec["externalName"]) {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"");
    }
    if spec["trafficDistribution"] == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
    }
    warnings.into_iter().map(str::to_owned).collect()
}

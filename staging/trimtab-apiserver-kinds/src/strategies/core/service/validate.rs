//! What is wrong with services.

use std::collections::HashSet;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::{is_balanced, is_external, is_headless, needs_health_check};
use crate::strategies::checks::{int, invalid_for, is_empty, items, labels, one_of, text};
use crate::strategies::core::addresses;
use crate::strategies::core::pod_spec::port;
use crate::strategies::core::words::port_number;

/// The longest time that a client stays with the same pod: a day, in seconds.
const MAX_AFFINITY_SECONDS: i64 = 86_400;
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCED_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

fn spec() -> FieldPath {
    FieldPath::new("spec")
}

/// What is wrong with a service, new or changed.
pub(super) fn validate(service: &Value) -> Vec<FieldError> {
    let (of, at) = (&service["spec"], spec());
    let kind = text(&of["type"]);
    let mut errors = Vec::new();
    if items(&of["ports"]).is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.push(FieldError::required(&at.child("ports"), ""));
    }
    errors.extend(by_type(service));
    errors.extend(ports(&of["ports"]));
    errors.extend(labels(&of["selector"], &at.child("selector")));
    errors.extend(affinity(of));
    errors.extend(cluster_ips(service));
    for (i, ip) in items(&of["externalIPs"]).iter().enumerate() {
        let at = at.child("externalIPs").index(i);
        match addresses::ip(text(ip), &at) {
            Some(wrong) => errors.push(wrong),
            None => errors.extend(addresses::endpoint(ip, &at)),
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.extend(one_of(&of["type"], &kinds, &at.child("type")));
    errors.extend(port_conflicts(of));
    errors.extend(source_ranges(service));
    if !is_balanced(service) && !of["allocateLoadBalancerNodePorts"].is_null() {
        let at = at.child("allocateLoadBalancerNodePorts");
        errors.push(FieldError::forbidden(&at, BALANCED_ONLY));
    }
    errors.extend(balancer_class(service));
    errors.extend(traffic(service));
    errors
}

fn by_type(service: &Value) -> Vec<FieldError> {
    let (of, at) = (&service["spec"], spec());
    let kind = text(&of["type"]);
    let mut errors = Vec::new();
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(service) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&at.child("clusterIPs").index(0), "None", why));
        }
        "ExternalName" => {
            let set = ["clusterIPs", "ipFamilies", "ipFamilyPolicy"]
                .into_iter()
                .filter(|f| !is_empty(&of[*f]));
            let why = "may not be set for ExternalName services";
            errors.extend(set.map(|field| FieldError::forbidden(&at.child(field), why)));
            let name = text(&of["externalName"]);
            let (name, at) = (name.strip_suffix('.').unwrap_or(name), at.child("externalName"));
            if name.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                errors.extend(invalid_for(names::dns1123_subdomain(name), &name.into(), &at));
            }
        }
        _ => {}
    }
    errors
}

fn ports(ports: &Value) -> Vec<FieldError> {
    let all = items(ports);
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, of) in all.iter().enumerate() {
        let at = spec().child("ports").index(i);
        let name = text(&of["name"]);
        if !name.is_empty() {
            errors.extend(invalid_for(
                names::dns1123_label(name),
                &name.into(),
                &at.child("name"),
            ));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
        } else if all.len() > 1 {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let number = int(&of["port"]);
        errors.extend(invalid_for(
            port_number(number),
            &number.into(),
            &at.child("port"),
        ));
        errors.extend(one_of(
            &of["protocol"],
            &["SCTP", "TCP", "UDP"],
            &at.child("protocol"),
        ));
        errors.extend(port(&of["targetPort"], &at.child("targetPort")));
        if let Some(protocol) = of["appProtocol"].as_str() {
            let wrong = names::qualified_name(protocol);
            errors.extend(invalid_for(wrong, &protocol.into(), &at.child("appProtocol")));
        }
    }
    errors
}

fn affinity(of: &Value) -> Vec<FieldError> {
    let affinity = text(&of["sessionAffinity"]);
    let at = spec().child("sessionAffinity");
    if affinity.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors = one_of(&of["sessionAffinity"], &["ClientIP", "None"], &at);
    let (config, at) = (
        &of["sessionAffinityConfig"],
        spec().child("sessionAffinityConfig"),
    );
    if affinity == "None" && !config.is_null() {
        let why = "must not be set when session affinity is None";
        errors.push(FieldError::forbidden(&at, why));
    }
    if affinity == "ClientIP" {
        let (seconds, at) = (
            &config["clientIP"]["timeoutSeconds"],
            at.child("clientIP").child("timeoutSeconds"),
        );
        if seconds.is_null() {
            errors.push(FieldError::required(
                &at,
                "when session affinity type is ClientIP",
            ));
        } else if !(1..=MAX_AFFINITY_SECONDS).contains(&int(seconds)) {
            let why = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
            errors.push(FieldError::invalid(&at, int(seconds), why));
        }
    }
    errors
}

fn cluster_ips(service: &Value) -> Vec<FieldError> {
    let of = &service["spec"];
    let mut errors = Vec::new();
    if of["type"] == "ExternalName" {
        return errors;
    }
    let (ips, first) = (items(&of["clusterIPs"]), text(&of["clusterIP"]));
    let all = || of["clusterIPs"].clone();
    let at = spec().child("clusterIPs");
    match ips.first() {
        None if first.is_empty() => {}
        None => errors.push(FieldError::required(&at, "")),
        Some(_) if first.is_empty() => {
            let why = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&at, all(), why));
        }
        Some(ip) if text(ip) != first => {
            errors.push(FieldError::invalid(
                &at,
                all(),
                "first value must match `clusterIP`",
            ));
        }
        Some(_) => {}
    }
    let mut seen = HashSet::new();
    for (i, family) in items(&of["ipFamilies"]).iter().enumerate() {
        let at = spec().child("ipFamilies").index(i);
        errors.extend(one_of(family, &["IPv4", "IPv6"], &at));
        if !seen.insert(text(family)) {
            errors.push(FieldError::duplicate(&at, text(family)));
        }
    }
    if !of["ipFamilyPolicy"].is_null() {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.extend(one_of(
            &of["ipFamilyPolicy"],
            &policies,
            &spec().child("ipFamilyPolicy"),
        ));
    }
    let mut wrong = Vec::new();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                let why = "'None' must be the first and only value";
                wrong.push(FieldError::invalid(&at, all(), why));
            }
        } else {
            wrong.extend(addresses::ip(text(ip), &at.index(i)));
        }
    }
    let unclear = !wrong.is_empty();
    errors.extend(wrong);
    if ips.len() > 2 {
        errors.push(FieldError::invalid(&at, all(), "may only hold up to 2 values"));
    }
    if unclear {
        return errors;
    }
    let is_six = |ip: &Value| text(ip).contains(':');
    if let [a, b] = ips
        && is_six(a) == is_six(b)
    {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&at, all(), why));
    }
    if !is_headless(service) {
        for (i, (ip, family)) in ips.iter().zip(items(&of["ipFamilies"])).enumerate() {
            let wanted = text(family);
            if matches!(wanted, "IPv4" | "IPv6") && (wanted == "IPv6") != is_six(ip) {
                let why = format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(&at.index(i), ip.clone(), why));
            }
        }
    }
    errors
}

fn port_conflicts(of: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = || items(&of["ports"]).iter().enumerate();
    let at = |i: usize| spec().child("ports").index(i);
    if of["type"] == "ClusterIP" {
        let why = "may not be used when `type` is 'ClusterIP'";
        let set = all().filter(|(_, port)| int(&port["nodePort"]) != 0);
        errors.extend(set.map(|(i, _)| FieldError::forbidden(&at(i).child("nodePort"), why)));
    }
    let mut seen = HashSet::new();
    for (i, port) in all().filter(|(_, port)| int(&port["nodePort"]) != 0) {
        if !seen.insert((text(&port["protocol"]), int(&port["nodePort"]))) {
            errors.push(FieldError::duplicate(
                &at(i).child("nodePort"),
                int(&port["nodePort"]),
            ));
        }
    }
    let mut seen = HashSet::new();
    for (i, port) in all() {
        let (protocol, number) = (text(&port["protocol"]), int(&port["port"]));
        if !seen.insert((protocol, number)) {
            // Kubernetes shows the struct by which it compares.
            let shown = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0,
                "NodePort": 0});
            errors.push(FieldError::duplicate(&at(i), shown));
        }
    }
    errors
}

fn source_ranges(service: &Value) -> Vec<FieldError> {
    let ranges = items(&service["spec"]["loadBalancerSourceRanges"]);
    let annotation = &service["metadata"]["annotations"][RANGES];
    let mut errors = Vec::new();
    if !ranges.is_empty() {
        let at = spec().child("LoadBalancerSourceRanges");
        if !is_balanced(service) {
            errors.push(FieldError::forbidden(&at, BALANCED_ONLY));
        }
        for (i, range) in ranges.iter().enumerate() {
            errors.extend(addresses::range(text(range).trim(), &at.index(i)));
        }
    } else if let Some(list) = annotation.as_str() {
        let at = FieldPath::new("metadata").child("annotations").key(RANGES);
        if !is_balanced(service) {
            errors.push(FieldError::forbidden(&at, BALANCED_ONLY));
        }
        let list = list.trim();
        let each = list.split(',').filter(|_| !list.is_empty());
        errors.extend(each.filter_map(|range| addresses::range(range.trim(), &at)));
    }
    errors
}

fn balancer_class(service: &Value) -> Vec<FieldError> {
    let (class, at) = (
        &service["spec"]["loadBalancerClass"],
        spec().child("loadBalancerClass"),
    );
    match class.as_str() {
        None => Vec::new(),
        Some(name) if is_balanced(service) => invalid_for(names::qualified_name(name), class, &at),
        Some(_) => vec![FieldError::forbidden(&at, BALANCED_ONLY)],
    }
}

fn traffic(service: &Value) -> Vec<FieldError> {
    let (of, at) = (&service["spec"], spec());
    let mut errors = Vec::new();
    let policies = ["Cluster", "Local"];
    let (policy, path) = (&of["externalTrafficPolicy"], at.child("externalTrafficPolicy"));
    match (is_external(service), text(policy)) {
        (false, "") => {}
        (false, set) => {
            let why = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(&path, set, why));
        }
        (true, "") => errors.push(FieldError::required(&path, "")),
        (true, _) => errors.extend(one_of(policy, &policies, &path)),
    }
    let (port, path) = (int(&of["healthCheckNodePort"]), at.child("healthCheckNodePort"));
    if needs_health_check(service) {
        if port == 0 {
            errors.push(FieldError::required(&path, ""));
        } else {
            errors.extend(invalid_for(port_number(port), &port.into(), &path));
        }
    } else if port != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&path, port, why));
    }
    if !of["internalTrafficPolicy"].is_null() {
        let path = at.child("internalTrafficPolicy");
        errors.extend(one_of(&of["internalTrafficPolicy"], &policies, &path));
    }
    if !of["trafficDistribution"].is_null() {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        let path = at.child("trafficDistribution");
        errors.extend(one_of(&of["trafficDistribution"], &known, &path));
    }
    errors
}

/// What is wrong with an update.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (of, was, at) = (&new["spec"], &old["spec"], spec());
    if of["type"] != "ExternalName" && was["type"] != "ExternalName" {
        if !(is_headless(new) && is_headless(old)) {
            errors.extend(kept(
                of,
                was,
                "clusterIPs",
                "primary clusterIP",
                "secondary clusterIP",
            ));
        }
        if !is_headless(new) && !is_headless(old) {
            errors.extend(kept(
                of,
                was,
                "ipFamilies",
                "primary ipFamily",
                "secondary ipFamily",
            ));
        }
    }
    if is_balanced(new) && is_balanced(old) && of["loadBalancerClass"] != was["loadBalancerClass"] {
        let class = of["loadBalancerClass"].clone();
        let why = "may not change once set";
        errors.push(FieldError::invalid(&at.child("loadBalancerClass"), class, why));
    }
    errors.extend(balancer_class(new));
    if needs_health_check(new)
        && needs_health_check(old)
        && of["healthCheckNodePort"] != was["healthCheckNodePort"]
    {
        let at = at.child("healthCheckNodePort");
        errors.push(FieldError::forbidden(&at, "field is immutable"));
    }
    errors.extend(validate(new));
    errors
}

/// The first address or family stays; the second may come, and go if the user says so.
fn kept(of: &Value, was: &Value, field: &str, primary: &str, secondary: &str) -> Vec<FieldError> {
    let (now, before) = (items(&of[field]), items(&was[field]));
    let at = spec().child(field);
    let shown = || json!(now);
    let mut errors = Vec::new();
    if now.len() == before.len() {
        for (i, _) in now.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
            let i = if field == "ipFamilies" { 0 } else { i };
            errors.push(FieldError::invalid(
                &at.index(i),
                shown(),
                "may not change once set",
            ));
        }
        return errors;
    }
    if now.is_empty() {
        let why = format!("{primary} can not be unset");
        errors.push(FieldError::invalid(&at.index(0), shown(), why));
    }
    if let (Some(a), Some(b)) = (now.first(), before.first())
        && a != b
    {
        errors.push(FieldError::invalid(
            &at.index(0),
            shown(),
            "may not change once set",
        ));
    }
    if now.len() == 1 && before.len() > 1 && of["ipFamilyPolicy"] != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the {secondary}");
        let policy = of["ipFamilyPolicy"].clone();
        errors.push(FieldError::invalid(&spec().child("ipFamilyPolicy"), policy, why));
    }
    errors
}

/// What is wrong with a status.
pub(super) fn validate_status(service: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("loadBalancer").child("ingress");
    let all = items(&service["status"]["loadBalancer"]["ingress"]);
    if !is_balanced(service) && !all.is_empty() {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![FieldError::forbidden(&at, why)];
    }
    let mut errors = Vec::new();
    for (i, ingress) in all.iter().enumerate() {
        let at = at.index(i);
        let (ip, mode, host) = (
            text(&ingress["ip"]),
            &ingress["ipMode"],
            text(&ingress["hostname"]),
        );
        if !ip.is_empty() {
            errors.extend(addresses::ip(ip, &at.child("ip")));
        }
        match (mode.is_null(), ip.is_empty()) {
            (true, true) => {}
            (true, false) => {
                let why = "must be specified when `ip` is set";
                errors.push(FieldError::required(&at.child("ipMode"), why));
            }
            (false, true) => {
                let why = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(&at.child("ipMode"), why));
            }
            (false, false) => errors.extend(one_of(mode, &["Proxy", "VIP"], &at.child("ipMode"))),
        }
        if !host.is_empty() {
            let at = at.child("hostname");
            errors.extend(invalid_for(names::dns1123_subdomain(host), &host.into(), &at));
            if addresses::ip(host, &at).is_none() {
                let why = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&at, host, why));
            }
        }
    }
    errors
}

//! Services as allocation sees them: what they need, what they hold, and what an update keeps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};
use trimtab_apiserver_storage::Op;

use crate::registry::keys;

/// Below the store's root: who holds what.
pub(super) const PREFIX: &str = "ranges/";
const NONE: &str = "None";

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One thing that one service at a time can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Ip(IpAddr),
    Port(u16),
}

impl Held {
    /// Where it is written who holds it.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Ip(ip) => format!("{}{PREFIX}serviceips/{ip}", keys::ROOT),
            Self::Port(port) => format!("{}{PREFIX}servicenodeports/{port}", keys::ROOT),
        }
    }

    /// Whether a key is one of those.
    pub(super) fn is_key(key: &[u8]) -> bool {
        let path = key
            .strip_prefix(keys::ROOT.as_bytes())
            .and_then(|path| path.strip_prefix(PREFIX.as_bytes()));
        path.is_some_and(|path| path.starts_with(b"serviceips/") || path.starts_with(b"servicenodeports/"))
    }

    pub(super) fn delete(&self) -> Op {
        Op::Delete {
            key: self.key().into(),
        }
    }
}

fn type_of(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

pub(super) fn cluster_ips(service: &Value) -> Vec<String> {
    texts(&service["spec"]["clusterIPs"])
}

fn cluster_ip(service: &Value) -> &str {
    service["spec"]["clusterIP"].as_str().unwrap_or_default()
}

/// The IP versions that the service asks for.
pub(super) fn families(service: &Value) -> Vec<Family> {
    let of = |text: &String| [Family::V4, Family::V6].into_iter().find(|f| f.as_str() == text);
    texts(&service["spec"]["ipFamilies"])
        .iter()
        .filter_map(of)
        .collect()
}

fn set_families(service: &mut Value, families: &[Family]) {
    service["spec"]["ipFamilies"] = families.iter().map(|f| f.as_str()).collect();
}

fn is_headless(service: &Value) -> bool {
    cluster_ip(service) == NONE || cluster_ips(service).first().is_some_and(|ip| ip == NONE)
}

/// Whether the service has addresses of its own.
pub(super) fn needs_cluster_ip(service: &Value) -> bool {
    type_of(service) != "ExternalName" && !is_headless(service)
}

fn needs_node_ports(service: &Value) -> bool {
    matches!(type_of(service), "NodePort" | "LoadBalancer")
}

fn needs_health_check_port(service: &Value) -> bool {
    type_of(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

/// A place in a service where a node port goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortPath {
    /// Of the port at this index.
    Port(usize),
    /// Of the health check.
    HealthCheck,
}

impl PortPath {
    fn value<'a>(&self, service: &'a Value) -> &'a Value {
        match self {
            Self::Port(index) => &service["spec"]["ports"][*index]["nodePort"],
            Self::HealthCheck => &service["spec"]["healthCheckNodePort"],
        }
    }

    /// The port; `None` when none is named. What is no port at all counts as port 0, which no range has.
    pub(super) fn get(&self, service: &Value) -> Option<u16> {
        match self.value(service).as_i64() {
            None | Some(0) => None,
            Some(port) => Some(u16::try_from(port).unwrap_or(0)),
        }
    }

    pub(super) fn set(&self, service: &mut Value, port: u16) {
        match self {
            Self::Port(index) => service["spec"]["ports"][*index]["nodePort"] = json!(port),
            Self::HealthCheck => service["spec"]["healthCheckNodePort"] = json!(port),
        }
    }

    pub(super) fn field(&self, _: usize) -> FieldPath {
        let spec = FieldPath::new("spec");
        match self {
            Self::Port(index) => spec.child("ports").index(*index).child("nodePort"),
            Self::HealthCheck => spec.child("healthCheckNodePort"),
        }
    }

    /// The node port of another port of the same number: protocols of one service port share it.
    pub(super) fn shared(&self, service: &Value) -> Option<u16> {
        let Self::Port(index) = *self else { return None };
        let ports = &service["spec"]["ports"];
        let same = |other: &usize| *other != index && ports[*other]["port"] == ports[index]["port"];
        let count = ports.as_array().map_or(0, Vec::len);
        (0..count)
            .filter(same)
            .find_map(|other| Self::Port(other).get(service))
    }
}

/// The places whose node port the service needs, or names without needing it.
pub(super) fn node_ports(service: &Value) -> Vec<PortPath> {
    let mut paths = Vec::new();
    if needs_node_ports(service) {
        let optional =
            type_of(service) == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] == false;
        let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
        paths.extend(
            (0..count)
                .map(PortPath::Port)
                .filter(|path| !optional || path.get(service).is_some()),
        );
    }
    if needs_health_check_port(service) {
        paths.push(PortPath::HealthCheck);
    }
    paths
}

/// What the service holds, by its type: fields that its type does not use hold nothing.
pub(super) fn held(service: &Value) -> BTreeSet<Held> {
    let mut held = BTreeSet::new();
    if needs_cluster_ip(service) {
        held.extend(
            cluster_ips(service)
                .iter()
                .filter_map(|ip| ip.parse().ok())
                .map(Held::Ip),
        );
    }
    held.extend(
        node_ports(service)
            .iter()
            .filter_map(|path| path.get(service))
            .map(Held::Port),
    );
    held
}

/// An update that leaves out what was allocated keeps it.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    if type_of(old) != "ExternalName" && type_of(new) != "ExternalName" {
        if cluster_ip(new).is_empty() {
            new["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
        }
        if cluster_ips(new).is_empty() {
            new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let of = |service: &Value| -> Vec<(Value, Option<u16>)> {
            let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
            let port =
                |(index, port): (usize, &Value)| (port["name"].clone(), PortPath::Port(index).get(service));
            ports.iter().enumerate().map(port).collect()
        };
        let (before, after) = (of(old), of(new));
        for (index, (name, port)) in after.iter().enumerate() {
            let known = before
                .iter()
                .find(|(other, _)| other == name)
                .and_then(|(_, port)| *port);
            if let (None, Some(known)) = (port, known)
                && !after.iter().any(|(_, port)| *port == Some(known))
            {
                PortPath::Port(index).set(new, known);
            }
        }
    }
    if needs_health_check_port(old)
        && needs_health_check_port(new)
        && PortPath::HealthCheck.get(new).is_none()
        && let Some(port) = PortPath::HealthCheck.get(old)
    {
        PortPath::HealthCheck.set(new, port);
    }
}

/// Brings `clusterIP` and `clusterIPs` into agreement where a client knows only the former.
pub(super) fn sync_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let ip = cluster_ip(new).to_owned();
    let ips = cluster_ips(new);
    match old {
        None => {
            if !ip.is_empty() && ips.is_empty() {
                new["spec"]["clusterIPs"] = json!([ip]);
            }
        }
        Some(old) if cluster_ip(old) != ip && ips == cluster_ips(old) => {
            // Only the single field was changed: the list follows.
            new["spec"]["clusterIPs"] = if ip.is_empty() { Value::Null } else { json!([ip]) };
        }
        Some(_) => {}
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies` by what the service asks for and what the cluster (`available`, the
/// default first) has.
pub(super) fn init_families(
    service: &mut Value,
    old: Option<&Value>,
    available: &[Family],
) -> Result<(), Vec<FieldError>> {
    let Some(default) = available.first().copied() else {
        return Ok(());
    };
    if type_of(service) == "ExternalName" {
        return Ok(());
    }
    let without_selector = service["spec"]["selector"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty);
    let headless = cluster_ip(service) == NONE;
    if !service["spec"]["ipFamilyPolicy"].is_string() {
        let before = old.map_or(&Value::Null, |old| &old["spec"]["ipFamilyPolicy"]);
        service["spec"]["ipFamilyPolicy"] = match before {
            Value::String(_) => before.clone(),
            _ if headless && without_selector => json!("RequireDualStack"),
            _ => json!("SingleStack"),
        };
    }
    let policy = service["spec"]["ipFamilyPolicy"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    check_cluster_ips(service)?;
    let errors = infer_families(service, available, &policy);
    if !errors.is_empty() {
        return Err(errors);
    }
    let spec = FieldPath::new("spec");
    let mut wanted = families(service);
    if headless && without_selector {
        // Nothing is allocated, so any version will do, whatever the cluster has.
        if wanted.is_empty() {
            wanted.push(default);
        }
        if wanted.len() == 1 && policy != "SingleStack" {
            wanted.push(wanted[0].other());
        }
        set_families(service, &wanted);
        return Ok(());
    }
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && available.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(
            &spec.child("ipFamilyPolicy"),
            policy.as_str(),
            why,
        ));
    }
    for (index, family) in wanted
        .iter()
        .enumerate()
        .filter(|(_, family)| !available.contains(family))
    {
        let at = spec.child("ipFamilies").index(index);
        errors.push(FieldError::invalid(
            &at,
            family.as_str(),
            "not configured on this cluster",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if wanted.is_empty() {
        wanted.push(default);
    }
    if policy != "SingleStack" && wanted.len() == 1 && available.len() == 2 {
        wanted.push(wanted[0].other());
    }
    set_families(service, &wanted);
    Ok(())
}

/// What is wrong with the addresses that the service names, before anything is made of them.
fn check_cluster_ips(service: &Value) -> Result<(), Vec<FieldError>> {
    let at = FieldPath::new("spec").child("clusterIPs");
    let (single, ips) = (cluster_ip(service), cluster_ips(service));
    let mut errors = Vec::new();
    match ips.first() {
        Some(_) if single.is_empty() => {
            errors.push(FieldError::invalid(
                &at,
                json!(ips),
                "must be empty when `clusterIP` is not specified",
            ));
        }
        Some(first) if first != single => {
            errors.push(FieldError::invalid(
                &at,
                json!(ips),
                "first value must match `clusterIP`",
            ));
        }
        _ => {}
    }
    let at_families = FieldPath::new("spec").child("ipFamilies");
    let named = texts(&service["spec"]["ipFamilies"]);
    for (index, family) in named.iter().enumerate() {
        let at = at_families.index(index);
        let known = ["IPv4", "IPv6"];
        if !known.contains(&family.as_str()) {
            errors.push(FieldError::not_supported(&at, family.as_str(), &known));
        }
        if named.iter().take(index).any(|earlier| earlier == family) {
            errors.push(FieldError::duplicate(&at, family.as_str()));
        }
    }
    for (index, ip) in ips.iter().enumerate().filter(|(_, ip)| *ip != NONE) {
        if ip.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&at.index(index), ip.as_str(), why));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Takes the IP versions from the addresses that are named.
fn infer_families(service: &mut Value, available: &[Family], policy: &str) -> Vec<FieldError> {
    let spec = FieldPath::new("spec");
    let (ips, mut wanted) = (cluster_ips(service), families(service));
    let mut errors = Vec::new();
    if policy == "SingleStack" {
        for (count, what) in [(ips.len(), "cluster IPs"), (wanted.len(), "IP families")] {
            if count == 2 {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(FieldError::invalid(&spec.child("ipFamilyPolicy"), policy, why));
            }
        }
    }
    for (index, ip) in ips.iter().enumerate().skip(wanted.len()) {
        let Ok(ip) = ip.parse() else { break };
        let family = Family::of(ip);
        if available.contains(&family) {
            wanted.push(family);
        } else {
            let why = format!("{} is not configured on this cluster", family.as_str());
            errors.push(FieldError::invalid(
                &spec.child("clusterIPs").index(index),
                json!(ips),
                why,
            ));
        }
    }
    if !wanted.is_empty() {
        set_families(service, &wanted);
    }
    errors
}

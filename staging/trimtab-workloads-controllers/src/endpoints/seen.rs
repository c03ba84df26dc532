//! What endpoints tell of a pod, read once for each of its states.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use trimtab_client_cache::Cached;

use crate::workload::pods::facts;

/// What endpoints tell of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    /// None once it has ended.
    pub(super) addresses: Vec<Box<str>>,
    pub(super) node: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) subdomain: Box<str>,
    pub(super) ready: bool,
    pub(super) deleting: bool,
    /// The ports that have names: name, protocol, number.
    pub(super) ports: Vec<(Box<str>, Box<str>, i32)>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    ip: Box<str>,
}

/// What endpoints tell of the pod in this state.
pub(super) fn seen(pod: &Cached<Pod>) -> Arc<Seen> {
    pod.derived(|pod| {
        let facts = facts(pod);
        let status: Status = pod.read(["status"]).ok().flatten().unwrap_or_default();
        let mut addresses: Vec<_> = status.pod_ips.into_iter().map(|address| address.ip).collect();
        if addresses.is_empty() {
            addresses.push(status.pod_ip);
        }
        addresses.retain(|address| !address.is_empty() && !facts.has_ended());
        let text = |field| pod.text(["spec", field]).unwrap_or_default().into();
        let containers =
            |field| -> Vec<Container> { pod.read(["spec", field]).ok().flatten().unwrap_or_default() };
        let ports = match addresses.is_empty() {
            true => Vec::new(),
            false => {
                let sidecars = containers("initContainers").into_iter();
                let sidecars =
                    sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
                named_ports(containers("containers").into_iter().chain(sidecars))
            }
        };
        Seen {
            namespace: pod.namespace().into(),
            name: facts.name.clone(),
            uid: facts.uid.clone(),
            addresses,
            node: facts.node.clone(),
            hostname: text("hostname"),
            subdomain: text("subdomain"),
            ready: facts.is_ready(),
            deleting: facts.deleting,
            ports,
        }
    })
}

fn named_ports(containers: impl Iterator<Item = Container>) -> Vec<(Box<str>, Box<str>, i32)> {
    let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
    let named = ports.filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some((port.name?.into(), protocol.into(), port.container_port))
    });
    named.collect()
}

impl Seen {
    /// The number of the pod's port to which a Service's leads; `None` if it has none of that name.
    pub(super) fn port(&self, port: &ServicePort) -> Option<i32> {
        match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                let found = self
                    .ports
                    .iter()
                    .find(|(n, p, _)| **n == **name && **p == *protocol);
                found.map(|(.., number)| *number)
            }
        }
    }

    /// The pod's name within the domain of a Service, if it has one there.
    pub(super) fn hostname_in(&self, service: &str) -> Option<String> {
        let has_one = !self.hostname.is_empty() && *self.subdomain == *service;
        has_one.then(|| self.hostname.to_string())
    }
}

//! The Endpoints of a Service: the older form, one object with all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::seen::Seen;
use super::slices::{HEADLESS, headless, target};

/// The label of what this controller makes.
pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// The annotation of Endpoints that do not have all.
pub(super) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses Endpoints have at most. kube-controller-manager's figure.
const MOST: usize = 1000;

/// Addresses that have the same ports: each with whether it is ready.
type Addresses = BTreeMap<(Box<str>, Box<str>), (EndpointAddress, bool)>;

/// What the Endpoints of a Service are to be.
pub(super) fn endpoints(service: &Service, pods: &[Arc<Seen>]) -> Endpoints {
    let meta = &service.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.extend(headless(service).then(|| (HEADLESS.to_owned(), String::new())));
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let annotation = || BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]);
    Endpoints {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: truncated.then(annotation),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn subsets(service: &Service, pods: &[Arc<Seen>]) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let anyhow = spec.publish_not_ready_addresses == Some(true);
    let primary = spec.ip_families.iter().flatten().next().map(String::as_str);
    let six =
        primary == Some("IPv6") || (primary.is_none() && spec.cluster_ip.iter().any(|ip| ip.contains(':')));
    // By port, the addresses that offer it; no port is one as well.
    let mut by_port: BTreeMap<(Option<String>, i32, String), (Option<EndpointPort>, Addresses)> =
        BTreeMap::new();
    for pod in pods.iter().filter(|pod| anyhow || !pod.deleting) {
        let fits = |address: &&Box<str>| address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == six);
        let Some(ip) = pod.addresses.iter().find(fits) else {
            continue;
        };
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: pod.hostname_in(service.metadata.name.as_deref().unwrap_or_default()),
            node_name: (!pod.node.is_empty()).then(|| pod.node.to_string()),
            target_ref: Some(target(pod)),
        };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let mut offered: Vec<Option<EndpointPort>> = ports
            .iter()
            .filter_map(|port| {
                Some(Some(EndpointPort {
                    name: port.name.clone(),
                    port: pod.port(port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                }))
            })
            .collect();
        if ports.is_empty() && spec.cluster_ip.as_deref() == Some("None") {
            offered.push(None);
        }
        for port in offered {
            let key = port.as_ref().map(|port| {
                (
                    port.name.clone(),
                    port.port,
                    port.protocol.clone().unwrap_or_default(),
                )
            });
            let at = by_port
                .entry(key.unwrap_or_default())
                .or_insert((port, Addresses::new()));
            at.1.insert(
                (ip.clone(), pod.uid.clone()),
                (address.clone(), anyhow || pod.ready),
            );
        }
    }
    // Ports that the same addresses offer are one subset.
    let mut subsets: Vec<(Addresses, Vec<EndpointPort>)> = Vec::new();
    for (port, addresses) in by_port.into_values() {
        match subsets.iter_mut().find(|(others, _)| *others == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => subsets.push((addresses, port.into_iter().collect())),
        }
    }
    let finished = subsets.into_iter().map(|(addresses, ports)| {
        let (ready, unready): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(_, ready)| *ready);
        let list = |addresses: Vec<(EndpointAddress, bool)>| {
            let list: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
            (!list.is_empty()).then_some(list)
        };
        EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(unready),
            ports: (!ports.is_empty()).then_some(ports),
        }
    });
    finished.collect()
}

/// Leaves as many addresses as there may be, those that are ready first. Whether something was left out.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let total: usize = subsets
        .iter()
        .map(|subset| count(&subset.addresses) + count(&subset.not_ready_addresses))
        .sum();
    if total <= MOST {
        return false;
    }
    let mut room = MOST;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            addresses.truncate(room);
            room -= addresses.len();
            if addresses.is_empty() {
                *list = None;
            }
        }
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets
        .iter_mut()
        .for_each(|subset| cut(&mut subset.not_ready_addresses));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    true
}

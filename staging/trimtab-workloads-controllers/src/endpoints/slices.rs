//! Which EndpointSlices a Service has: the decision, with as few changed slices as will do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use trimtab_client_coordination::events::Note;

use super::hints::{self, Allotted, Counts, Shares};
use super::seen::Seen;
use super::zones::Known;
use crate::workload::template;

/// How many endpoints a slice has at most. kube-controller-manager's figure.
pub(super) const MOST: usize = 100;
/// The label that says whose a slice is to keep.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What that label says of ours.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label with the Service's name.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// The label of Services without an address of their own.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What is to be done about the slices.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    /// What is merged, by the places of slices.
    pub(super) update: Vec<(usize, Value)>,
    pub(super) delete: Vec<usize>,
    /// Whether pods were left out whose nodes are not known.
    pub(super) homeless: bool,
    /// What became of hints by what nodes can do, if the Service asks for them.
    pub(super) allotted: Allotted,
    /// What is new about that.
    pub(super) notes: Vec<Note>,
}

/// A slice, as it is to be.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its place, if it is there.
    at: Option<usize>,
    ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether its endpoints are what they are there.
    pub(super) untouched: bool,
}

/// Decides, for all families of addresses. `zone` says in which zone a node is: `None` if there is no such node.
pub(super) fn decide(
    service: &Service,
    pods: &[Arc<Seen>],
    there: &[Arc<EndpointSlice>],
    zone: impl Fn(&str) -> Option<Option<String>>,
    known: &Known,
) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &service.spec else { return plan };
    let shares = hints::are_asked_for(service).then_some(&*known.shares);
    let nearby = spec.traffic_distribution.as_deref().filter(|_| shares.is_none());
    let families = families(spec);
    let blank = blank(service);
    for (at, slice) in there.iter().enumerate() {
        if !families.contains(&&*slice.address_type) {
            plan.delete.push(at);
        }
    }
    for family in families {
        let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.addresses.is_empty()) {
            let zone = zone(&pod.node);
            if zone.is_none() && spec.publish_not_ready_addresses != Some(true) {
                plan.homeless = true;
                continue;
            }
            let mut endpoint = endpoint(service, spec, pod, family, zone.flatten());
            endpoint.hints = near(&endpoint, nearby);
            if !endpoint.addresses.is_empty() {
                let ports = ports(spec, pod);
                let group = groups
                    .entry(json!(ports).to_string())
                    .or_insert((ports, Vec::new()));
                group.1.push(endpoint);
            }
        }
        let slices = Family {
            blank: &blank,
            family,
            there,
            shares,
        };
        let allotted = slices.decide(groups, true, &mut plan);
        plan.allotted.extend(allotted.map(|allotted| (family, allotted)));
    }
    plan.notes = hints::news(&known.before, &plan.allotted);
    plan
}

/// The slices of one family of addresses.
pub(super) struct Family<'a> {
    /// What all of them have: names, labels, whose they are.
    pub(super) blank: &'a ObjectMeta,
    pub(super) family: &'static str,
    pub(super) there: &'a [Arc<EndpointSlice>],
    /// What zones are to have, if there are to be hints by that.
    pub(super) shares: Option<&'a Shares>,
}

/// Endpoints by their ports, with the text that tells ports apart.
pub(super) type Groups = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

impl Family<'_> {
    /// Decides about the slices of the family; if there are no endpoints and there is `always` to be one, it says so. Returns what
    /// became of hints, if there are to be any.
    pub(super) fn decide(
        &self,
        groups: Groups,
        always: bool,
        plan: &mut Plan,
    ) -> Option<Result<Counts, String>> {
        let of_family = |at: &usize| self.there[*at].address_type == self.family;
        let places: Vec<usize> = (0..self.there.len()).filter(of_family).collect();
        let ports_of = |at: usize| json!(self.there[at].ports.clone().unwrap_or_default()).to_string();
        let mut spare: Vec<usize> = places
            .iter()
            .copied()
            .filter(|at| !groups.contains_key(&ports_of(*at)))
            .collect();
        let mut drafts = Vec::new();
        for (key, (ports, wanted)) in groups {
            let own = places.iter().copied().filter(|at| ports_of(*at) == key).collect();
            self.fill(own, ports, wanted, &mut drafts, &mut spare);
        }
        if always && drafts.is_empty() {
            match spare[..] {
                [only] if self.says_nothing(only) => spare.clear(),
                _ => drafts.push(Draft {
                    at: None,
                    ports: Vec::new(),
                    endpoints: Vec::new(),
                    untouched: false,
                }),
            }
        }
        let allotted = self.shares.map(|shares| hints::allot(&mut drafts, shares));
        let (there, new): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.at.is_some());
        // What is to go becomes what is to be made.
        for draft in there.into_iter().chain(new) {
            let at = draft.at;
            let slice = self.slice(draft.ports, draft.endpoints);
            match at.or_else(|| spare.pop()) {
                Some(at) => {
                    let patch = self.change(at, &slice);
                    if patch != json!({}) {
                        plan.update.push((at, patch));
                    }
                }
                None => plan.create.push(slice),
            }
        }
        plan.delete.append(&mut spare);
        allotted
    }

    /// Spreads endpoints of the same ports over slices: those that are there keep theirs, those that change anyway take new
    /// ones, and what is left goes into one that has room, or into new ones.
    fn fill(
        &self,
        own: Vec<usize>,
        ports: Vec<EndpointPort>,
        wanted: Vec<Endpoint>,
        drafts: &mut Vec<Draft>,
        spare: &mut Vec<usize>,
    ) {
        let mut wanted: BTreeMap<String, Endpoint> = wanted
            .into_iter()
            .map(|endpoint| (identity(&endpoint), endpoint))
            .collect();
        let mut changed: Vec<(usize, Vec<Endpoint>)> = Vec::new();
        let mut unchanged: Vec<(usize, Vec<Endpoint>)> = Vec::new();
        for at in own {
            let there = self.there[at].endpoints.as_deref().unwrap_or_default();
            let kept: Vec<_> = there
                .iter()
                .filter_map(|old| {
                    let mut new = wanted.remove(&identity(old))?;
                    if self.shares.is_some() {
                        new.hints.clone_from(&old.hints); // they depend on all the others, and are seen to later
                    }
                    Some(new)
                })
                .collect();
            if kept.is_empty() && !there.is_empty() {
                spare.push(at);
            } else if kept == there {
                unchanged.push((at, kept));
            } else {
                changed.push((at, kept));
            }
        }
        changed.sort_by_key(|(at, kept)| (std::cmp::Reverse(kept.len()), *at));
        let mut left: Vec<Endpoint> = wanted.into_values().collect();
        for (_, endpoints) in &mut changed {
            let room = MOST.saturating_sub(endpoints.len()).min(left.len());
            endpoints.extend(left.drain(..room));
        }
        let draft = |at, endpoints, untouched| Draft {
            at,
            ports: ports.clone(),
            endpoints,
            untouched,
        };
        while !left.is_empty() {
            let fullest = unchanged
                .iter()
                .enumerate()
                .filter(|(_, (_, endpoints))| left.len() + endpoints.len() <= MOST)
                .max_by_key(|(_, (_, endpoints))| endpoints.len())
                .map(|(index, _)| index);
            match fullest {
                Some(index) => {
                    let (at, mut endpoints) = unchanged.swap_remove(index);
                    endpoints.append(&mut left);
                    changed.push((at, endpoints));
                }
                None => {
                    let now = left.drain(..left.len().min(MOST)).collect();
                    drafts.push(draft(None, now, false));
                }
            }
        }
        drafts.extend(changed.into_iter().map(|(at, kept)| draft(Some(at), kept, false)));
        drafts.extend(
            unchanged
                .into_iter()
                .map(|(at, kept)| draft(Some(at), kept, true)),
        );
    }

    fn says_nothing(&self, at: usize) -> bool {
        self.change(at, &self.slice(Vec::new(), Vec::new())) == json!({})
    }

    /// What is merged into a slice so that it says what another does.
    fn change(&self, at: usize, wanted: &EndpointSlice) -> Value {
        let there = &self.there[at];
        let mut patch = json!({});
        let endpoints = wanted.endpoints.clone().unwrap_or_default();
        if there.endpoints.clone().unwrap_or_default() != endpoints {
            patch["endpoints"] = json!(endpoints);
        }
        let ports = wanted.ports.clone().unwrap_or_default();
        if there.ports.clone().unwrap_or_default() != ports {
            patch["ports"] = json!(ports);
        }
        let labels = changed_map(there.metadata.labels.as_ref(), wanted.metadata.labels.as_ref());
        if let Some(labels) = labels {
            patch["metadata"]["labels"] = labels;
        }
        let annotations = changed_map(
            there.metadata.annotations.as_ref(),
            wanted.metadata.annotations.as_ref(),
        );
        // Annotations of others stay, unless all are copies.
        if let Some(annotations) = annotations.filter(|_| wanted.metadata.annotations.is_some()) {
            patch["metadata"]["annotations"] = annotations;
        }
        patch
    }

    fn slice(&self, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: self.blank.clone(),
            address_type: self.family.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports),
        }
    }
}

/// What all slices of a Service have.
fn blank(service: &Service) -> ObjectMeta {
    let meta = &service.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let reserved = [SERVICE, MANAGED_BY, HEADLESS];
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.retain(|label, _| !reserved.contains(&label.as_str()));
    labels.extend(headless(service).then(|| (HEADLESS.to_owned(), String::new())));
    labels.insert(SERVICE.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        owner_references: template::owner_of(service).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// What tells endpoints apart: the pod and its addresses.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.as_deref());
    format!("{} {}", endpoint.addresses.join(","), uid.unwrap_or_default())
}

/// Whether a Service has no address of its own.
pub(super) fn headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    matches!(ip, None | Some("" | "None"))
}

/// The families of addresses that a Service has.
fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let families = spec.ip_families.iter().flatten();
    let named: Vec<_> = families
        .filter_map(|family| match &**family {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => vec!["IPv4", "IPv6"],
        Some(ip) if ip.contains(':') => vec!["IPv6"],
        Some(_) => vec!["IPv4"],
    }
}

fn ports(spec: &ServiceSpec, pod: &Seen) -> Vec<EndpointPort> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(pod.port(port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports
}

fn endpoint(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Seen,
    family: &str,
    zone: Option<String>,
) -> Endpoint {
    let of_family = |address: &str| {
        let parsed = address.parse::<IpAddr>();
        parsed.is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"))
    };
    let ready = spec.publish_not_ready_addresses == Some(true) || (pod.ready && !pod.deleting);
    let node = (!pod.node.is_empty()).then(|| pod.node.to_string());
    Endpoint {
        addresses: pod
            .addresses
            .iter()
            .filter(|address| of_family(address))
            .map(ToString::to_string)
            .collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(pod.ready),
            terminating: Some(pod.deleting),
        }),
        hostname: pod.hostname_in(service.metadata.name.as_deref().unwrap_or_default()),
        node_name: node,
        zone,
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    }
}

/// The hints of an endpoint where traffic is to stay nearby; `how` is what the Service says of its distribution.
fn near(endpoint: &Endpoint, how: Option<&str>) -> Option<EndpointHints> {
    let is_ready = hints::is_ready(endpoint);
    let close = matches!(how, Some("PreferClose" | "PreferSameZone" | "PreferSameNode"));
    let zone = endpoint.zone.clone().filter(|_| is_ready && close);
    let same_node = is_ready && how == Some("PreferSameNode");
    let node = endpoint.node_name.clone().filter(|_| same_node);
    (zone.is_some() || node.is_some()).then(|| EndpointHints {
        for_zones: zone.map(|name| vec![ForZone { name }]),
        for_nodes: node.map(|name| vec![ForNode { name }]),
    })
}

/// The pod behind an endpoint.
pub(super) fn target(pod: &Seen) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// The merge patch from one map of texts to another; `None` if they are equal.
pub(super) fn changed_map(
    there: Option<&BTreeMap<String, String>>,
    wanted: Option<&BTreeMap<String, String>>,
) -> Option<Value> {
    let mut patch = serde_json::Map::new();
    for (key, value) in wanted.into_iter().flatten() {
        if there.and_then(|there| there.get(key)) != Some(value) {
            patch.insert(key.clone(), json!(value));
        }
    }
    for key in there.into_iter().flat_map(BTreeMap::keys) {
        if wanted.is_none_or(|wanted| !wanted.contains_key(key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

//! What the names of a cluster mean: Services and endpoints in, answers to questions out. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::key_of;

/// For how many seconds an answer is good: `CoreDNS`'s figure where its configuration has none.
pub const TTL: u32 = 5;
/// The version of the specification.
const SPECIFICATION: &str = "1.1.0";
/// Which slices are a Service's.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// As `CoreDNS` gives them: of equal targets each is as good as the other.
const WEIGHTS: u16 = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
    Cname,
    Ptr,
    Txt,
    Soa,
    Ns,
    Any,
    Other,
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    Address(IpAddr),
    Srv { port: u16, weight: u16, target: String },
    Cname(String),
    Ptr(String),
    Txt(String),
    Soa,
    Ns(String),
}

/// A name and what it has.
pub(crate) type Record = (String, Data);

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What was asked for, and what goes with it. With nothing in it: the name exists, and has nothing of the kind.
    Found {
        answers: Vec<Record>,
        beside: Vec<Record>,
    },
    /// There is no such name.
    NoName,
    /// The name is not the cluster's.
    NotOurs,
}

/// All names of a cluster.
#[derive(Debug)]
pub(crate) struct Records {
    domain: String,
    services: HashMap<ObjectKey, Entry>,
    slices: HashMap<ObjectKey, Slice>,
    /// The slices of each Service.
    of_service: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// How many Services there are, by namespace.
    namespaces: BTreeMap<String, usize>,
    /// The names that addresses lead back to.
    reverse: HashMap<IpAddr, BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    addresses: Vec<IpAddr>,
    headless: bool,
    external: Option<String>,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: String,
    port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slice {
    service: ObjectKey,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    address: IpAddr,
    hostname: Option<String>,
}

impl Records {
    /// No names below `domain`, such as `cluster.local`.
    pub(crate) fn new(domain: &str) -> Self {
        Self {
            domain: domain.trim_matches('.').to_lowercase(),
            services: HashMap::new(),
            slices: HashMap::new(),
            of_service: HashMap::new(),
            namespaces: BTreeMap::new(),
            reverse: HashMap::new(),
        }
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    // === Changes ===

    pub(crate) fn set_service(&mut self, service: &Service) {
        let key = key_of(service);
        self.remove_service(&key);
        let spec = service.spec.clone().unwrap_or_default();
        let addresses = spec.cluster_ips.or_else(|| spec.cluster_ip.map(|one| vec![one]));
        let addresses = addresses.unwrap_or_default();
        let external = spec
            .external_name
            .filter(|_| spec.type_.as_deref() == Some("ExternalName"));
        let entry = Entry {
            headless: addresses.first().is_some_and(|one| one == "None"),
            addresses: addresses.iter().filter_map(|one| one.parse().ok()).collect(),
            external: external.map(|name| name.trim_end_matches('.').to_lowercase()),
            ports: spec
                .ports
                .iter()
                .flatten()
                .filter_map(|port| Port::of(port.name.as_deref(), port.protocol.as_deref(), Some(port.port)))
                .collect(),
        };
        for address in &entry.addresses {
            let names = self.reverse.entry(*address).or_default();
            names.insert(format!("{}.{}.svc.{}", key.name, key.namespace, self.domain));
        }
        *self.namespaces.entry(key.namespace.clone()).or_default() += 1;
        self.services.insert(key, entry);
    }

    pub(crate) fn remove_service(&mut self, key: &ObjectKey) {
        let Some(entry) = self.services.remove(key) else {
            return;
        };
        let name = format!("{}.{}.svc.{}", key.name, key.namespace, self.domain);
        for address in entry.addresses {
            self.forget(address, &name);
        }
        if let Some(count) = self.namespaces.get_mut(&key.namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&key.namespace);
            }
        }
    }

    pub(crate) fn set_slice(&mut self, slice: &EndpointSlice) {
        let key = key_of(slice);
        self.remove_slice(&key);
        let Some(service) = slice.labels().get(SERVICE_NAME) else {
            return;
        };
        let service = ObjectKey::namespaced(&key.namespace, service);
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        });
        let endpoints = ready.flat_map(|endpoint| {
            let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
            endpoint.addresses.iter().filter_map(move |address| {
                Some(Endpoint {
                    address: address.parse().ok()?,
                    hostname: hostname.as_ref().map(|name| name.to_lowercase()),
                })
            })
        });
        let ports = slice.ports.iter().flatten();
        let state = Slice {
            endpoints: endpoints.collect(),
            ports: ports
                .filter_map(|port| Port::of(port.name.as_deref(), port.protocol.as_deref(), port.port))
                .collect(),
            service: service.clone(),
        };
        for endpoint in state
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.hostname.is_some())
        {
            let name = self.name_of(endpoint, &service);
            self.reverse.entry(endpoint.address).or_default().insert(name);
        }
        self.of_service.entry(service).or_default().insert(key.clone());
        self.slices.insert(key, state);
    }

    pub(crate) fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(slice) = self.slices.remove(key) else {
            return;
        };
        for endpoint in slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.hostname.is_some())
        {
            let name = self.name_of(endpoint, &slice.service);
            self.forget(endpoint.address, &name);
        }
        if let Some(slices) = self.of_service.get_mut(&slice.service) {
            slices.remove(key);
            if slices.is_empty() {
                self.of_service.remove(&slice.service);
            }
        }
    }

    fn forget(&mut self, address: IpAddr, name: &str) {
        if let Some(names) = self.reverse.get_mut(&address) {
            names.remove(name);
            if names.is_empty() {
                self.reverse.remove(&address);
            }
        }
    }

    // === Answers ===

    /// The answer to a question for the name, which may end with a point, in any case.
    pub(crate) fn answer(&self, name: &str, kind: Kind) -> Answer {
        let name = name.trim_end_matches('.').to_lowercase();
        if let Some(address) = reversed(&name) {
            let names = self.reverse.get(&address).into_iter().flatten();
            let all: Vec<Data> = names.cloned().map(Data::Ptr).collect();
            // Not ours may still be somebody's.
            if all.is_empty() {
                return Answer::NoName;
            }
            return pick(&name, all, Vec::new(), kind);
        }
        let labels: Vec<&str> = match name.strip_suffix(&self.domain) {
            Some("") => Vec::new(),
            Some(rest) if rest.ends_with('.') => rest.trim_end_matches('.').split('.').rev().collect(),
            _ => return Answer::NotOurs,
        };
        let found = match labels[..] {
            [] => Some(vec![Data::Soa, Data::Ns(self.ns())]),
            ["dns-version"] => Some(vec![Data::Txt(SPECIFICATION.to_owned())]),
            ["dns", "ns"] | ["ns"] | ["pod"] => Some(Vec::new()),
            ["svc"] => Some(Vec::new()),
            ["svc", namespace] | ["pod", namespace] => self.namespaces.contains_key(namespace).then(Vec::new),
            ["pod", namespace, address] => dashed(address)
                .filter(|_| self.namespaces.contains_key(namespace))
                .map(|address| vec![Data::Address(address)]),
            ["svc", namespace, service, ref rest @ ..] => {
                return self.of_service(&name, &ObjectKey::namespaced(namespace, service), rest, kind);
            }
            _ => None,
        };
        match found {
            Some(all) => pick(&name, all, Vec::new(), kind),
            None => Answer::NoName,
        }
    }

    /// Who says so.
    pub(crate) fn ns(&self) -> String {
        format!("ns.dns.{}", self.domain)
    }

    /// What is below a Service: nothing more, an endpoint, or a port.
    fn of_service(&self, name: &str, key: &ObjectKey, rest: &[&str], kind: Kind) -> Answer {
        let Some(service) = self.services.get(key) else {
            return Answer::NoName;
        };
        let whole = format!("{}.{}.svc.{}", key.name, key.namespace, self.domain);
        if let Some(external) = &service.external {
            return match rest {
                [] => pick(name, vec![Data::Cname(external.clone())], Vec::new(), kind),
                _ => Answer::NoName,
            };
        }
        let endpoints = || self.endpoints(key);
        match rest {
            [] => {
                let all: Vec<IpAddr> = if service.headless {
                    endpoints().map(|(_, endpoint)| endpoint.address).collect()
                } else {
                    service.addresses.clone()
                };
                // As with ports: whoever asks a Service without endpoints learns that there are none.
                if service.headless && all.is_empty() {
                    return Answer::NoName;
                }
                let addresses = all.into_iter().map(Data::Address);
                pick(name, distinct(addresses), Vec::new(), kind)
            }
            [protocol] if protocol.starts_with('_') => {
                let known = service.ports.iter().any(|port| port.has_protocol(protocol));
                if known {
                    pick(name, Vec::new(), Vec::new(), kind)
                } else {
                    Answer::NoName
                }
            }
            [hostname] => {
                let own =
                    endpoints().filter(|(_, endpoint)| service.headless && endpoint.label() == *hostname);
                let all: Vec<Data> = own.map(|(_, endpoint)| Data::Address(endpoint.address)).collect();
                if all.is_empty() {
                    return Answer::NoName;
                }
                pick(name, distinct(all), Vec::new(), kind)
            }
            [protocol, port] if port.starts_with('_') => {
                let is_it = |one: &Port| one.has_protocol(protocol) && port[1..] == one.name;
                if service.headless {
                    return self.targets(name, key, is_it, kind);
                }
                let all: Vec<Data> = service
                    .ports
                    .iter()
                    .filter(|one| is_it(one))
                    .map(|one| Data::Srv {
                        port: one.port,
                        weight: WEIGHTS,
                        target: whole.clone(),
                    })
                    .collect();
                if all.is_empty() {
                    return Answer::NoName;
                }
                let beside = service.addresses.iter();
                let beside = beside.map(|address| (whole.clone(), Data::Address(*address)));
                pick(name, all, beside.collect(), kind)
            }
            _ => Answer::NoName,
        }
    }

    /// A port of a headless Service: all its endpoints that have it.
    fn targets(&self, name: &str, key: &ObjectKey, is_it: impl Fn(&Port) -> bool, kind: Kind) -> Answer {
        let mut all = Vec::new();
        let mut beside = Vec::new();
        for (slice, endpoint) in self.endpoints(key) {
            for port in slice.ports.iter().filter(|port| is_it(port)) {
                let target = self.name_of(endpoint, key);
                beside.push((target.clone(), Data::Address(endpoint.address)));
                all.push(Data::Srv {
                    port: port.port,
                    weight: WEIGHTS,
                    target,
                });
            }
        }
        if all.is_empty() {
            return Answer::NoName;
        }
        beside.sort();
        beside.dedup();
        pick(name, distinct(all), beside, kind)
    }

    fn endpoints(&self, service: &ObjectKey) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let slices = self.of_service.get(service).into_iter().flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        slices.flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
    }

    fn name_of(&self, endpoint: &Endpoint, service: &ObjectKey) -> String {
        let ObjectKey { namespace, name } = service;
        format!("{}.{name}.{namespace}.svc.{}", endpoint.label(), self.domain)
    }
}

impl Port {
    /// Ports without a number or a name cannot be asked for.
    fn of(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<Self> {
        Some(Self {
            name: name.filter(|name| !name.is_empty())?.to_lowercase(),
            protocol: protocol.unwrap_or("TCP").to_lowercase(),
            port: u16::try_from(port?).ok()?,
        })
    }

    /// Whether the label is the protocol's: `_tcp`.
    fn has_protocol(&self, label: &str) -> bool {
        label
            .strip_prefix('_')
            .is_some_and(|protocol| protocol == self.protocol)
    }
}

impl Endpoint {
    /// Its host name, or its address with dashes.
    fn label(&self) -> String {
        match (&self.hostname, self.address) {
            (Some(hostname), _) => hostname.clone(),
            (None, IpAddr::V4(address)) => address.to_string().replace('.', "-"),
            (None, IpAddr::V6(address)) => address.to_string().replace(':', "-"),
        }
    }
}

/// Of all that the name has, what was asked for.
fn pick(name: &str, all: Vec<Data>, beside: Vec<Record>, kind: Kind) -> Answer {
    let wanted = |data: &Data| match (kind, data) {
        // Who asks for anything of a name that is only another's is told the other.
        (Kind::Any, _) | (_, Data::Cname(_)) => true,
        (Kind::A, Data::Address(address)) => address.is_ipv4(),
        (Kind::Aaaa, Data::Address(address)) => address.is_ipv6(),
        (Kind::Srv, Data::Srv { .. })
        | (Kind::Ptr, Data::Ptr(_))
        | (Kind::Txt, Data::Txt(_))
        | (Kind::Soa, Data::Soa)
        | (Kind::Ns, Data::Ns(_)) => true,
        _ => false,
    };
    let answers: Vec<Record> = all
        .into_iter()
        .filter(wanted)
        .map(|data| (name.to_owned(), data))
        .collect();
    Answer::Found {
        beside: if answers.is_empty() { Vec::new() } else { beside },
        answers,
    }
}

fn distinct(all: impl IntoIterator<Item = Data>) -> Vec<Data> {
    let all: BTreeSet<Data> = all.into_iter().collect();
    all.into_iter().collect()
}

fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6);
    v4.or_else(|_| v6()).ok()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` is of.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = labels.split('.').rev().collect();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let digits: String = labels.split('.').rev().collect();
    if digits.len() != 32 || labels.split('.').any(|label| label.len() != 1) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(number)))
}

#[cfg(test)]
mod tests;

//! What a pod wants of the node that it is given to. Pods that want the same share it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kube::ResourceExt;
use trimtab_apimachinery_meta::Quantity;

use super::terms::{Labels, NodeTerm, PodTerm, Selector, Toleration};

/// What a container is taken to need that does not say it, where nodes are compared by how full they are.
/// kube-scheduler's figures: a tenth of a processor and 200 MB.
const USUAL_CPU: i64 = 100;
const USUAL_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of what nodes have: thousandths of processors, bytes, and the rest by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Amounts {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) disk: i64,
    pub(crate) others: BTreeMap<String, i64>,
}

/// A port of the node's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    address: String,
    protocol: String,
    port: i32,
}

/// How pods that a selector means are to be spread over what nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spread {
    pub(crate) max_skew: i32,
    pub(crate) topology_key: String,
    pub(crate) selector: Option<Selector>,
    pub(crate) min_domains: usize,
    /// Rather not at all than otherwise.
    pub(crate) hard: bool,
    pub(crate) honour_affinity: bool,
    pub(crate) honour_taints: bool,
}

/// A claim that the pod mounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) name: String,
    /// It is made for this pod.
    pub(crate) ephemeral: bool,
}

/// All that counts when a pod is given to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wants {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) priority: i32,
    pub(crate) never_preempts: bool,
    pub(crate) requests: Amounts,
    /// Processor and memory, with what is usual for containers that do not say.
    pub(crate) usual: (i64, i64),
    pub(crate) ports: Vec<Port>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) node_labels: Labels,
    /// One of these must match, if there are any; `None` for a pod that demands nothing.
    pub(crate) node_terms: Option<Vec<NodeTerm>>,
    pub(crate) node_preferences: Vec<(i32, NodeTerm)>,
    pub(crate) near: Vec<PodTerm>,
    pub(crate) apart: Vec<PodTerm>,
    /// With their weights; negative ones ask to stay away.
    pub(crate) pod_preferences: Vec<(i32, PodTerm)>,
    pub(crate) spreads: Vec<Spread>,
    pub(crate) claims: Vec<Claim>,
}

impl Wants {
    pub(crate) fn of(pod: &Pod) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let labels = pod.labels().clone();
        let Some(spec) = &pod.spec else {
            return Self {
                namespace,
                labels,
                ..Self::default()
            };
        };
        let affinity = spec.affinity.clone().unwrap_or_default();
        let node = affinity.node_affinity.unwrap_or_default();
        let required = node.required_during_scheduling_ignored_during_execution;
        let preferred = node.preferred_during_scheduling_ignored_during_execution;
        let (near, apart) = (
            affinity.pod_affinity.unwrap_or_default(),
            affinity.pod_anti_affinity.unwrap_or_default(),
        );
        let term = |term: &_| PodTerm::of(term, &namespace);
        let likes = near.preferred_during_scheduling_ignored_during_execution;
        let dislikes = apart.preferred_during_scheduling_ignored_during_execution;
        let likes = likes
            .iter()
            .flatten()
            .map(|one| (one.weight, &one.pod_affinity_term));
        let dislikes = dislikes
            .iter()
            .flatten()
            .map(|one| (-one.weight, &one.pod_affinity_term));
        Self {
            priority: spec.priority.unwrap_or_default(),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: requests(pod, spec, Amounts::of),
            usual: usual(pod, spec),
            ports: ports(spec),
            tolerations: spec.tolerations.iter().flatten().map(Toleration::of).collect(),
            node_labels: spec.node_selector.clone().unwrap_or_default(),
            node_terms: required.map(|required| {
                let terms = required.node_selector_terms.iter();
                terms.filter_map(NodeTerm::of).collect()
            }),
            node_preferences: preferred
                .iter()
                .flatten()
                .filter_map(|one| Some((one.weight, NodeTerm::of(&one.preference)?)))
                .collect(),
            near: near
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .map(term)
                .collect(),
            apart: apart
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .map(term)
                .collect(),
            pod_preferences: likes
                .chain(dislikes)
                .map(|(weight, one)| (weight, term(one)))
                .collect(),
            spreads: spreads(spec, &labels),
            claims: claims(pod, spec),
            namespace,
            labels,
        }
    }

    /// Whether the node's labels are what the pod demands.
    pub(crate) fn accepts(&self, name: &str, labels: &Labels) -> bool {
        let selected = self
            .node_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        let terms = self.node_terms.as_ref();
        selected && terms.is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Whether it asks for no processor and no memory.
    pub(crate) fn asks_for_nothing(&self) -> bool {
        self.requests.cpu == 0 && self.requests.memory == 0
    }

    /// Whether its place says something of the places of others.
    pub(crate) fn has_affinity(&self) -> bool {
        !(self.near.is_empty() && self.apart.is_empty() && self.pod_preferences.is_empty())
    }
}

// === impl Amounts ===

impl Amounts {
    pub(crate) fn of(list: &BTreeMap<String, Text>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list {
            let Ok(quantity) = text.0.parse::<Quantity>() else {
                continue;
            };
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.disk = quantity.value(),
                "pods" => {}
                _ => drop(amounts.others.insert(name.clone(), quantity.value())),
            }
        }
        amounts
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.merge(more, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, less: &Self) {
        self.merge(less, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
    }

    /// At least as much.
    fn raise(&mut self, to: &Self) {
        self.merge(to, i64::max);
    }

    fn merge(&mut self, other: &Self, merge: impl Fn(i64, i64) -> i64) {
        self.cpu = merge(self.cpu, other.cpu);
        self.memory = merge(self.memory, other.memory);
        self.disk = merge(self.disk, other.disk);
        for (name, amount) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = merge(*own, *amount);
        }
    }
}

// === impl Port ===

impl Port {
    /// Whether both cannot be on one node. An address that is not said is all of them.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let all = |port: &Self| port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (all(self) || all(other) || self.address == other.address)
    }
}

/// What a pod asks for: its containers together, or those that run first if they need more; and what its runtime needs.
fn requests(pod: &Pod, spec: &PodSpec, of: impl Fn(&BTreeMap<String, Text>) -> Amounts) -> Amounts {
    let none = BTreeMap::new();
    let asked = |resources: Option<&ResourceRequirements>| {
        of(resources
            .and_then(|resources| resources.requests.as_ref())
            .unwrap_or(&none))
    };
    // A container that is being resized has what it was given, while that is more.
    let effective = |container: &Container| {
        let mut amounts = asked(container.resources.as_ref());
        let status = pod.status.as_ref();
        let statuses = status.and_then(|status| status.container_statuses.as_ref());
        let mut statuses = statuses.into_iter().flatten();
        if let Some(given) = statuses
            .find(|status| status.name == container.name)
            .and_then(|status| status.allocated_resources.as_ref())
        {
            amounts.raise(&of(given));
        }
        amounts
    };
    let mut sum = Amounts::default();
    for container in &spec.containers {
        sum.add(&effective(container));
    }
    let (mut beside, mut first) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needs = asked(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&needs);
            beside.add(&needs);
            first.raise(&beside);
        } else {
            needs.add(&beside);
            first.raise(&needs);
        }
    }
    sum.raise(&first);
    // What is asked for the pod as a whole counts instead.
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(whole) = whole {
        let amounts = of(whole);
        if whole.contains_key("cpu") {
            sum.cpu = amounts.cpu;
        }
        if whole.contains_key("memory") {
            sum.memory = amounts.memory;
        }
        for (name, amount) in amounts.others {
            sum.others.insert(name, amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Amounts::of(overhead));
    }
    sum.others.retain(|_, amount| *amount != 0);
    sum
}

fn usual(pod: &Pod, spec: &PodSpec) -> (i64, i64) {
    let amounts = requests(pod, spec, |list| {
        let mut amounts = Amounts::of(list);
        if !list.contains_key("cpu") {
            amounts.cpu = USUAL_CPU;
        }
        if !list.contains_key("memory") {
            amounts.memory = USUAL_MEMORY;
        }
        amounts
    });
    (amounts.cpu, amounts.memory)
}

fn ports(spec: &PodSpec) -> Vec<Port> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let or = |text: &Option<String>, usual: &str| {
                let text = text.clone().filter(|text| !text.is_empty());
                text.unwrap_or_else(|| usual.to_owned())
            };
            Some(Port {
                address: or(&port.host_ip, "0.0.0.0"),
                protocol: or(&port.protocol, "TCP"),
                port: number,
            })
        })
        .collect()
}

fn spreads(spec: &PodSpec, labels: &Labels) -> Vec<Spread> {
    let all = spec.topology_spread_constraints.iter().flatten();
    all.map(|one| {
        let keys = one.match_label_keys.iter().flatten();
        let own = keys.filter_map(|key| labels.get_key_value(key));
        let selector = Selector::of(one.label_selector.as_ref());
        Spread {
            max_skew: one.max_skew,
            topology_key: one.topology_key.clone(),
            selector: selector.map(|selector| selector.and(&Selector::of_labels(own))),
            min_domains: usize::try_from(one.min_domains.unwrap_or(1)).unwrap_or(1),
            hard: one.when_unsatisfiable != "ScheduleAnyway",
            honour_affinity: one.node_affinity_policy.as_deref() != Some("Ignore"),
            honour_taints: one.node_taints_policy.as_deref() == Some("Honor"),
        }
    })
    .collect()
}

fn claims(pod: &Pod, spec: &PodSpec) -> Vec<Claim> {
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(Claim {
                    name: claim.claim_name.clone(),
                    ephemeral: false,
                }),
                (None, Some(_)) => Some(Claim {
                    name: format!("{}-{}", pod.name_any(), volume.name),
                    ephemeral: true,
                }),
                (None, None) => None,
            },
        )
        .collect()
}

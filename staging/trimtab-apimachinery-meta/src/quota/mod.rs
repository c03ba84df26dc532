//! Resource quotas as rules: what an object uses, and which quotas count it.
//!
//! Who admits objects and who adds up what is there must agree on this; both ask here. Objects are JSON, as the API serves
//! them.

mod pods;
mod scopes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use scopes::terms;

use crate::{GroupResource, Quantity};

/// Amounts by the names that quotas have for them, as `pods` or `requests.cpu`.
pub type Amounts = BTreeMap<String, Quantity>;

/// Of claims for all devices of a class this many are counted, the most that there can be; as kube-apiserver.
const ALL_DEVICES: i64 = 32;
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// What of claims is counted, for each storage class too.
const CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const SERVICES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];

/// What is counted of the objects of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    kind: Kind,
    /// `count/pods`, `count/deployments.apps`.
    count: String,
    /// The name from before there were such names.
    alias: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Services,
    Claims,
    DeviceClaims,
    Others,
}

impl Counted {
    /// What is counted of a resource; `None` of those that quotas have nothing to do with: events.
    pub fn of(resource: &GroupResource) -> Option<Self> {
        let (group, plural) = (resource.group.as_str(), resource.resource.as_str());
        let (kind, alias) = match (group, plural) {
            ("" | "events.k8s.io", "events") => return None,
            ("", "pods") => (Kind::Pods, ""),
            ("", "services") => (Kind::Services, ""),
            ("", "persistentvolumeclaims") => (Kind::Claims, ""),
            ("resource.k8s.io", "resourceclaims") => (Kind::DeviceClaims, ""),
            ("", "configmaps") => (Kind::Others, "configmaps"),
            ("", "resourcequotas") => (Kind::Others, "resourcequotas"),
            ("", "replicationcontrollers") => (Kind::Others, "replicationcontrollers"),
            ("", "secrets") => (Kind::Others, "secrets"),
            _ => (Kind::Others, ""),
        };
        let dot = if group.is_empty() { "" } else { "." };
        Some(Self {
            kind,
            count: format!("count/{plural}{dot}{group}"),
            alias,
        })
    }

    /// Whether what a quota calls `name` is counted of objects of this resource.
    pub fn knows(&self, name: &str) -> bool {
        name == self.count
            || match self.kind {
                Kind::Pods => pods::knows(name),
                Kind::Services => SERVICES.contains(&name),
                Kind::Claims => CLAIMS.iter().any(|claim| {
                    name.strip_suffix(claim)
                        .is_some_and(|start| start.is_empty() || start.ends_with(STORAGE_CLASS))
                }),
                Kind::DeviceClaims => name.ends_with(DEVICES),
                Kind::Others => !self.alias.is_empty() && name == self.alias,
            }
    }

    /// What an object of this resource uses. `now`, in seconds since 1970, tells pods that should be gone by now from
    /// others: those use nothing but their place in the store.
    pub fn usage(&self, object: &Value, now: i64) -> Amounts {
        let mut usage = Amounts::from([(self.count.clone(), Quantity::whole(1))]);
        match self.kind {
            Kind::Pods => usage.extend(pods::usage(object, now)),
            Kind::Services => usage.extend(service(&object["spec"])),
            Kind::Claims => usage.extend(claim(object)),
            Kind::DeviceClaims => devices(&object["spec"], &mut usage),
            Kind::Others if self.alias.is_empty() => {}
            Kind::Others => {
                usage.insert(self.alias.to_owned(), Quantity::whole(1));
            }
        }
        usage
    }

    /// What an object has to say, and does not, for quotas that limit `names`: `must specify limits.cpu for: c`.
    pub fn missing<'a>(&self, object: &Value, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
        match self.kind {
            Kind::Pods => pods::missing(&object["spec"], names),
            _ => None,
        }
    }

    /// Whether a quota counts an object of this resource, by its scopes and by what it limits: `spec` is the quota's, `hard`
    /// what it limits.
    pub fn is_counted_by<'a>(
        &self,
        spec: &Value,
        hard: impl IntoIterator<Item = &'a str>,
        object: &Value,
    ) -> bool {
        hard.into_iter().any(|name| self.knows(name))
            && terms(spec).all(|term| self.is_in_scope(&term, object))
    }

    /// Whether an object of this resource is in the scope that a term of a scope selector is about. Objects that have no
    /// scopes are in none.
    pub fn is_in_scope(&self, term: &Value, object: &Value) -> bool {
        match self.kind {
            Kind::Pods => scopes::pod_matches(term, object),
            Kind::Claims => scopes::claim_matches(term, object),
            _ => false,
        }
    }

    /// Whether it is for pods.
    pub fn is_of_pods(&self) -> bool {
        self.kind == Kind::Pods
    }

    /// Whether an update of an object can change what it uses.
    pub fn may_change(&self) -> bool {
        self.kind != Kind::Others
    }
}

/// Reads amounts, as in `spec.hard`. What is no quantity is left out.
pub fn amounts(value: &Value) -> Amounts {
    let amount = |v: &Value| match v {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), amount(value)?)))
        .collect()
}

/// Amounts as the API writes them.
pub fn to_value(amounts: &Amounts) -> Value {
    let written = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
    Value::Object(written.collect())
}

/// Amounts as errors write them: `cpu=1,pods=3`.
pub fn describe(amounts: &Amounts) -> String {
    let written: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"))
        .collect();
    written.join(",")
}

/// Adds amounts to others.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.get(name).copied().unwrap_or_default() + *amount;
        sum.insert(name.clone(), total);
    }
}

/// What `after` has more of than `before`, and only that.
pub fn increase(after: &Amounts, before: &Amounts) -> Amounts {
    let mut more = Amounts::new();
    for (name, amount) in after {
        let difference = *amount - before.get(name).copied().unwrap_or_default();
        if !difference.is_zero() && !difference.is_negative() {
            more.insert(name.clone(), difference);
        }
    }
    more
}

/// Raises amounts to others that are larger.
fn raise(most: &mut Amounts, others: &Amounts) {
    for (name, amount) in others {
        let larger = most.get(name).is_none_or(|have| have < amount);
        if larger {
            most.insert(name.clone(), *amount);
        }
    }
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field].as_array().map_or(&[], Vec::as_slice)
}

fn service(spec: &Value) -> impl Iterator<Item = (String, Quantity)> {
    let ports = list(spec, "ports");
    let with_node_port = |port: &&Value| !matches!(port["nodePort"].as_i64(), None | Some(0));
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            (ports.iter().filter(with_node_port).count(), 1)
        }
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    let amount = |count: usize| Quantity::whole(i64::try_from(count).unwrap_or(i64::MAX));
    SERVICES
        .into_iter()
        .zip([1, node_ports, balancers])
        .map(move |(name, count)| (name.to_owned(), amount(count)))
}

/// A claim counts once, and once more for its storage class; so does the larger of what it asks for and what it has got.
fn claim(claim: &Value) -> Amounts {
    let class = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default();
    let asked = amounts(&claim["spec"]["resources"]["requests"]).remove("storage");
    let got = amounts(&claim["status"]["allocatedResources"]).remove("storage");
    // Parts of bytes are whole bytes.
    let whole = |amount: Quantity| {
        let rest = amount - Quantity::whole(amount.value());
        if rest.is_zero() {
            amount
        } else {
            Quantity::whole(amount.value())
        }
    };
    let storage = asked.map(|asked| whole(got.map_or(asked, |got| got.max(asked))));
    let mut usage = Amounts::new();
    for (name, amount) in CLAIMS.into_iter().zip([Some(Quantity::whole(1)), storage]) {
        let Some(amount) = amount else { continue };
        usage.insert(name.to_owned(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    }
    usage
}

/// The devices that a claim may get, by class; of alternatives the most of each class.
fn devices(spec: &Value, usage: &mut Amounts) {
    let wants = |request: &Value| {
        let class = request["deviceClassName"].as_str().unwrap_or_default();
        let count = match request["allocationMode"].as_str() {
            Some("ExactCount") => request["count"].as_i64().unwrap_or_default(),
            Some("All") => ALL_DEVICES,
            _ => 0,
        };
        Amounts::from([(format!("{class}{DEVICES}"), Quantity::whole(count))])
    };
    for request in list(&spec["devices"], "requests") {
        let alternatives = list(request, "firstAvailable");
        let mut most = Amounts::new();
        for alternative in alternatives {
            raise(&mut most, &wants(alternative));
        }
        if alternatives.is_empty() && request["exactly"].is_object() {
            most = wants(&request["exactly"]);
        }
        add(usage, &most);
    }
}

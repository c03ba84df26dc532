//! What pods use: their place, and what their containers ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Amounts, add, amounts, list, raise};
use crate::Quantity;

/// What is counted of every pod that is not over.
const NAMES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// Quotas that limit one of these demand that each container says it.
const DEMANDED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";

/// Resources of Kubernetes' own have no domain, or its.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn knows(name: &str) -> bool {
    let requested = name.strip_prefix(REQUESTS);
    NAMES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || requested.is_some_and(|name| {
            name.starts_with(HUGE_PAGES)
                || !is_native(name)
                || name.starts_with("deviceclass.resource.kubernetes.io/")
        })
}

/// What a pod uses; nothing when it is over, or should have been gone by `now`.
pub(super) fn usage(pod: &Value, now: i64) -> Amounts {
    if is_over(pod, now) {
        return Amounts::new();
    }
    counted(&total(pod, "requests"), &total(pod, "limits"))
}

fn is_over(pod: &Value, now: i64) -> bool {
    let metadata = &pod["metadata"];
    let gone_at = metadata["deletionTimestamp"]
        .as_str()
        .and_then(|at| at.parse::<jiff::Timestamp>().ok())
        .zip(metadata["deletionGracePeriodSeconds"].as_i64())
        .map(|(at, grace)| at.as_second().saturating_add(grace));
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
        || gone_at.is_some_and(|gone_at| now > gone_at)
}

/// Requests and limits under the names that quotas have for them.
fn counted(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), Quantity::whole(1))]);
    for (name, amount) in requests {
        let basic = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if basic || name.starts_with(HUGE_PAGES) {
            usage.insert(name.clone(), *amount);
        }
        let extended = !is_native(name) && !name.starts_with(REQUESTS);
        let of_devices = name.starts_with("deviceclass.resource.kubernetes.io/");
        if basic || name.starts_with(HUGE_PAGES) || extended || of_devices {
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

/// Resources that a pod may ask for as a whole.
fn is_for_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

fn asks_as_a_whole(spec: &Value, fields: &[&str]) -> bool {
    let asks = |field: &&str| {
        let of = spec["resources"][field].as_object();
        of.into_iter().flatten().any(|(name, _)| is_for_pods(name))
    };
    fields.iter().any(asks)
}

/// The requests or limits of a pod: of its containers together, or of those that run first if they need more; of the pod as
/// a whole where it says so; and what its runtime needs. Those that run have what they were given, while that is more.
fn total(pod: &Value, field: &str) -> Amounts {
    let spec = &pod["spec"];
    let infeasible = list(&pod["status"], "conditions")
        .iter()
        .find(|c| c["type"] == "PodResizePending")
        .is_some_and(|c| c["reason"] == "Infeasible");
    let effective = |container: &Value, statuses: &str| {
        let asked = amounts(&container["resources"][field]);
        let status = list(&pod["status"], statuses)
            .iter()
            .find(|status| status["name"] == container["name"]);
        let Some(status) = status.filter(|status| status["resources"].is_object()) else {
            return asked;
        };
        let mut given = if infeasible { Amounts::new() } else { asked };
        raise(&mut given, &amounts(&status["resources"][field]));
        if field == "requests" {
            raise(&mut given, &amounts(&status["allocatedResources"]));
        }
        given
    };
    let mut sum = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut sum, &effective(container, "containerStatuses"));
    }
    let (mut beside, mut first) = (Amounts::new(), Amounts::new());
    for container in list(spec, "initContainers") {
        if container["restartPolicy"] == "Always" {
            let needs = effective(container, "initContainerStatuses");
            add(&mut sum, &needs);
            add(&mut beside, &needs);
            raise(&mut first, &beside);
        } else {
            let mut needs = amounts(&container["resources"][field]);
            add(&mut needs, &beside);
            raise(&mut first, &needs);
        }
    }
    raise(&mut sum, &first);
    let whole = match field {
        "requests" => asks_as_a_whole(spec, &["requests"]),
        _ => asks_as_a_whole(spec, &["requests", "limits"]),
    };
    if whole {
        let of_pod = amounts(&spec["resources"][field]);
        sum.extend(of_pod.into_iter().filter(|(name, _)| is_for_pods(name)));
    }
    for (name, overhead) in amounts(&spec["overhead"]) {
        let have = sum.get(&name).copied().unwrap_or_default();
        if field == "requests" || !have.is_zero() {
            sum.insert(name, have + overhead);
        }
    }
    sum
}

/// Which of the containers do not say what quotas that limit `names` demand.
pub(super) fn missing<'a>(spec: &Value, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if asks_as_a_whole(spec, &["requests", "limits"]) {
        return None;
    }
    let demanded: BTreeSet<&str> = names.into_iter().filter(|name| DEMANDED.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in list(spec, "containers")
        .iter()
        .chain(list(spec, "initContainers"))
    {
        let resources = &container["resources"];
        let says = counted(&amounts(&resources["requests"]), &amounts(&resources["limits"]));
        for name in demanded.iter().filter(|name| !says.contains_key(**name)) {
            let container = container["name"].as_str().unwrap_or_default();
            missing.entry(name).or_default().insert(container);
        }
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

/// Whether a pod asks for no processor time and no memory at all.
pub(super) fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"]
        .as_str()
        .filter(|class| !class.is_empty())
    {
        return class == "BestEffort";
    }
    let spec = &pod["spec"];
    let asks = |resources: &Value| {
        let of = |field: &str| amounts(&resources[field]);
        let some = |name: &String, amount: &Quantity| {
            matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero() && !amount.is_negative()
        };
        ["requests", "limits"]
            .into_iter()
            .any(|field| of(field).iter().any(|(name, amount)| some(name, amount)))
    };
    if spec["resources"].is_object() {
        return !asks(&spec["resources"]);
    }
    let mut containers = list(spec, "containers")
        .iter()
        .chain(list(spec, "initContainers"));
    !containers.any(|container| asks(&container["resources"]))
}

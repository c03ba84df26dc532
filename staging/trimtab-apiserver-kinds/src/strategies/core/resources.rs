//! Amounts of resources: what each may be called, and that requests are within limits.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, Quantity, names};

use crate::strategies::checks::{invalid_for, is_empty};
use crate::strategies::fields::quantity;

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const COMPUTED: [&str; 8] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
];

fn huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a name without a prefix is known.
pub(super) fn standard(name: &str) -> bool {
    CONTAINER.contains(&name)
        || COUNTED.contains(&name)
        || COMPUTED.contains(&name)
        || huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// Whether more of a resource may be promised than there is.
pub(super) fn shared(name: &str) -> bool {
    native(name) && !huge_page(name)
}

fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn extended(name: &str) -> bool {
    !native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// What is wrong with the name of a resource, wherever it is.
pub(super) fn name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    let errors = invalid_for(names::qualified_name(name), &name.into(), at);
    if errors.is_empty() && !name.contains('/') && !standard(name) {
        let why = "must be a standard resource type or fully qualified";
        return vec![FieldError::invalid(at, name, why)];
    }
    errors
}

/// What is wrong with the name of a resource that containers use.
pub(in crate::strategies) fn container_name(resource: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = name(resource, at);
    if !resource.contains('/') {
        if !CONTAINER.contains(&resource) && !huge_page(resource) {
            let why = "must be a standard resource for containers";
            errors.push(FieldError::invalid(at, resource, why));
        }
    } else if !native(resource) && !extended(resource) {
        let why = "doesn't follow extended resource name standard";
        errors.push(FieldError::invalid(at, resource, why));
    }
    errors
}

/// What is wrong with the name of a resource that a pod as a whole uses.
pub(super) fn pod_name(resource: &str, at: &FieldPath) -> Vec<FieldError> {
    let errors = name(resource, at);
    if errors.is_empty() && !matches!(resource, "cpu" | "memory") && !huge_page(resource) {
        return vec![FieldError::not_supported(
            at,
            resource,
            &["cpu", "hugepages-", "memory"],
        )];
    }
    errors
}

/// An amount as it is written canonically.
fn canonical(value: &Value) -> String {
    quantity(value).map(|q| q.to_string()).unwrap_or_default()
}

/// What is wrong with an amount of a resource.
pub(super) fn amount(resource: &str, value: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let quantity = quantity(value).unwrap_or_default();
    if quantity.is_negative() {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(at, canonical(value), why));
    }
    if (COUNTED.contains(&resource) || extended(resource)) && quantity.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(at, canonical(value), "must be an integer"));
    }
    errors
}

fn pages(resource: &str, value: &Value, at: &FieldPath) -> Option<FieldError> {
    let size: Quantity = resource.strip_prefix("hugepages-")?.parse().unwrap_or_default();
    let size = if size.milli_value() % 1000 == 0 {
        size.value()
    } else {
        0
    };
    let amount = quantity(value).unwrap_or_default().value();
    if size > 0 && amount % size == 0 {
        return None;
    }
    let why = format!(
        "{} is not positive integer multiple of {resource}",
        canonical(value)
    );
    Some(FieldError::invalid(at, canonical(value), why))
}

/// The entries of an object.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What is wrong with requests and limits; `named` checks the names of resources.
pub(in crate::strategies) fn requirements(
    resources: &Value,
    at: &FieldPath,
    named: fn(&str, &FieldPath) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    for (list, at) in [(limits, at.child("limits")), (requests, at.child("requests"))] {
        for (resource, value) in entries(list) {
            let key = at.key(resource);
            errors.extend(named(resource, &key));
            errors.extend(amount(resource, value, &key));
            if std::ptr::eq(list, requests) {
                errors.extend(within(resource, value, limits.get(resource), &at));
            }
            errors.extend(pages(resource, value, &key));
        }
    }
    let any = |wanted: fn(&str) -> bool| {
        entries(limits)
            .chain(entries(requests))
            .any(|(name, _)| wanted(name))
    };
    if any(huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(at, "HugePages require cpu or memory"));
    }
    errors
}

/// That a request is not more than its limit, and the same where there is nothing to share.
fn within(resource: &str, request: &Value, limit: Option<&Value>, at: &FieldPath) -> Option<FieldError> {
    let shared = shared(resource);
    let Some(limit) = limit else {
        let limits = FieldPath::new(at.as_str().trim_end_matches("requests").to_owned() + "limits");
        let why = "Limit must be set for non overcommitable resources";
        return (!shared).then(|| FieldError::required(&limits, why));
    };
    let (wanted, most) = (quantity(request)?, quantity(limit)?);
    let why = match wanted.cmp(&most) {
        std::cmp::Ordering::Equal => return None,
        _ if !shared => "equal to",
        std::cmp::Ordering::Less => return None,
        std::cmp::Ordering::Greater => "less than or equal to",
    };
    let why = format!("must be {why} {resource} limit of {}", canonical(limit));
    Some(FieldError::invalid(at, canonical(request), why))
}

/// The quality of service of a pod, by its requests and limits.
pub(super) fn qos_class(spec: &Value) -> &'static str {
    let positive = |value: Option<&Value>| {
        value
            .and_then(quantity)
            .is_some_and(|q| !q.is_zero() && !q.is_negative())
    };
    let computing = ["cpu", "memory"];
    let whole = &spec["resources"];
    let lists = ["initContainers", "containers"];
    let all: Vec<&Value> = if is_empty(whole) {
        lists
            .iter()
            .flat_map(|list| spec[*list].as_array().into_iter().flatten())
            .map(|container| &container["resources"])
            .collect()
    } else {
        vec![whole]
    };
    let uses = |resources: &&Value, part: &str, name: &str| positive(resources[part].get(name));
    let any = |part: &str, name: &str| all.iter().any(|r| uses(r, part, name));
    if !computing
        .iter()
        .any(|name| any("limits", name) || any("requests", name))
    {
        return "BestEffort";
    }
    let sum = |part: &str, name: &str| -> i128 {
        all.iter()
            .filter_map(|r| quantity(r[part].get(name)?))
            .map(|q| i128::from(q.milli_value()))
            .sum()
    };
    let guaranteed = all
        .iter()
        .all(|r| computing.iter().all(|name| uses(r, "limits", name)))
        && computing
            .iter()
            .all(|name| !any("requests", name) || sum("requests", name) == sum("limits", name))
        && computing.iter().filter(|name| any("requests", name)).count() == 2;
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn requests_are_within_limits() {
        let cases: [(Value, &[&str]); 5] = [
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}), &[]),
            (
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2000m"}}),
                &["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"requests": {"nonsense": "-1"}}),
                &[
                    "r.requests[nonsense]: Invalid value: \"nonsense\": must be a standard resource type or fully qualified",
                    "r.requests[nonsense]: Invalid value: \"nonsense\": must be a standard resource for containers",
                    "r.requests[nonsense]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                &["r.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                &["r: Forbidden: HugePages require cpu or memory"],
            ),
        ];
        for (resources, expected) in cases {
            let errors = requirements(&resources, &FieldPath::new("r"), container_name);
            assert_eq!(told(&errors), expected, "{resources}");
        }
    }

    #[test]
    fn quality_of_service_follows_from_resources() {
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let cases = [
            (json!([{}]), "BestEffort"),
            (json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort"),
            (json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable"),
            (json!([{"resources": full}]), "Guaranteed"),
            (json!([{"resources": full}, {}]), "Burstable"),
        ];
        for (containers, expected) in cases {
            assert_eq!(
                qos_class(&json!({"containers": containers})),
                expected,
                "{containers}"
            );
        }
    }
}

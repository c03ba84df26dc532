//! Limit ranges: what a namespace's containers, pods and claims may ask for, and what they get when they ask for
//! nothing.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_meta::quota::{Amounts, add, amounts};

use super::{Reader, creates, forbidden};
use crate::registry::hooks::{Admission, Attributes};

/// Where the pod says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in requests and limits from a namespace's limit ranges, and refuses what is outside them.
#[derive(Debug)]
pub struct LimitRanger {
    reader: Arc<dyn Reader>,
}

impl LimitRanger {
    /// The plugin, which finds limit ranges by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }

    async fn limits(&self, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let ranges = self.reader.list("", "limitranges", namespace).await?;
        let limits = |range: &Value| range["spec"]["limits"].as_array().cloned().unwrap_or_default();
        Ok(ranges.iter().flat_map(limits).collect())
    }
}

#[async_trait]
impl Admission for LimitRanger {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, "", "pods") || creates(attributes, "", "persistentvolumeclaims")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if creates(attributes, "", "pods") {
            let limits = self.limits(&attributes.namespace).await?;
            fill_in(object, limits.iter().filter(|limit| limit["type"] == "Container"));
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let faults: Vec<String> = if creates(attributes, "", "pods") {
            let limits = self.limits(&attributes.namespace).await?;
            limits
                .iter()
                .flat_map(|limit| pod_faults(limit, object))
                .collect()
        } else if creates(attributes, "", "persistentvolumeclaims") {
            let limits = self.limits(&attributes.namespace).await?;
            limits
                .iter()
                .flat_map(|limit| claim_faults(limit, object))
                .collect()
        } else {
            Vec::new()
        };
        match faults.as_slice() {
            [] => Ok(()),
            [one] => Err(forbidden(attributes, Some(object), one)),
            many => Err(forbidden(
                attributes,
                Some(object),
                format!("[{}]", many.join(", ")),
            )),
        }
    }
}

/// Gives containers the default limits and requests that they lack, and notes that in an annotation.
fn fill_in<'a>(pod: &mut Value, limits: impl Iterator<Item = &'a Value>) {
    let (mut requests, mut bounds) = (Map::new(), Map::new());
    for limit in limits {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        bounds.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (list, noun) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &bounds, "limit")]
            {
                let mut have = container["resources"][field]
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                let missing: Vec<_> = defaults.iter().filter(|(k, _)| !have.contains_key(*k)).collect();
                if missing.is_empty() {
                    continue;
                }
                let names: Vec<_> = missing.iter().map(|(k, _)| k.as_str()).collect();
                notes.push(format!("{} {what} for {noun} {name}", names.join(", ")));
                have.extend(missing.into_iter().map(|(k, v)| (k.clone(), v.clone())));
                container["resources"][field] = Value::Object(have);
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = Value::from(note);
    }
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

/// What the pod as a whole asks for: its containers together, or its largest init container.
fn pod_total(pod: &Value, field: &str) -> Amounts {
    let of = |container: &Value| amounts(&container["resources"][field]);
    let with = |mut sum: Amounts, more: Amounts| {
        add(&mut sum, &more);
        sum
    };
    let sidecars = containers(pod, "initContainers").filter(|c| c["restartPolicy"] == "Always");
    let mut total = containers(pod, "containers")
        .chain(sidecars)
        .map(of)
        .fold(Amounts::new(), with);
    for init in containers(pod, "initContainers").filter(|c| c["restartPolicy"] != "Always") {
        for (resource, amount) in of(init) {
            let most = total.get(&resource).copied().unwrap_or_default().max(amount);
            total.insert(resource, most);
        }
    }
    total
}

fn pod_faults(limit: &Value, pod: &Value) -> Vec<String> {
    match limit["type"].as_str() {
        Some("Container") => containers(pod, "containers")
            .chain(containers(pod, "initContainers"))
            .flat_map(|container| {
                let resources = &container["resources"];
                faults(
                    limit,
                    &amounts(&resources["requests"]),
                    &amounts(&resources["limits"]),
                )
            })
            .collect(),
        Some("Pod") => faults(limit, &pod_total(pod, "requests"), &pod_total(pod, "limits")),
        _ => Vec::new(),
    }
}

/// Where requests and limits are outside of what `limit` allows.
fn faults(limit: &Value, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let of = limit["type"].as_str().unwrap_or_default();
    let mut faults = Vec::new();
    for (resource, least) in amounts(&limit["min"]) {
        let start = format!("minimum {resource} usage per {of} is {least}");
        match (requests.get(&resource), limits.get(&resource)) {
            (None, _) => faults.push(format!("{start}.  No request is specified")),
            (Some(request), _) if *request < least => {
                faults.push(format!("{start}, but request is {request}"))
            }
            (_, Some(bound)) if *bound < least => faults.push(format!("{start}, but limit is {bound}")),
            _ => {}
        }
    }
    for (resource, most) in amounts(&limit["max"]) {
        let start = format!("maximum {resource} usage per {of} is {most}");
        match (limits.get(&resource), requests.get(&resource)) {
            (None, _) => faults.push(format!("{start}.  No limit is specified")),
            (Some(bound), _) if *bound > most => faults.push(format!("{start}, but limit is {bound}")),
            (_, Some(request)) if *request > most => {
                faults.push(format!("{start}, but request is {request}"))
            }
            _ => {}
        }
    }
    for (resource, most) in amounts(&limit["maxLimitRequestRatio"]) {
        let start = format!("{resource} max limit to request ratio per {of} is {most}");
        let some = |amounts: &Amounts| amounts.get(&resource).copied().filter(|a| !a.is_zero());
        match (some(requests), some(limits)) {
            (None, _) => faults.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => faults.push(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(bound)) => {
                let ratio = bound.milli_value() as f64 / request.milli_value() as f64;
                if ratio * 1000.0 > most.milli_value() as f64 {
                    faults.push(format!("{start}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
    faults
}

fn claim_faults(limit: &Value, claim: &Value) -> Vec<String> {
    let of = "PersistentVolumeClaim";
    if limit["type"] != of {
        return Vec::new();
    }
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let mut faults = Vec::new();
    for (bound, word) in [("min", "minimum"), ("max", "maximum")] {
        for (resource, amount) in amounts(&limit[bound]) {
            let start = format!("{word} {resource} usage per {of} is {amount}");
            match requests.get(&resource) {
                None => faults.push(format!("{start}.  No request is specified")),
                Some(request)
                    if (bound == "min" && *request < amount) || (bound == "max" && *request > amount) =>
                {
                    faults.push(format!("{start}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

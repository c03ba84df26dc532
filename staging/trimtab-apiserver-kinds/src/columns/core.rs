//! Rows of the core group, pods and replication controllers apart.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Row;
use super::format::{
    NONE, UNSET, age, condition, containers, count, first_of, items, joined, labels, number, quantity, text,
    text_or,
};

/// Name and age: a ServiceAccount.
pub(super) fn plain(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), row.age()]
}

pub(super) fn namespace(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), text(&row.status["phase"]).into(), row.age()]
}

pub(super) fn config_map(row: Row<'_>) -> Vec<Value> {
    let entries = count(&row.object["data"]) + count(&row.object["binaryData"]);
    vec![row.name(), entries.into(), row.age()]
}

pub(super) fn secret(row: Row<'_>) -> Vec<Value> {
    let type_ = text(&row.object["type"]);
    vec![
        row.name(),
        type_.into(),
        count(&row.object["data"]).into(),
        row.age(),
    ]
}

pub(super) fn pod_template(row: Row<'_>) -> Vec<Value> {
    let template = &row.object["template"];
    let (names, images) = containers(&template["spec"]["containers"]);
    let labels = labels(&template["metadata"]["labels"]);
    vec![row.name(), names.into(), images.into(), labels.into()]
}

pub(super) fn component_status(row: Row<'_>) -> Vec<Value> {
    let conditions = items(&row.object["conditions"]);
    let Some(healthy) = conditions.iter().find(|c| text(&c["type"]) == "Healthy") else {
        return vec![row.name(), "Unknown".into(), "".into(), "".into()];
    };
    let status = if text(&healthy["status"]) == "True" {
        "Healthy"
    } else {
        "Unhealthy"
    };
    let told = |field: &str| Value::from(text(&healthy[field]));
    vec![row.name(), status.into(), told("message"), told("error")]
}

pub(super) fn service(row: Row<'_>) -> Vec<Value> {
    let port = |port: &Value| {
        let (number_, node) = (number(&port["port"]), number(&port["nodePort"]));
        let protocol = text(&port["protocol"]);
        if node > 0 {
            format!("{number_}:{node}/{protocol}")
        } else {
            format!("{number_}/{protocol}")
        }
    };
    let ports: Vec<String> = items(&row.spec["ports"]).iter().map(port).collect();
    let ports = if ports.is_empty() {
        NONE.to_owned()
    } else {
        ports.join(",")
    };
    vec![
        row.name(),
        text(&row.spec["type"]).into(),
        row.spec["clusterIPs"][0].as_str().unwrap_or(NONE).into(),
        external_ip(row).into(),
        ports.into(),
        row.age(),
        labels(&row.spec["selector"]).into(),
    ]
}

fn external_ip(row: Row<'_>) -> String {
    let mut addresses = joined(&row.spec["externalIPs"]);
    let nothing = match text(&row.spec["type"]) {
        "ClusterIP" | "NodePort" => NONE,
        "LoadBalancer" => {
            let balancer = ingress_points(row.status);
            let both = !balancer.is_empty() && !addresses.is_empty();
            addresses = [balancer, addresses].join(if both { "," } else { "" });
            "<pending>"
        }
        "ExternalName" => return text(&row.spec["externalName"]).to_owned(),
        _ => return "<unknown>".to_owned(),
    };
    if addresses.is_empty() {
        nothing.to_owned()
    } else {
        addresses
    }
}

/// Where a load balancer takes traffic in, sorted.
pub(super) fn ingress_points(status: &Value) -> String {
    let points: BTreeSet<&str> = items(&status["loadBalancer"]["ingress"])
        .iter()
        .map(|point| text_or(&point["ip"], text(&point["hostname"])))
        .filter(|point| !point.is_empty())
        .collect();
    points.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn endpoints(row: Row<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(&row.object["subsets"]) {
        let addresses = || items(&subset["addresses"]).iter().map(|a| text(&a["ip"]));
        let ports = items(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = number(&port["port"]);
            all.extend(addresses().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    let shown = if items(&row.object["subsets"]).is_empty() {
        NONE.to_owned()
    } else {
        first_of(&all, 3)
    };
    vec![row.name(), shown.into(), row.age()]
}

pub(super) fn node(row: Row<'_>) -> Vec<Value> {
    let mut status = match condition(row.object, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if row.spec["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let info = &row.status["nodeInfo"];
    let known = |field: &str| text_or(&info[field], "<unknown>").to_owned();
    let address = |type_: &str| {
        let addresses = items(&row.status["addresses"]);
        let found = addresses.iter().find(|a| text(&a["type"]) == type_);
        found.map_or(NONE, |a| text(&a["address"])).to_owned()
    };
    let mut kernel = known("kernelVersion");
    if !text(&info["architecture"]).is_empty() {
        kernel = format!("{kernel} ({})", text(&info["architecture"]));
    }
    vec![
        row.name(),
        status.into(),
        roles(&row.object["metadata"]["labels"]).into(),
        row.age(),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}

/// The roles that a node's labels give it.
fn roles(labels: &Value) -> String {
    let role = |(key, value)| match (str::strip_prefix(key, "node-role.kubernetes.io/"), value) {
        (Some(role), _) => role,
        (None, value) if key == "kubernetes.io/role" => text(value),
        _ => "",
    };
    let labels = labels.as_object().into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .map(|(key, value)| role((key.as_str(), value)))
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return NONE.to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

/// Access modes in their short forms, each once.
fn access_modes(modes: &Value) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let asked: Vec<&str> = items(modes).iter().map(text).collect();
    let shown = short.iter().filter(|(mode, _)| asked.contains(mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The name of the storage class; an annotation of old times comes first.
fn storage_class(row: Row<'_>) -> Value {
    let annotation = &row.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = annotation.as_str().unwrap_or(text(&row.spec["storageClassName"]));
    class.into()
}

fn phase(row: Row<'_>) -> Value {
    if row.object["metadata"]["deletionTimestamp"].is_null() {
        text(&row.status["phase"]).into()
    } else {
        "Terminating".into()
    }
}

fn or_unset(value: &Value) -> Value {
    value.as_str().unwrap_or(UNSET).into()
}

pub(super) fn persistent_volume(row: Row<'_>) -> Vec<Value> {
    let claim = &row.spec["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
    } else {
        String::new()
    };
    vec![
        row.name(),
        quantity(&row.spec["capacity"]["storage"]).into(),
        access_modes(&row.spec["accessModes"]).into(),
        text(&row.spec["persistentVolumeReclaimPolicy"]).into(),
        phase(row),
        claim.into(),
        storage_class(row),
        or_unset(&row.spec["volumeAttributesClassName"]),
        text(&row.status["reason"]).into(),
        row.age(),
        or_unset(&row.spec["volumeMode"]),
    ]
}

pub(super) fn persistent_volume_claim(row: Row<'_>) -> Vec<Value> {
    let volume = text(&row.spec["volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        let status = row.status;
        (
            quantity(&status["capacity"]["storage"]),
            access_modes(&status["accessModes"]),
        )
    };
    vec![
        row.name(),
        phase(row),
        volume.into(),
        capacity.into(),
        modes.into(),
        storage_class(row),
        or_unset(&row.spec["volumeAttributesClassName"]),
        row.age(),
        or_unset(&row.spec["volumeMode"]),
    ]
}

pub(super) fn resource_quota(row: Row<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = row.status["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by_key(|(name, _)| *name);
    for (name, limit) in hard {
        let used = quantity(&row.status["used"][name]);
        let shown = format!("{name}: {used}/{}", quantity(limit));
        if name.starts_with("limits.") {
            limits.push(shown);
        } else {
            requests.push(shown);
        }
    }
    vec![
        row.name(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        row.age(),
    ]
}

/// An event, of either API.
pub(super) fn event(row: Row<'_>) -> Vec<Value> {
    let event = row.object;
    // events.k8s.io has other names for the same fields.
    let either = |core: &str, other: &str| {
        let found = &event[core];
        if found.is_null() { &event[other] } else { found }
    };
    let since = |time: &Value| age(text(time), row.now);
    let first = match either("firstTimestamp", "deprecatedFirstTimestamp") {
        Value::Null => since(&event["eventTime"]),
        time => since(time),
    };
    let mut last = match either("lastTimestamp", "deprecatedLastTimestamp") {
        Value::Null => first.clone(),
        time => since(time),
    };
    let mut times = number(either("count", "deprecatedCount")).max(1);
    let series = &event["series"];
    if series.is_object() {
        last = since(&series["lastObservedTime"]);
        times = number(&series["count"]);
    }
    let about = either("involvedObject", "regarding");
    let kind = text(&about["kind"]).to_lowercase();
    let about_name = match text(&about["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        about_name.into(),
        text(&about["fieldPath"]).into(),
        source(event, either("source", "deprecatedSource")).into(),
        text(either("message", "note")).trim().into(),
        first.into(),
        times.into(),
        row.name(),
    ]
}

/// Who tells of an event.
fn source(event: &Value, source: &Value) -> String {
    let controller = [&event["reportingComponent"], &event["reportingController"]];
    let controller = controller.into_iter().map(text).find(|c| !c.is_empty());
    let component = text_or(&source["component"], controller.unwrap_or_default());
    let host = text_or(&source["host"], text(&event["reportingInstance"]));
    if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    }
}

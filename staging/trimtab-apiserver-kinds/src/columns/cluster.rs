//! Rows of the other groups: networking, access, storage, admission, priorities.

use serde_json::Value;

use super::core::ingress_points;
use super::format::{NONE, UNSET, count, first_of, items, joined, number, selector_or_none, text, text_or};
use super::{Row, human_duration};

/// How many of a list are shown.
const SHOWN: usize = 3;

fn shown_or_unset(list: &[String]) -> Value {
    match first_of(list, SHOWN) {
        empty if empty.is_empty() => UNSET.into(),
        shown => shown.into(),
    }
}

fn flag(value: &Value, otherwise: bool) -> Value {
    value.as_bool().unwrap_or(otherwise).into()
}

/// The name, marked when an annotation makes the class the default one.
fn class_name(row: Row<'_>, annotations: &[&str]) -> Value {
    let set = &row.object["metadata"]["annotations"];
    let is_default = annotations.iter().any(|a| text(&set[*a]) == "true");
    let name = text(&row.object["metadata"]["name"]);
    if is_default {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}

pub(super) fn ingress(row: Row<'_>) -> Vec<Value> {
    let rules = items(&row.spec["rules"]);
    let mut hosts: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == SHOWN;
        if !more && !text(&rule["host"]).is_empty() {
            hosts.push(text(&rule["host"]));
        }
    }
    let hosts = match (hosts.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (_, true) => format!("{} + {} more...", hosts.join(","), rules.len() - SHOWN),
        _ => hosts.join(","),
    };
    let ports = if items(&row.spec["tls"]).is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        row.name(),
        row.spec["ingressClassName"].as_str().unwrap_or(NONE).into(),
        hosts.into(),
        ingress_points(row.status).into(),
        ports.into(),
        row.age(),
    ]
}

pub(super) fn ingress_class(row: Row<'_>) -> Vec<Value> {
    let parameters = &row.spec["parameters"];
    let (kind, name) = (text(&parameters["kind"]), text(&parameters["name"]));
    let parameters = match (parameters.is_object(), parameters["apiGroup"].as_str()) {
        (false, _) => NONE.to_owned(),
        (_, None) => format!("{kind}/{name}"),
        (_, Some(group)) => format!("{kind}.{group}/{name}"),
    };
    vec![
        class_name(row, &["ingressclass.kubernetes.io/is-default-class"]),
        text(&row.spec["controller"]).into(),
        parameters.into(),
        row.age(),
    ]
}

pub(super) fn network_policy(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        selector_or_none(&row.spec["podSelector"]).into(),
        row.age(),
    ]
}

pub(super) fn service_cidr(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), joined(&row.spec["cidrs"]).into(), row.age()]
}

pub(super) fn ip_address(row: Row<'_>) -> Vec<Value> {
    let parent = &row.spec["parentRef"];
    let mut shown = NONE.to_owned();
    if parent.is_object() {
        shown = text(&parent["resource"]).to_lowercase();
        let group = text(&parent["group"]);
        if !group.is_empty() {
            shown = format!("{shown}.{}", group.to_lowercase());
        }
        for part in [&parent["namespace"], &parent["name"]] {
            if !text(part).is_empty() {
                shown = format!("{shown}/{}", text(part));
            }
        }
    }
    // Kubernetes computes an age too, for which it has no heading.
    vec![row.name(), shown.into(), row.age()]
}

pub(super) fn endpoint_slice(row: Row<'_>) -> Vec<Value> {
    let port = |port: &Value| match (&port["port"], &port["name"]) {
        (Value::Number(number), _) => number.to_string(),
        (_, Value::String(name)) => name.clone(),
        _ => "*".to_owned(),
    };
    let ports: Vec<String> = items(&row.object["ports"]).iter().map(port).collect();
    let addresses: Vec<String> = items(&row.object["endpoints"])
        .iter()
        .flat_map(|endpoint| items(&endpoint["addresses"]))
        .map(|address| text(address).to_owned())
        .collect();
    vec![
        row.name(),
        text(&row.object["addressType"]).into(),
        shown_or_unset(&ports),
        shown_or_unset(&addresses),
        row.age(),
    ]
}

pub(super) fn role_binding(row: Row<'_>) -> Vec<Value> {
    let role = &row.object["roleRef"];
    let subjects = |kind: &str| {
        let of_kind = items(&row.object["subjects"])
            .iter()
            .filter(|s| text(&s["kind"]) == kind);
        let names: Vec<String> = of_kind
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(&s["namespace"]), text(&s["name"])),
                _ => text(&s["name"]).to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        row.name(),
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        row.age(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) fn certificate_signing_request(row: Row<'_>) -> Vec<Value> {
    let conditions = items(&row.status["conditions"]);
    let is = |type_: &str| conditions.iter().any(|c| text(&c["type"]) == type_);
    let mut status = if is("Denied") {
        "Denied"
    } else if is("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if is("Failed") {
        status.push_str(",Failed");
    }
    if !text(&row.status["certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    let duration = row.spec["expirationSeconds"].as_i64();
    vec![
        row.name(),
        row.age(),
        text_or(&row.spec["signerName"], NONE).into(),
        text(&row.spec["username"]).into(),
        duration.map_or_else(|| NONE.to_owned(), human_duration).into(),
        status.into(),
    ]
}

pub(super) fn lease(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), text(&row.spec["holderIdentity"]).into(), row.age()]
}

pub(super) fn priority_class(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        number(&row.object["value"]).into(),
        flag(&row.object["globalDefault"], false),
        row.age(),
        text(&row.object["preemptionPolicy"]).into(),
    ]
}

pub(super) fn runtime_class(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), text(&row.object["handler"]).into(), row.age()]
}

pub(super) fn storage_class(row: Row<'_>) -> Vec<Value> {
    let annotations = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let class = row.object;
    vec![
        class_name(row, &annotations),
        text(&class["provisioner"]).into(),
        text_or(&class["reclaimPolicy"], "Delete").into(),
        text_or(&class["volumeBindingMode"], "Immediate").into(),
        flag(&class["allowVolumeExpansion"], false),
        row.age(),
    ]
}

pub(super) fn volume_attributes_class(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), text(&row.object["driverName"]).into(), row.age()]
}

pub(super) fn volume_attachment(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        text(&row.spec["attacher"]).into(),
        text(&row.spec["source"]["persistentVolumeName"]).into(),
        text(&row.spec["nodeName"]).into(),
        flag(&row.status["attached"], false),
        row.age(),
    ]
}

pub(super) fn csi_node(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), count(&row.spec["drivers"]).into(), row.age()]
}

pub(super) fn csi_driver(row: Row<'_>) -> Vec<Value> {
    let requests = &row.spec["tokenRequests"];
    let audiences: Vec<&str> = items(requests).iter().map(|t| text(&t["audience"])).collect();
    let tokens = if requests.is_array() {
        audiences.join(",")
    } else {
        UNSET.to_owned()
    };
    let modes = joined(&row.spec["volumeLifecycleModes"]);
    let modes = if modes.is_empty() { NONE.to_owned() } else { modes };
    vec![
        row.name(),
        flag(&row.spec["attachRequired"], true),
        flag(&row.spec["podInfoOnMount"], false),
        flag(&row.spec["storageCapacity"], false),
        tokens.into(),
        flag(&row.spec["requiresRepublish"], false),
        modes.into(),
        row.age(),
    ]
}

pub(super) fn api_service(row: Row<'_>) -> Vec<Value> {
    let service = &row.object["spec"]["service"];
    let service = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(&service["namespace"]), text(&service["name"]))
    };
    let mut conditions = items(&row.object["status"]["conditions"]).iter();
    let available = match conditions.find(|c| c["type"] == "Available") {
        None => "Unknown".to_owned(),
        Some(condition) => match (text(&condition["status"]), text(&condition["reason"])) {
            ("True", _) => "True".to_owned(),
            (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    };
    vec![row.name(), service.into(), available.into(), row.age()]
}

pub(super) fn webhooks(row: Row<'_>) -> Vec<Value> {
    vec![row.name(), count(&row.object["webhooks"]).into(), row.age()]
}

/// `counted` is the field of the expressions that a policy is there for.
pub(super) fn admission_policy(row: Row<'_>, counted: &str) -> Vec<Value> {
    let kind = &row.spec["paramKind"];
    let param = if kind.is_object() {
        format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"]))
    } else {
        UNSET.to_owned()
    };
    vec![
        row.name(),
        count(&row.spec[counted]).into(),
        param.into(),
        row.age(),
    ]
}

pub(super) fn admission_policy_binding(row: Row<'_>) -> Vec<Value> {
    let param = &row.spec["paramRef"];
    let name = match (text(&param["name"]), text(&param["namespace"])) {
        ("", _) if param["selector"].is_object() => selector_in_go(&param["selector"]),
        ("", _) => UNSET.to_owned(),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    };
    vec![
        row.name(),
        text(&row.spec["policyName"]).into(),
        name.into(),
        row.age(),
    ]
}

/// A label selector as the text that Go gives it.
fn selector_in_go(selector: &Value) -> String {
    let mut labels: Vec<_> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .collect();
    labels.sort_by_key(|(key, _)| *key);
    let labels: String = labels
        .iter()
        .map(|(key, value)| format!("{key}: {},", text(value)))
        .collect();
    let expressions: String = items(&selector["matchExpressions"])
        .iter()
        .map(|e| {
            let values: Vec<&str> = items(&e["values"]).iter().map(text).collect();
            let (key, operator, values) = (text(&e["key"]), text(&e["operator"]), values.join(" "));
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

pub(super) fn flow_schema(row: Row<'_>) -> Vec<Value> {
    let method = &row.spec["distinguisherMethod"];
    let method = if method.is_object() {
        text(&method["type"])
    } else {
        NONE
    };
    let dangling = super::format::condition(row.object, "Dangling").unwrap_or("?");
    vec![
        row.name(),
        text(&row.spec["priorityLevelConfiguration"]["name"]).into(),
        number(&row.spec["matchingPrecedence"]).into(),
        method.into(),
        row.age(),
        dangling.into(),
    ]
}

pub(super) fn priority_level(row: Row<'_>) -> Vec<Value> {
    let limited = &row.spec["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let of = |holder: &Value, field: &str| {
        if holder.is_object() {
            number(&holder[field]).into()
        } else {
            Value::from(NONE)
        }
    };
    vec![
        row.name(),
        text(&row.spec["type"]).into(),
        of(limited, "nominalConcurrencyShares"),
        of(queuing, "queues"),
        of(queuing, "handSize"),
        of(queuing, "queueLengthLimit"),
        row.age(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(cells: fn(Row<'_>) -> Vec<Value>, object: Value, expected: Value) {
        let cells = Value::from(cells(Row::of(&object, 0)));
        assert_eq!(cells, expected, "{object}");
    }

    #[test]
    fn rows_of_the_other_groups() {
        let meta =
            json!({"name": "x", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
        check(
            storage_class,
            json!({"metadata": meta, "provisioner": "p"}),
            json!(["x (default)", "p", "Delete", "Immediate", false, "<unknown>"]),
        );
        let failing = json!({"type": "Available", "status": "False", "reason": "MissingEndpoints"});
        for (spec, status, service, available) in [
            (
                json!({}),
                json!({"conditions": [{"type": "Available", "status": "True", "reason": "r"}]}),
                "Local",
                "True",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                json!({}),
                "n/s",
                "Unknown",
            ),
            (
                json!({}),
                json!({"conditions": [failing]}),
                "Local",
                "False (MissingEndpoints)",
            ),
        ] {
            check(
                api_service,
                json!({"metadata": meta, "spec": spec, "status": status}),
                json!(["x", service, available, "<unknown>"]),
            );
        }
        check(
            ingress,
            json!({"metadata": meta, "spec": {"rules": [{"host": "a"}, {"host": "b"}, {}, {"host": "c"},
                {"host": "d"}], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "2"}, {"hostname": "1"}]}}}),
            json!(["x", "<none>", "a,b,c + 2 more...", "1,2", "80, 443", "<unknown>"]),
        );
        check(
            endpoint_slice,
            json!({"metadata": meta, "addressType": "IPv4", "ports": [{"name": "", "port": 80}, {"name": "n"}],
                "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3", "4"]}]}),
            json!(["x", "IPv4", "80,n", "1,2,3 + 1 more...", "<unknown>"]),
        );
        check(
            role_binding,
            json!({"metadata": meta, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "User", "name": "u"},
                {"kind": "User", "name": "v"}]}),
            json!(["x", "Role/r", "<unknown>", "u, v", "", "n/s"]),
        );
        check(
            admission_policy_binding,
            json!({"metadata": meta, "spec": {"policyName": "p", "paramRef": {"selector":
                {"matchLabels": {"b": "2", "a": "1"}}}}}),
            json!([
                "x",
                "p",
                "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},\
                MatchExpressions:[]LabelSelectorRequirement{},}",
                "<unknown>"
            ]),
        );
    }
}

//! `Node`s, and `Endpoints`: where pods run and where they are reached.

use std::collections::HashSet;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::pod_spec::EFFECTS;
use super::words::{Rule, port_number};
use super::{addresses, resources};
use crate::strategies::checks::{default_text, int, invalid_for, is_empty, items, object, one_of, text};
use crate::strategies::fields::{each_mut, round_up_resources};
use crate::strategies::rules::Rules;

pub(super) const NODE: Rules = Rules {
    creator_says_status: true,
    default: |node| {
        one_range(object(node, "spec"));
        let status = object(node, "status");
        if status["allocatable"].is_null() && status["capacity"].is_object() {
            status["allocatable"] = status["capacity"].clone();
        }
        for list in ["capacity", "allocatable"] {
            if let Some(list) = status.get_mut(list) {
                round_up_resources(list);
            }
        }
    },
    validate: validate_node,
    validate_update: Some(validate_node_update),
    validate_status: validate_node_update,
    selectable: &["spec.unschedulable"],
    select: |node, field| {
        (field == "spec.unschedulable").then(|| (node["spec"]["unschedulable"] == true).to_string())
    },
    ..Rules::ORDINARY
};

pub(super) const ENDPOINTS: Rules = Rules {
    create_on_update: true,
    default: |endpoints| {
        for subset in each_mut(endpoints, "subsets") {
            each_mut(subset, "ports").for_each(|port| default_text(port, "protocol", "TCP"));
        }
    },
    validate: validate_endpoints,
    validate_update: Some(|new, old| {
        // What once was accepted may stay.
        if new["subsets"] == old["subsets"] {
            return Vec::new();
        }
        validate_endpoints(new)
    }),
    ..Rules::NO_STATUS
};

/// Who says only one range of addresses means it to be the first of all, and the one is the first of all.
fn one_range(spec: &mut Value) {
    let (one, all) = (text(&spec["podCIDR"]).to_owned(), items(&spec["podCIDRs"]));
    match all.first().map(|first| text(first).to_owned()) {
        Some(first) if one.is_empty() => spec["podCIDR"] = first.into(),
        Some(first) if first != one => spec["podCIDRs"] = json!([one]),
        None if !one.is_empty() => spec["podCIDRs"] = json!([one]),
        _ => {}
    }
}

/// Taints; `at` is where Kubernetes says that they are.
fn taints(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, taint) in items(&node["spec"]["taints"]).iter().enumerate() {
        let at = FieldPath::new("metadata").child("taints").index(i);
        let (key, value, effect) = (text(&taint["key"]), text(&taint["value"]), text(&taint["effect"]));
        errors.extend(invalid_for(
            names::qualified_name(key),
            &key.into(),
            &at.child("key"),
        ));
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at.child("value"), value, wrong.join(";")));
        }
        let path = at.child("effect");
        if effect.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            errors.extend(one_of(&taint["effect"], &EFFECTS, &path));
        }
        if !seen.insert((key, effect)) {
            // Kubernetes shows its own struct.
            let shown =
                json!({"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint["timeAdded"]});
            let mut twice = FieldError::duplicate(&at, shown);
            twice.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(twice);
        }
    }
    errors
}

fn amounts(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["capacity", "allocatable"] {
        for (name, value) in node["status"][list].as_object().into_iter().flatten() {
            let at = FieldPath::new("status").child(list).child(name);
            errors.extend(resources::amount(name, value, &at));
        }
    }
    errors
}

fn validate_node(node: &Value) -> Vec<FieldError> {
    let mut errors = taints(node);
    errors.extend(amounts(node));
    let (ranges, at) = (
        items(&node["spec"]["podCIDRs"]),
        FieldPath::new("spec").child("podCIDRs"),
    );
    for (i, range) in ranges.iter().enumerate() {
        errors.extend(addresses::range(text(range), &at.index(i)));
    }
    let sixes = ranges.iter().filter(|range| text(range).contains(':')).count();
    if ranges.len() > 2 || (ranges.len() == 2 && sixes != 1) {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&at, node["spec"]["podCIDRs"].clone(), why));
    }
    errors
}

fn validate_node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = validate_node(new);
    let mut seen = Vec::new();
    for (i, address) in items(&new["status"]["addresses"]).iter().enumerate() {
        if seen.contains(&address) {
            let at = FieldPath::new("status").child("addresses").index(i);
            errors.push(FieldError::duplicate(&at, address.clone()));
        }
        seen.push(address);
    }
    for (field, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let (now, was) = (&new["spec"][field], &old["spec"][field]);
        if !is_empty(was) && now != was {
            let why = format!("node updates may not change {shown} except from \"\" to valid");
            errors.push(FieldError::forbidden(&at.child(field), why));
        }
    }
    if new["spec"]["externalID"] != old["spec"]["externalID"] {
        errors.push(FieldError::forbidden(
            &at.child("externalID"),
            "may not be updated",
        ));
    }
    errors
}

fn validate_endpoints(endpoints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, subset) in items(&endpoints["subsets"]).iter().enumerate() {
        let at = FieldPath::new("subsets").index(i);
        if is_empty(&subset["addresses"]) && is_empty(&subset["notReadyAddresses"]) {
            let why = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(&at, why));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in items(&subset[list]).iter().enumerate() {
                errors.extend(validate_address(address, &at.child(list).index(j)));
            }
        }
        let ports = items(&subset["ports"]);
        for (j, port) in ports.iter().enumerate() {
            errors.extend(validate_port(port, ports.len() > 1, &at.child("ports").index(j)));
        }
    }
    errors
}

fn validate_address(address: &Value, at: &FieldPath) -> Vec<FieldError> {
    let ip = at.child("ip");
    let mut errors: Vec<FieldError> = addresses::ip(text(&address["ip"]), &ip).into_iter().collect();
    let rules: [(&str, Rule); 2] = [
        ("hostname", names::dns1123_label),
        ("nodeName", names::dns1123_subdomain),
    ];
    for (field, rule) in rules {
        let value = &address[field];
        // There is a pointer to the name of a node, so that an empty one is one.
        if !is_empty(value) || (field == "nodeName" && value.is_string()) {
            errors.extend(invalid_for(rule(text(value)), value, &at.child(field)));
        }
    }
    errors.extend(addresses::endpoint(&address["ip"], &ip));
    errors
}

fn validate_port(port: &Value, needs_name: bool, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = text(&port["name"]);
    if !name.is_empty() {
        errors.extend(invalid_for(
            names::dns1123_label(name),
            &name.into(),
            &at.child("name"),
        ));
    } else if needs_name {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    let number = int(&port["port"]);
    errors.extend(invalid_for(
        port_number(number),
        &number.into(),
        &at.child("port"),
    ));
    errors.extend(one_of(
        &port["protocol"],
        &["SCTP", "TCP", "UDP"],
        &at.child("protocol"),
    ));
    if let Some(protocol) = port["appProtocol"].as_str() {
        let wrong = names::qualified_name(protocol);
        errors.extend(invalid_for(wrong, &protocol.into(), &at.child("appProtocol")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn nodes_and_endpoints_are_checked() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let node = json!({"spec": {"taints": [taint, taint], "podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"]}});
        let expected = [
            "metadata.taints[1]: Duplicate value: {\"Effect\":\"NoSchedule\",\"Key\":\"a\",\"TimeAdded\":null,\"Value\":\"\"}: taints must be unique by key \
             and effect pair",
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one CIDR for each \
             IP family",
        ];
        assert_eq!(told(&validate_node(&node)), expected);
        let (new, old) = (json!({"spec": {}}), json!({"spec": {"providerID": "a"}}));
        let expected =
            ["spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"];
        assert_eq!(told(&validate_node_update(&new, &old)), expected);
        let mut endpoints =
            json!({"subsets": [{}, {"addresses": [{"ip": "0.0.0.0"}], "ports": [{"port": 80}]}]});
        (ENDPOINTS.default)(&mut endpoints);
        let expected = [
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[1].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
        ];
        assert_eq!(told(&validate_endpoints(&endpoints)), expected);
    }
}

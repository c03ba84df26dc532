//! EndpointSlices.

use std::net::IpAddr;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{default_to, immutable, int, invalid_for, items, items_mut, labels, one_of, text};
use super::rules::Rules;

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;
const MOST_TOPOLOGY_LABELS: usize = 16;

/// The rules of a kind of `discovery.k8s.io`.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    (kind == "EndpointSlice").then_some(Rules {
        generation: true,
        default: |slice| {
            // Go writes the ports even when there are none.
            if slice["ports"].is_null() {
                slice["ports"] = Value::Null;
            }
            for port in items_mut(slice, "ports") {
                default_to(port, "name", "");
                default_to(port, "protocol", "TCP");
            }
        },
        prepare_create: |_, slice| drop_topology(slice),
        prepare_update: |new, old| {
            let rest = |slice: &Value| {
                [&slice["endpoints"], &slice["ports"], &slice["addressType"]].map(Clone::clone)
            };
            if new["metadata"]["labels"] != old["metadata"]["labels"] && rest(new) == rest(old) {
                new["metadata"]["generation"] = (int(&old["metadata"]["generation"]) + 1).into();
            }
            if new["endpoints"] != old["endpoints"] {
                drop_topology(new);
            }
        },
        validate: |slice| {
            let mut errors = validate_ports(slice);
            errors.extend(validate_endpoints(slice));
            errors
        },
        validate_update: Some(|new, old| {
            let mut errors = validate_ports(new);
            // What older versions have accepted may stay.
            if new["endpoints"] != old["endpoints"] {
                errors.extend(validate_endpoints(new));
            }
            let at = FieldPath::new("addressType");
            errors.extend(immutable(&new["addressType"], &old["addressType"], &at));
            errors
        }),
        warnings,
        ..Rules::NO_STATUS
    })
}

/// v1 shows this field and does not let it be written.
fn drop_topology(slice: &mut Value) {
    for endpoint in items_mut(slice, "endpoints") {
        if let Some(endpoint) = endpoint.as_object_mut() {
            endpoint.remove("deprecatedTopology");
        }
    }
}

fn validate_ports(slice: &Value) -> Vec<FieldError> {
    let mut errors = match text(&slice["addressType"]) {
        "" => vec![FieldError::required(&FieldPath::new("addressType"), "")],
        _ => one_of(
            &slice["addressType"],
            &["FQDN", "IPv4", "IPv6"],
            &FieldPath::new("addressType"),
        ),
    };
    let (ports, at) = (items(&slice["ports"]), FieldPath::new("ports"));
    if ports.len() > MOST_PORTS {
        errors.push(FieldError::too_many(&at, ports.len(), MOST_PORTS));
        return errors;
    }
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        let name = &port["name"];
        if !text(name).is_empty() {
            errors.extend(invalid_for(
                names::dns1123_label(text(name)),
                name,
                &at.child("name"),
            ));
        }
        if ports
            .iter()
            .take(i)
            .any(|earlier| text(&earlier["name"]) == text(name))
        {
            errors.push(FieldError::duplicate(&at.child("name"), text(name)));
        }
        errors.extend(one_of(
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
            &at.child("protocol"),
        ));
        let protocol = &port["appProtocol"];
        if protocol.is_string() {
            let messages = names::qualified_name(text(protocol));
            errors.extend(invalid_for(messages, protocol, &at.child("appProtocol")));
        }
    }
    errors
}

fn validate_endpoints(slice: &Value) -> Vec<FieldError> {
    let (endpoints, at) = (items(&slice["endpoints"]), FieldPath::new("endpoints"));
    if endpoints.len() > MOST_ENDPOINTS {
        return vec![FieldError::too_many(&at, endpoints.len(), MOST_ENDPOINTS)];
    }
    let mut errors = Vec::new();
    for (i, endpoint) in endpoints.iter().enumerate() {
        errors.extend(validate_endpoint(
            endpoint,
            text(&slice["addressType"]),
            &at.index(i),
        ));
    }
    errors
}

fn validate_endpoint(endpoint: &Value, type_: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (addresses, addresses_at) = (items(&endpoint["addresses"]), at.child("addresses"));
    if addresses.is_empty() {
        errors.push(FieldError::required(
            &addresses_at,
            "must contain at least 1 address",
        ));
    } else if addresses.len() > MOST_ADDRESSES {
        errors.push(FieldError::too_many(
            &addresses_at,
            addresses.len(),
            MOST_ADDRESSES,
        ));
    }
    for (i, address) in addresses.iter().enumerate() {
        let each = addresses_at.index(i);
        match type_ {
            "IPv4" | "IPv6" => errors.extend(validate_ip(text(address), type_, &each, &addresses_at)),
            "FQDN" => errors.extend(validate_domain(text(address), &each)),
            _ => {}
        }
    }
    let node = &endpoint["nodeName"];
    if node.is_string() {
        errors.extend(invalid_for(
            names::dns1123_subdomain(text(node)),
            node,
            &at.child("nodeName"),
        ));
    }
    let (topology, topology_at) = (&endpoint["deprecatedTopology"], at.child("deprecatedTopology"));
    let count = topology.as_object().map_or(0, serde_json::Map::len);
    if count > MOST_TOPOLOGY_LABELS {
        errors.push(FieldError::too_many(&topology_at, count, MOST_TOPOLOGY_LABELS));
    }
    errors.extend(labels(topology, &topology_at));
    let host = &endpoint["hostname"];
    if host.is_string() {
        errors.extend(invalid_for(
            names::dns1123_label(text(host)),
            host,
            &at.child("hostname"),
        ));
    }
    errors.extend(validate_hints(&endpoint["hints"], &at.child("hints")));
    errors
}

fn validate_ip(address: &str, type_: &str, at: &FieldPath, list: &FieldPath) -> Vec<FieldError> {
    let Ok(ip) = address.parse::<IpAddr>() else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return vec![FieldError::invalid(at, address, why)];
    };
    let mut errors = Vec::new();
    if ip.is_ipv4() != (type_ == "IPv4") {
        errors.push(FieldError::invalid(
            list,
            address,
            format!("must be an {type_} address"),
        ));
    }
    let (link_local, group) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), matches!(ip.octets(), [224, 0, 0, _])),
        IpAddr::V6(ip) => (
            ip.is_unicast_link_local(),
            ip.segments().first().is_some_and(|s| s & 0xff0f == 0xff02),
        ),
    };
    let kinds = [
        (ip.is_unspecified(), format!("may not be unspecified ({address})")),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            group,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    let wrong = kinds.into_iter().filter(|(is, _)| *is);
    errors.extend(wrong.map(|(_, why)| FieldError::invalid(at, address, why)));
    errors
}

fn validate_domain(name: &str, at: &FieldPath) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::required(at, ""));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        return Some(FieldError::invalid(at, name, wrong.join(",")));
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        return Some(FieldError::invalid(at, name, why));
    }
    let too_long = name
        .split('.')
        .find(|label| !names::dns1123_label(label).is_empty());
    too_long.map(|label| FieldError::invalid(at, label, names::dns1123_label(label).join(",")))
}

fn validate_hints(hints: &Value, at: &FieldPath) -> Vec<FieldError> {
    type Rule = fn(&str) -> Vec<String>;
    let mut errors = Vec::new();
    let kinds: [(&str, Rule); 2] = [
        ("forZones", names::label_value),
        ("forNodes", names::dns1123_subdomain),
    ];
    for (field, rule) in kinds {
        let (list, at) = (items(&hints[field]), at.child(field));
        if list.len() > MOST_HINTS {
            errors.push(FieldError::too_many(&at, list.len(), MOST_HINTS));
            return errors;
        }
        for (i, hint) in list.iter().enumerate() {
            let (name, at) = (text(&hint["name"]), at.index(i).child("name"));
            if list.iter().take(i).any(|earlier| text(&earlier["name"]) == name) {
                errors.push(FieldError::duplicate(&at, name));
            }
            errors.extend(invalid_for(rule(name), &Value::from(name), &at));
        }
    }
    errors
}

/// Kubernetes warns of addresses that are not in their canonical form, unless its own controllers write them.
fn warnings(slice: &Value, old: Option<&Value>) -> Vec<String> {
    const CONTROLLERS: [&str; 2] = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    let mut warnings = Vec::new();
    if old.is_none() && text(&slice["addressType"]) == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let manager = text(&slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]);
    if CONTROLLERS.contains(&manager) {
        return warnings;
    }
    for (i, endpoint) in items(&slice["endpoints"]).iter().enumerate() {
        for (j, address) in items(&endpoint["addresses"]).iter().map(text).enumerate() {
            let at = FieldPath::new("endpoints").index(i).child("addresses").index(j);
            if let Ok(IpAddr::V6(ip)) = address.parse()
                && ip.to_string() != address
            {
                let canonical = ip.to_string();
                warnings.push(format!(
                    "{at}: IPv6 address {address:?} should be in RFC 5952 canonical format ({canonical:?})"
                ));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;
    use serde_json::json;

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let validate = rules("EndpointSlice").map(|r| r.validate);
        let cases: [(Value, &[&str]); 4] = [
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
                &[],
            ),
            (
                json!({"endpoints": [{"addresses": []}]}),
                &[
                    "addressType: Required value",
                    "endpoints[0].addresses: Required value: must contain at least 1 address",
                ],
            ),
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["x", "::1"]}]}),
                &[
                    "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                     2001:db8::ffff)",
                    "endpoints[0].addresses: Invalid value: \"::1\": must be an IPv4 address",
                    "endpoints[0].addresses[1]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, \
                     ::1/128)",
                ],
            ),
            (
                json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a"]}],
                    "ports": [{"name": "", "protocol": "TCP"}, {"name": "", "protocol": "X"}]}),
                &[
                    "ports[1].name: Duplicate value: \"\"",
                    "ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                    "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments \
                     separated by dots",
                ],
            ),
        ];
        for (slice, expected) in cases {
            let errors = validate.map(|validate| validate(&slice)).unwrap_or_default();
            assert_eq!(told(&errors), expected, "{slice}");
        }
    }
}

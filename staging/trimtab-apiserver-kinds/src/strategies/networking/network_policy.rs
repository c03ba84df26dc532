//! NetworkPolicies: which pods may talk to whom.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::addresses::{contains, range, validate_range};
use crate::strategies::checks::{
    default_to, int, invalid_for, is_empty, items, items_mut, label_selector, object, one_of, text,
};
use crate::strategies::core::words::{port_name, port_number};
use crate::strategies::rules::Rules;

pub(super) const NETWORK_POLICY: Rules = Rules {
    generation: true,
    default,
    validate: |policy| validate(policy, &Value::Null),
    validate_update: Some(validate),
    ..Rules::NO_STATUS
};

/// The directions: where rules are, and what the other side is called.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn default(policy: &mut Value) {
    let spec = object(policy, "spec");
    for (rules, _) in DIRECTIONS {
        for rule in items_mut(spec, rules) {
            for port in items_mut(rule, "ports") {
                default_to(port, "protocol", "TCP");
            }
        }
    }
    if is_empty(&spec["policyTypes"]) {
        spec["policyTypes"] = if is_empty(&spec["egress"]) {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

fn validate(policy: &Value, old: &Value) -> Vec<FieldError> {
    let (of, at) = (&policy["spec"], FieldPath::new("spec"));
    let known = ranges_of(&old["spec"]);
    let mut errors = label_selector(&of["podSelector"], &at.child("podSelector"));
    for (rules, peers) in DIRECTIONS {
        for (i, rule) in items(&of[rules]).iter().enumerate() {
            let at = at.child(rules).index(i);
            for (i, port) in items(&rule["ports"]).iter().enumerate() {
                errors.extend(validate_port(port, &at.child("ports").index(i)));
            }
            for (i, peer) in items(&rule[peers]).iter().enumerate() {
                errors.extend(validate_peer(peer, &known, &at.child(peers).index(i)));
            }
        }
    }
    let (types, at) = (items(&of["policyTypes"]), at.child("policyTypes"));
    if types.len() > DIRECTIONS.len() {
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&at, of["policyTypes"].clone(), why));
        return errors;
    }
    for (i, type_) in types.iter().enumerate() {
        errors.extend(one_of(type_, &["Ingress", "Egress"], &at.index(i)));
    }
    errors
}

/// The ranges that a policy has already; they may stay whatever they are.
fn ranges_of(spec: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for (rules, peers) in DIRECTIONS {
        for rule in items(&spec[rules]) {
            for peer in items(&rule[peers]) {
                found.push(text(&peer["ipBlock"]["cidr"]));
                found.extend(items(&peer["ipBlock"]["except"]).iter().map(text));
            }
        }
    }
    found
}

fn validate_port(port: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !port["protocol"].is_null() {
        errors.extend(one_of(
            &port["protocol"],
            &["TCP", "UDP", "SCTP"],
            &at.child("protocol"),
        ));
    }
    let (first, last) = (&port["port"], &port["endPort"]);
    let last_at = at.child("endPort");
    match first {
        Value::Null if last.is_null() => {}
        Value::Null => {
            let why = "may not be specified when `port` is not specified";
            errors.push(FieldError::invalid(&last_at, last.clone(), why));
        }
        Value::String(name) => {
            if !last.is_null() {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&last_at, last.clone(), why));
            }
            errors.extend(invalid_for(port_name(name), first, &at.child("port")));
        }
        _ => {
            errors.extend(invalid_for(port_number(int(first)), first, &at.child("port")));
            if !last.is_null() {
                if int(last) < int(first) {
                    let why = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(&last_at, first.clone(), why));
                }
                errors.extend(invalid_for(port_number(int(last)), last, &last_at));
            }
        }
    }
    errors
}

fn validate_peer(peer: &Value, known: &[&str], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if !peer[field].is_null() {
            count += 1;
            errors.extend(label_selector(&peer[field], &at.child(field)));
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        errors.extend(validate_block(block, known, &at.child("ipBlock")));
        if count > 0 {
            let why = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(at, why));
        }
    } else if count == 0 {
        errors.push(FieldError::required(at, "must specify a peer"));
    }
    errors
}

fn validate_block(block: &Value, known: &[&str], at: &FieldPath) -> Vec<FieldError> {
    let cidr = &block["cidr"];
    if text(cidr).is_empty() {
        return vec![FieldError::required(&at.child("cidr"), "")];
    }
    let is_new = |value: &Value| !known.contains(&text(value));
    let mut errors = Vec::new();
    if is_new(cidr) {
        errors.extend(validate_range(cidr, &at.child("cidr")));
    }
    let Some(outer) = range(text(cidr)) else {
        return errors;
    };
    for (i, except) in items(&block["except"]).iter().enumerate() {
        let at = at.child("except").index(i);
        if is_new(except) {
            errors.extend(validate_range(except, &at));
        }
        if let Some((ip, bits)) = range(text(except))
            && (!contains(outer, ip) || outer.1 >= bits)
        {
            let why = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(&at, except.clone(), why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let cases = [
            (json!({}), json!({"policyTypes": ["Ingress"]})),
            (
                json!({"egress": [{"ports": [{"port": 80}]}]}),
                json!({"egress": [{"ports": [{"port": 80, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}),
            ),
        ];
        for (given, expected) in cases {
            let mut policy = json!({"spec": given});
            default(&mut policy);
            assert_eq!(policy["spec"], expected);
        }
    }

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        let spec = json!({"ingress": [{"ports": [{"port": 80, "endPort": 79}, {"port": "a_b", "endPort": 1}],
            "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "x"]}, "podSelector": {}}]}],
            "policyTypes": ["In"]});
        let expected = [
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            "spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
            "spec.ingress[0].ports[1].port: Invalid value: \"a_b\": must contain only alpha-numeric characters (a-z, 0-9), \
             and hyphens (-)",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            "spec.ingress[0].from[1].ipBlock.except[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 \
             or 2001:db8::/64)",
            "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
            "spec.policyTypes[0]: Unsupported value: \"In\": supported values: \"Ingress\", \"Egress\"",
        ];
        assert_eq!(told(&validate(&json!({"spec": spec}), &Value::Null)), expected);
    }
}

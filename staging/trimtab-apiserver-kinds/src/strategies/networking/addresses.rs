//! Addresses and address ranges of services, and how ranges are written.

use std::net::IpAddr;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::checks::{immutable, invalid_for, items, text};
use crate::strategies::rules::Rules;

const INVALID_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const INVALID_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub(super) const IP_ADDRESS: Rules = Rules {
    // The name is the address, in its one form.
    name: |name| match name.parse::<IpAddr>() {
        Err(_) if is_padded(name) => vec!["must not have leading 0s".to_owned()],
        Err(_) => vec![INVALID_IP.to_owned()],
        Ok(ip) if ip.to_string() != name => vec![format!("must be in canonical form ({:?})", ip.to_string())],
        Ok(_) => Vec::new(),
    },
    validate: |address| parent(&address["spec"]["parentRef"]),
    validate_update: Some(|new, old| {
        let at = FieldPath::new("spec").child("parentRef");
        let mut errors = parent(&new["spec"]["parentRef"]);
        errors.extend(immutable(
            &new["spec"]["parentRef"],
            &old["spec"]["parentRef"],
            &at,
        ));
        errors
    }),
    ..Rules::NO_STATUS
};

/// Whether a text would be an address of four numbers without zeros in front of them.
fn is_padded(text: &str) -> bool {
    let bare = |part: &str| {
        let bare = part.trim_start_matches('0');
        if bare.is_empty() { "0" } else { bare }.to_owned()
    };
    let bare: Vec<String> = text.split('.').map(bare).collect();
    bare.join(".").parse::<std::net::Ipv4Addr>().is_ok()
}

pub(super) const SERVICE_CIDR: Rules = Rules {
    validate: validate_ranges,
    validate_update: Some(update_ranges),
    ..Rules::ORDINARY
};

/// A range of addresses: its address, and how many leading bits they share.
pub(super) fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    let most = if ip.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((ip, bits))
}

/// Whether an address is in a range.
pub(super) fn contains((network, bits): (IpAddr, u8), ip: IpAddr) -> bool {
    let bits = u32::from(bits);
    match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// A text that is a range.
pub(super) fn validate_range(value: &Value, at: &FieldPath) -> Option<FieldError> {
    range(text(value))
        .is_none()
        .then(|| FieldError::invalid(at, text(value), INVALID_RANGE))
}

fn parent(parent: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec").child("parentRef");
    if parent.is_null() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors = Vec::new();
    let group = &parent["group"];
    if !text(group).is_empty() {
        errors.extend(invalid_for(
            names::dns1123_subdomain(text(group)),
            group,
            &at.child("group"),
        ));
    }
    for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
        let value = &parent[field];
        if !text(value).is_empty() {
            errors.extend(invalid_for(
                names::path_segment(text(value)),
                value,
                &at.child(field),
            ));
        } else if required {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    errors
}

fn validate_ranges(cidr: &Value) -> Vec<FieldError> {
    let ranges = items(&cidr["spec"]["cidrs"]);
    let at = FieldPath::new("spec").child("cidrs");
    if ranges.is_empty() {
        return vec![FieldError::required(&at, "at least one CIDR required")];
    }
    if ranges.len() > 2 {
        let shown = json!({"CIDRs": ranges});
        return vec![FieldError::invalid(&at, shown, "may only hold up to 2 values")];
    }
    let mut errors = Vec::new();
    for (i, value) in ranges.iter().enumerate() {
        errors.extend(validate_range(value, &at.index(i)));
    }
    let families: Vec<Option<bool>> = ranges
        .iter()
        .map(|r| range(text(r)).map(|(ip, _)| ip.is_ipv4()))
        .collect();
    if let [Some(first), Some(second)] = families.as_slice()
        && first == second
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&at, cidr["spec"]["cidrs"].clone(), why));
    }
    errors
}

/// What is there stays; a range of the other family may be added.
fn update_ranges(new: &Value, old: &Value) -> Vec<FieldError> {
    const IMMUTABLE: &str = "field is immutable";
    let (ranges, were) = (items(&new["spec"]["cidrs"]), items(&old["spec"]["cidrs"]));
    let at = FieldPath::new("spec").child("cidrs");
    let grows = (were.len(), ranges.len()) == (1, 2);
    if ranges.len() != were.len() && !grows {
        return vec![FieldError::invalid(&at, new["spec"]["cidrs"].clone(), IMMUTABLE)];
    }
    let mut errors = Vec::new();
    for (i, (range, was)) in ranges.iter().zip(were).enumerate() {
        if range != was {
            errors.push(FieldError::invalid(&at.index(i), range.clone(), IMMUTABLE));
        }
    }
    if grows {
        errors.extend(validate_ranges(new));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn an_address_is_named_in_its_one_form() {
        for (name, expected) in [
            ("10.9.9.9", ""),
            ("::1", ""),
            ("010.9.9.9", "must not have leading 0s"),
            ("10.9.9.999", INVALID_IP),
            ("::01", "must be in canonical form (\"::1\")"),
        ] {
            assert_eq!((IP_ADDRESS.name)(name).join("; "), expected, "{name}");
        }
    }

    #[test]
    fn ranges_hold_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("2001:db8::/32", "2001:db8:1::", true),
            ("2001:db8::/32", "10.0.0.1", false),
        ];
        for (outer, ip, expected) in cases {
            let inside = range(outer)
                .zip(ip.parse().ok())
                .map(|(outer, ip)| contains(outer, ip));
            assert_eq!(inside, Some(expected), "{outer} {ip}");
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", ""] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn services_keep_their_ranges() {
        let cidr = |ranges: &[&str]| json!({"spec": {"cidrs": ranges}});
        let old = cidr(&["10.0.0.0/16"]);
        let cases: [(&[&str], &[&str]); 3] = [
            (&["10.0.0.0/16", "2001:db8::/64"], &[]),
            (
                &["10.1.0.0/16"],
                &["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"],
            ),
            (&[], &["spec.cidrs: Invalid value: []: field is immutable"]),
        ];
        for (ranges, expected) in cases {
            assert_eq!(told(&update_ranges(&cidr(ranges), &old)), expected, "{ranges:?}");
        }
    }
}

//! Addresses of hosts, and which of them may be those of endpoints.

use std::net::IpAddr;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use crate::strategies::checks::text;

/// An address of a host.
pub(super) fn ip(address: &str, at: &FieldPath) -> Option<FieldError> {
    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    let wrong = address.parse::<IpAddr>().is_err();
    wrong.then(|| FieldError::invalid(at, address, why))
}

/// A range of addresses.
pub(super) fn range(range: &str, at: &FieldPath) -> Option<FieldError> {
    let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let parsed = range
        .split_once('/')
        .and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
    let right = parsed.is_some_and(|(ip, bits)| bits <= if ip.is_ipv4() { 32 } else { 128 });
    (!right).then(|| FieldError::invalid(at, range, why))
}

/// An address to which traffic may be sent.
pub(super) fn endpoint(value: &Value, at: &FieldPath) -> Vec<FieldError> {
    let address = text(value);
    let Ok(ip) = address.parse::<IpAddr>() else {
        return vec![FieldError::invalid(at, address, "must be a valid IP address")];
    };
    let (local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut errors = Vec::new();
    if ip.is_unspecified() {
        let why = format!("may not be unspecified ({address})");
        errors.push(FieldError::invalid(at, address, why));
    }
    let ranges = [
        (ip.is_loopback(), "loopback range (127.0.0.0/8, ::1/128)"),
        (local, "link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ];
    for (_, range) in ranges.into_iter().filter(|(inside, _)| *inside) {
        errors.push(FieldError::invalid(
            at,
            address,
            format!("may not be in the {range}"),
        ));
    }
    errors
}

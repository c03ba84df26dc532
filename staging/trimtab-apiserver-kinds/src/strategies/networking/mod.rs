//! Kinds of `networking.k8s.io`.

mod addresses;
mod ingress;
mod network_policy;

use super::rules::Rules;

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "Ingress" => ingress::INGRESS,
        "IngressClass" => ingress::INGRESS_CLASS,
        "NetworkPolicy" => network_policy::NETWORK_POLICY,
        "IPAddress" => addresses::IP_ADDRESS,
        "ServiceCIDR" => addresses::SERVICE_CIDR,
        _ => return None,
    })
}

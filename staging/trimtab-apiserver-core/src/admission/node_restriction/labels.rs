//! Which labels of its node a kubelet may set: its own, and those of nobody in particular.

use std::collections::BTreeSet;

use serde_json::Value;

/// Labels that are for others to set.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes that kubelets set, and domains whose labels they may.
const KUBELET: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The labels that differ between two states of a node, and that its kubelet may not change; sorted.
pub(super) fn forbidden<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let labels = |node: &'a Value| node["metadata"]["labels"].as_object();
    let keys: BTreeSet<&str> = [labels(new), labels(old)]
        .into_iter()
        .flatten()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    let value = |node: &'a Value, key: &str| labels(node).and_then(|labels| labels.get(key));
    keys.into_iter()
        .filter(|key| value(new, key) != value(old, key) && !is_kubelets(key))
        .collect()
}

fn is_kubelets(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let is_below = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|start| start.is_empty() || start.ends_with('.'))
    };
    if is_below(RESTRICTED) {
        return false;
    }
    let of_kubernetes = is_below("kubernetes.io") || is_below("k8s.io");
    !of_kubernetes || KUBELET.contains(&label) || KUBELET_DOMAINS.into_iter().any(is_below)
}

//! Nodes, as those see them who ask where pods may run.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use trimtab_apimachinery_meta::placement;
use trimtab_client_cache::Cached;

/// What is looked at of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) name: Box<str>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
}

/// The node of a state, read when it is asked for first.
pub(crate) fn place_of(node: &Cached<Node>) -> Arc<Place> {
    node.derived(|node| Place {
        name: node.name().into(),
        labels: node
            .read(["metadata", "labels"])
            .ok()
            .flatten()
            .unwrap_or_default(),
        taints: node.read(["spec", "taints"]).ok().flatten().unwrap_or_default(),
    })
}

impl Place {
    /// Whether a pod may run here as far as it chooses its nodes itself: by name, labels and required affinity.
    pub(crate) fn is_chosen_by(&self, pod: &PodSpec) -> bool {
        let named = pod
            .node_name
            .as_deref()
            .is_none_or(|name| name.is_empty() || *name == *self.name);
        let mut labels = pod.node_selector.iter().flatten();
        let affinity = pod
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        named
            && labels.all(|(key, value)| self.labels.get(key) == Some(value))
            && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| self.fits(term)))
    }

    fn fits(&self, term: &NodeSelectorTerm) -> bool {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        let field = |key: &str| (key == "metadata.name").then_some(&*self.name);
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|wanted| holds(wanted, label(&wanted.key)))
            && fields.iter().all(|wanted| holds(wanted, field(&wanted.key)))
    }

    /// A taint of one of these effects that is not tolerated.
    pub(crate) fn repels(&self, tolerations: &[Toleration], effects: &[&str]) -> bool {
        let mut taints = self
            .taints
            .iter()
            .filter(|taint| effects.contains(&&*taint.effect));
        taints.any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    }
}

fn holds(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    placement::demand_holds(&wanted.operator, values, value)
}

/// Whether a toleration is for a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let toleration = placement::Toleration {
        key: toleration.key.as_deref().unwrap_or_default(),
        operator: toleration.operator.as_deref().unwrap_or_default(),
        value: toleration.value.as_deref().unwrap_or_default(),
        effect: toleration.effect.as_deref().unwrap_or_default(),
    };
    toleration.tolerates(&placement::Taint {
        key: &taint.key,
        value: taint.value.as_deref().unwrap_or_default(),
        effect: &taint.effect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_choose_nodes_and_taints_repel_pods() {
        let taints = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
        let place = Place {
            name: "n".into(),
            labels: [
                ("zone".to_owned(), "a".to_owned()),
                ("size".to_owned(), "5".to_owned()),
            ]
            .into(),
            taints: serde_json::from_value(taints).expect("taints"),
        };
        let term = |operator: &str, key: &str, values: &[&str]| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
        };
        let name = json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}]}}}});
        let cases = [
            (json!({"containers": []}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "a"}}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "b"}}), false),
            (json!({"containers": [], "nodeName": "m"}), false),
            (term("In", "zone", &["a", "b"]), true),
            (term("NotIn", "zone", &["a"]), false),
            (term("NotIn", "none", &["a"]), true),
            (term("Exists", "zone", &[]), true),
            (term("DoesNotExist", "zone", &[]), false),
            (term("Gt", "size", &["4"]), true),
            (term("Lt", "size", &["5"]), false),
            (name, false),
        ];
        for (pod, expected) in cases {
            let spec: PodSpec = serde_json::from_value(pod.clone()).expect("a pod");
            assert_eq!(place.is_chosen_by(&spec), expected, "{pod}");
        }
        let cases = [
            (json!([]), true),
            (json!([{"operator": "Exists"}]), false),
            (
                json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
                false,
            ),
            (
                json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]),
                true,
            ),
            (json!([{"key": "k", "value": "v"}]), false),
            (json!([{"key": "k", "operator": "Equal", "value": "w"}]), true),
        ];
        for (tolerations, expected) in cases {
            let list: Vec<Toleration> = serde_json::from_value(tolerations.clone()).expect("tolerations");
            assert_eq!(place.repels(&list, &["NoSchedule"]), expected, "{tolerations}");
        }
        assert!(!place.repels(&[], &["NoExecute"]));
    }
}

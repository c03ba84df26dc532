//! What pods demand of nodes and of each other, in a form that is matched often: selectors of labels, terms of node affinity,
//! tolerations, terms of pod affinity.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::{self as core, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use trimtab_apimachinery_meta::{LabelSelector, placement};

/// Labels of a node, a pod or a namespace.
pub(crate) type Labels = BTreeMap<String, String>;

/// A selector that can be told apart from others.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    text: String,
    selector: LabelSelector,
}

/// One demand on a node's labels, or on its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeRequirement {
    key: String,
    operator: String,
    values: Vec<String>,
    /// It is about the node's field of that name, of which there is one: `metadata.name`.
    field: bool,
}

/// Demands on a node, all of which must hold. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeTerm(Vec<NodeRequirement>);

/// What a taint says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

/// Which taints a pod does not mind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Toleration {
    key: String,
    operator: String,
    value: String,
    effect: String,
}

/// Other pods, by labels and namespace, and what of a node is shared with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodTerm {
    pub(crate) topology_key: String,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
    selector: Option<Selector>,
}

// === impl Selector ===

impl Selector {
    /// The selector of an object; `None` if there is none, or none that can be understood, and nothing is selected.
    pub(crate) fn of(selector: Option<&meta::LabelSelector>) -> Option<Self> {
        let object = serde_json::to_value(selector?).ok()?;
        let selector = LabelSelector::from_object(&object).ok()??;
        Some(Self::from(selector))
    }

    /// The selector of these labels; all of them at once.
    pub(crate) fn of_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let labels: serde_json::Map<String, serde_json::Value> = labels
            .into_iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let object = serde_json::json!({ "matchLabels": labels });
        let selector = LabelSelector::from_object(&object).ok().flatten();
        Self::from(selector.unwrap_or_default())
    }

    /// What both select.
    pub(crate) fn and(self, other: &Self) -> Self {
        if self.text.is_empty() {
            return other.clone();
        }
        if other.text.is_empty() {
            return self;
        }
        let text = format!("{},{}", self.text, other.text);
        LabelSelector::parse(&text).map_or(self, Self::from)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_empty()
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.selector.matches_with(|key| labels.get(key))
    }
}

impl From<LabelSelector> for Selector {
    fn from(selector: LabelSelector) -> Self {
        Self {
            text: selector.to_string(),
            selector,
        }
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

// === impl NodeTerm ===

impl NodeTerm {
    /// `None`: a term without demands, which no node meets.
    pub(crate) fn of(term: &core::NodeSelectorTerm) -> Option<Self> {
        let read = |field: bool| {
            move |requirement: &core::NodeSelectorRequirement| NodeRequirement {
                key: requirement.key.clone(),
                operator: requirement.operator.clone(),
                values: requirement.values.clone().unwrap_or_default(),
                field,
            }
        };
        let labels = term.match_expressions.iter().flatten().map(read(false));
        let fields = term.match_fields.iter().flatten().map(read(true));
        let all: Vec<_> = labels.chain(fields).collect();
        (!all.is_empty()).then_some(Self(all))
    }

    pub(crate) fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(name, labels))
    }
}

impl NodeRequirement {
    fn holds(&self, name: &str, labels: &Labels) -> bool {
        let found = match self.field {
            true => (self.key == "metadata.name").then_some(name),
            false => labels.get(&self.key).map(String::as_str),
        };
        placement::demand_holds(&self.operator, &self.values, found)
    }
}

// === impl Taint, Toleration ===

impl Taint {
    pub(crate) fn of(taint: &core::Taint) -> Self {
        Self {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint.effect.clone(),
        }
    }

    /// Whether it keeps pods away, rather than only asking them to stay away.
    pub(crate) fn is_hard(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }
}

impl Toleration {
    pub(crate) fn of(toleration: &core::Toleration) -> Self {
        Self {
            key: toleration.key.clone().unwrap_or_default(),
            operator: toleration.operator.clone().unwrap_or_default(),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration.effect.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        let toleration = placement::Toleration {
            key: &self.key,
            operator: &self.operator,
            value: &self.value,
            effect: &self.effect,
        };
        toleration.tolerates(&placement::Taint {
            key: &taint.key,
            value: &taint.value,
            effect: &taint.effect,
        })
    }

    /// Whether it may be about taints that only ask.
    pub(crate) fn is_about_preferences(&self) -> bool {
        matches!(self.effect.as_str(), "" | "PreferNoSchedule")
    }
}

// === impl PodTerm ===

impl PodTerm {
    pub(crate) fn of(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(own_namespace.to_owned());
        }
        Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: Selector::of(term.namespace_selector.as_ref()),
            selector: Selector::of(term.label_selector.as_ref()),
        }
    }

    /// Whether it means pods with these labels in this namespace, which has labels too.
    pub(crate) fn matches(
        &self,
        namespace: &str,
        namespace_labels: Option<&Labels>,
        labels: &Labels,
    ) -> bool {
        let selector = self.selector.as_ref();
        if !selector.is_some_and(|selector| selector.matches(labels)) {
            return false;
        }
        let none = Labels::new();
        let by_labels = self.namespace_selector.as_ref();
        self.namespaces.iter().any(|name| name == namespace)
            || by_labels.is_some_and(|selector| selector.matches(namespace_labels.unwrap_or(&none)))
    }
}

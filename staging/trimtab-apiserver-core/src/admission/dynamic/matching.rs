//! Which webhooks and policies a request concerns: pure functions of a rule, a selector and what is known of the request.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{GroupVersionKind, LabelSelector};
use trimtab_apiserver_kinds::resource::Resource;

use crate::registry::Resources;
use crate::registry::hooks::{Attributes, Operation};

/// Operations on resources, each list with `*` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) operations: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) resources: Vec<String>,
    /// `Namespaced`, `Cluster` or `*`.
    pub(crate) scope: String,
    /// The names that it is about; empty for any.
    pub(crate) names: Vec<String>,
}

// === impl Rule ===

impl Rule {
    /// Reads a rule as configurations have it.
    pub(crate) fn read(rule: &Value) -> Self {
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
            names: texts(rule, "resourceNames"),
        }
    }

    /// Reads a list of rules.
    pub(crate) fn read_all(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::read).collect()
    }
}

/// A list of texts in a field; empty if there is none.
pub(crate) fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value[field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A label selector in a field, or what is wrong with it.
pub(crate) fn selector(value: &Value, field: &str) -> Result<LabelSelector, String> {
    let read = LabelSelector::from_object(&value[field]);
    read.map(Option::unwrap_or_default)
        .map_err(|error| error.to_string())
}

/// Whether a `matchPolicy` asks for the same resource in other versions, too.
pub(crate) fn wants_equivalents(of: &Value) -> bool {
    of["matchPolicy"].as_str().unwrap_or("Equivalent") == "Equivalent"
}

/// Kinds of `admissionregistration.k8s.io` that no webhook is asked about, lest one that is broken keep itself from being
/// mended.
const GROUP: &str = "admissionregistration.k8s.io";
const EXEMPT: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether no webhook is asked about this request.
pub(crate) fn is_exempt(attributes: &Attributes) -> bool {
    attributes.resource.group == GROUP && EXEMPT.contains(&attributes.kind().kind.as_str())
}

/// Whether no policy looks at this request: it is for a policy, or what binds one.
pub(crate) fn is_exempt_from_policies(attributes: &Attributes) -> bool {
    let resource = &attributes.resource;
    resource.group == GROUP && resource.kind.contains("AdmissionPolicy")
}

/// As what a webhook or policy sees a request: the request's own resource, or the same one in another version.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) resource: Arc<Resource>,
    pub(crate) kind: GroupVersionKind,
}

impl Sight {
    /// The request as it is.
    pub(crate) fn own(attributes: &Attributes) -> Self {
        Self {
            resource: attributes.resource.clone(),
            kind: attributes.kind(),
        }
    }
}

/// How rules see the request, if they do; `equivalents` is whether they want it in another version than they name, too.
pub(crate) fn sight(
    rules: &[Rule],
    equivalents: bool,
    attributes: &Attributes,
    resources: &Resources,
) -> Option<Sight> {
    let matches = |rule: &Rule, resource: &Resource| rule_matches(rule, resource, attributes);
    let own = &attributes.resource;
    if rules.iter().any(|rule| matches(rule, own)) {
        return Some(Sight::own(attributes));
    }
    if !equivalents || !rules.iter().any(|rule| covers(rule, attributes)) {
        return None;
    }
    let others: Vec<&Arc<Resource>> = resources
        .iter()
        .filter(|other| is_equivalent(own, other, &attributes.subresource))
        .collect();
    for rule in rules {
        if let Some(&other) = others.iter().find(|other| matches(rule, other)) {
            let below = other.subresource(&attributes.subresource);
            return Some(Sight {
                resource: other.clone(),
                kind: below.map_or_else(|| other.gvk(), |below| below.gvk.clone()),
            });
        }
    }
    None
}

/// Whether a rule may be about the request, in whatever group and version: most are not. The versions of a resource have
/// one name.
fn covers(rule: &Rule, attributes: &Attributes) -> bool {
    let plural = &attributes.resource.plural;
    listed(&rule.operations, attributes.operation.as_str())
        && (rule.names.is_empty() || rule.names.contains(&attributes.name))
        && rule.resources.iter().any(|stated| {
            let (own, below) = stated.split_once('/').unwrap_or((stated, ""));
            (own == "*" || own == plural) && (below == "*" || below == attributes.subresource)
        })
}

/// Whether both are the same objects, in different versions.
fn is_equivalent(own: &Resource, other: &Resource, subresource: &str) -> bool {
    let same = (&own.group, &own.version, &own.plural) == (&other.group, &other.version, &other.plural);
    !same
        && own.storage == other.storage
        && own.custom == other.custom
        && (subresource.is_empty() || other.subresource(subresource).is_some())
}

fn listed(list: &[String], asked: &str) -> bool {
    list.iter().any(|item| item == "*" || item == asked)
}

/// Whether a rule covers the request as one for `resource`.
pub(crate) fn rule_matches(rule: &Rule, resource: &Resource, attributes: &Attributes) -> bool {
    covers(rule, attributes)
        && scope_matches(&rule.scope, resource, &attributes.namespace)
        && listed(&rule.groups, &resource.group)
        && listed(&rule.versions, &resource.version)
}

/// Namespaces belong to the cluster, though requests for them have one.
fn scope_matches(scope: &str, resource: &Resource, namespace: &str) -> bool {
    let of_cluster = is_namespaces(resource) || namespace.is_empty();
    match scope {
        "*" => true,
        "Namespaced" => !of_cluster,
        "Cluster" => of_cluster,
        _ => false,
    }
}

fn is_namespaces(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "namespaces"
}

/// Whose labels a namespace selector looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceLabels<'a> {
    /// Nobody's: the request is for something that is in no namespace.
    None,
    /// The request's own object's, which is a namespace.
    Object,
    /// Those of this namespace.
    Of(&'a str),
}

/// Whose labels a namespace selector looks at, for this request.
pub(crate) fn namespace_labels(attributes: &Attributes) -> NamespaceLabels<'_> {
    let of_namespaces = is_namespaces(&attributes.resource);
    let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
    if of_namespaces && attributes.subresource.is_empty() && writes {
        return NamespaceLabels::Object;
    }
    if attributes.namespace.is_empty() {
        return NamespaceLabels::None;
    }
    NamespaceLabels::Of(&attributes.namespace)
}

/// Whether an object selector selects the object as it shall be, or as it is.
pub(crate) fn objects_match(
    selector: &LabelSelector,
    attributes: &Attributes,
    object: Option<&Value>,
    old: Option<&Value>,
) -> bool {
    if selector.is_empty() {
        return true;
    }
    // The options of a connection have no labels, so nothing can be said of them.
    let labelled = attributes.operation != Operation::Connect;
    let selects = |object: &Value| labelled && selector.matches(&object["metadata"]["labels"]);
    object.is_some_and(selects) || old.is_some_and(selects)
}

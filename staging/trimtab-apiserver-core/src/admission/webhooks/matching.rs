//! Which webhooks a request concerns: pure functions of a rule, a selector and what is known of the request.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{GroupVersionKind, LabelSelector};
use trimtab_apiserver_kinds::resource::Resource;

use super::hook::{Hook, Rule};
use crate::registry::Resources;
use crate::registry::hooks::{Attributes, Operation};

/// Kinds of `admissionregistration.k8s.io` that no webhook is asked about, lest one that is broken keep itself from being
/// mended.
const EXEMPT: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether no webhook is asked about this request.
pub(super) fn is_exempt(attributes: &Attributes) -> bool {
    let kind = attributes.kind();
    kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&kind.kind.as_str())
}

/// As what a webhook is asked about a request: the request's own resource, or the same one in another version.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) resource: Arc<Resource>,
    pub(super) kind: GroupVersionKind,
}

/// How a webhook's rules see the request, if they do.
pub(super) fn sight(hook: &Hook, attributes: &Attributes, resources: &Resources) -> Option<Sight> {
    let matches = |rule: &Rule, resource: &Resource| rule_matches(rule, resource, attributes);
    let own = &attributes.resource;
    if hook.rules.iter().any(|rule| matches(rule, own)) {
        return Some(Sight {
            resource: own.clone(),
            kind: attributes.kind(),
        });
    }
    if !hook.equivalents {
        return None;
    }
    let others: Vec<&Arc<Resource>> = resources
        .iter()
        .filter(|other| is_equivalent(own, other, &attributes.subresource))
        .collect();
    for rule in &hook.rules {
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
pub(super) fn rule_matches(rule: &Rule, resource: &Resource, attributes: &Attributes) -> bool {
    scope_matches(&rule.scope, resource, &attributes.namespace)
        && listed(&rule.operations, attributes.operation.as_str())
        && listed(&rule.groups, &resource.group)
        && listed(&rule.versions, &resource.version)
        && rule.resources.iter().any(|stated| {
            let (own, below) = stated.split_once('/').unwrap_or((stated, ""));
            (own == "*" || own == resource.plural) && (below == "*" || below == attributes.subresource)
        })
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
pub(super) enum NamespaceLabels<'a> {
    /// Nobody's: the request is for something that is in no namespace.
    None,
    /// The request's own object's, which is a namespace.
    Object,
    /// Those of this namespace.
    Of(&'a str),
}

/// Whose labels a namespace selector looks at, for this request.
pub(super) fn namespace_labels(attributes: &Attributes) -> NamespaceLabels<'_> {
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
pub(super) fn objects_match(
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

//! The roles and bindings that every cluster starts with, as compact data.
//!
//! The user-facing roles `admin`, `edit` and `view` are aggregated: their rules are the union of the `aggregate-to`
//! roles. They are written with that union in place, so that they mean something before any controller runs.

use serde_json::{Value, json};

use super::rule::PolicyRule;

const READ: &str = "get list watch";
const CHANGE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

/// A rule: verbs, API groups (`core` for the empty one), resources; or verbs, `-`, paths.
type Rule = (&'static str, &'static str, &'static str);

/// Cluster roles with their rules.
const ROLES: &[(&str, &[Rule])] = &[
    ("cluster-admin", &[("*", "*", "*"), ("*", "-", "*")]),
    (
        "system:discovery",
        &[(
            "get",
            "-",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    (
        "system:public-info-viewer",
        &[("get", "-", "/healthz /livez /readyz /version /version/")],
    ),
    (
        "system:basic-user",
        &[
            (
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    (
        "system:monitoring",
        &[(
            "get",
            "-",
            "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
        )],
    ),
    (
        "system:auth-delegator",
        &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[(
            "get",
            "-",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    ("system:aggregate-to-view", VIEW),
    ("system:aggregate-to-edit", EDIT),
    ("system:aggregate-to-admin", ADMIN),
];

const VIEW: &[Rule] = &[
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
         replicationcontrollers/scale serviceaccounts services services/status",
    ),
    (
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
         resourcequotas resourcequotas/status",
    ),
    (READ, "core", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
         replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    (
        READ,
        "autoscaling",
        "horizontalpodautoscalers horizontalpodautoscalers/status",
    ),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (
        READ,
        "networking.k8s.io",
        "ingresses ingresses/status networkpolicies",
    ),
];

const EDIT: &[Rule] = &[
    (
        READ,
        "core",
        "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
    ),
    ("impersonate", "core", "serviceaccounts"),
    (
        CHANGE,
        "core",
        "pods pods/attach pods/exec pods/portforward pods/proxy",
    ),
    ("create", "core", "pods/eviction"),
    (
        CHANGE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
    ),
    ("create", "core", "serviceaccounts/token"),
    (
        CHANGE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
         statefulsets/scale",
    ),
    (CHANGE, "autoscaling", "horizontalpodautoscalers"),
    (CHANGE, "batch", "cronjobs jobs"),
    (CHANGE, "policy", "poddisruptionbudgets"),
    (CHANGE, "networking.k8s.io", "ingresses networkpolicies"),
    (ALL, "coordination.k8s.io", "leases"),
];

const ADMIN: &[Rule] = &[
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (ALL, "rbac.authorization.k8s.io", "rolebindings roles"),
];

/// A role whose rules are the union of others'.
struct Aggregated {
    name: &'static str,
    /// The role that this one is a part of in turn.
    part_of: Option<&'static str>,
    rules: &'static [&'static [Rule]],
}

const AGGREGATED: &[Aggregated] = &[
    Aggregated {
        name: "admin",
        part_of: None,
        rules: &[ADMIN, EDIT, VIEW],
    },
    Aggregated {
        name: "edit",
        part_of: Some("admin"),
        rules: &[EDIT, VIEW],
    },
    Aggregated {
        name: "view",
        part_of: Some("edit"),
        rules: &[VIEW],
    },
];

/// Cluster role bindings: name, role, groups.
const BINDINGS: &[(&str, &str, &[&str])] = &[
    ("cluster-admin", "cluster-admin", &["system:masters"]),
    (
        "system:basic-user",
        "system:basic-user",
        &["system:authenticated"],
    ),
    ("system:discovery", "system:discovery", &["system:authenticated"]),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        &["system:authenticated", "system:unauthenticated"],
    ),
    ("system:monitoring", "system:monitoring", &["system:monitoring"]),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &["system:serviceaccounts"],
    ),
];

/// Every bootstrap object, in full, with its kind; none has a namespace.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, rules) in ROLES {
        let labels: Vec<&str> = name.strip_prefix("system:aggregate-to-").into_iter().collect();
        objects.push(role(name, &labels, &rules_of(rules), None));
    }
    for Aggregated { name, part_of, rules } in AGGREGATED {
        let rules: Vec<PolicyRule> = rules.iter().flat_map(|part| rules_of(part)).collect();
        let selector = json!({"matchLabels": {aggregation_label(name): "true"}});
        let aggregation = json!({"clusterRoleSelectors": [selector]});
        objects.push(role(name, part_of.as_slice(), &rules, Some(aggregation)));
    }
    for (name, role, groups) in BINDINGS {
        let group = |g: &&str| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": g});
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata(name, &[]),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": groups.iter().map(group).collect::<Vec<_>>(),
        }));
    }
    objects
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn metadata(name: &str, aggregate_to: &[&str]) -> Value {
    let mut labels =
        serde_json::Map::from_iter([("kubernetes.io/bootstrapping".to_owned(), json!("rbac-defaults"))]);
    labels.extend(
        aggregate_to
            .iter()
            .map(|role| (aggregation_label(role), json!("true"))),
    );
    json!({
        "name": name,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": labels,
    })
}

fn role(name: &str, aggregate_to: &[&str], rules: &[PolicyRule], aggregation: Option<Value>) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name, aggregate_to),
        "rules": rules,
    });
    if let Some(aggregation) = aggregation {
        object["aggregationRule"] = aggregation;
    }
    object
}

fn rules_of(rules: &[Rule]) -> Vec<PolicyRule> {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    rules
        .iter()
        .map(|(verbs, groups, names)| match *groups {
            "-" => PolicyRule {
                verbs: words(verbs),
                non_resource_urls: words(names),
                ..PolicyRule::default()
            },
            groups => PolicyRule {
                verbs: words(verbs),
                api_groups: vec![if groups == "core" {
                    String::new()
                } else {
                    groups.to_owned()
                }],
                resources: words(names),
                ..PolicyRule::default()
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::Policy;
    use crate::{Attributes, UserInfo};

    #[test]
    fn everyone_may_discover_and_only_masters_may_do_all() {
        let mut policy = Policy::default();
        for object in bootstrap_objects() {
            policy.apply(object["kind"].as_str().unwrap(), &object);
        }
        let alice = UserInfo {
            name: "alice".into(),
            ..UserInfo::default()
        }
        .authenticated();
        let nobody = UserInfo::anonymous();
        let get = |path: &str| Attributes {
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        let cases = [
            (&alice, "/apis/apps/v1", true),
            (&alice, "/metrics", false),
            (&nobody, "/version", true),
            (&nobody, "/api", false),
        ];
        for (user, path, allowed) in cases {
            assert_eq!(
                policy.authorize(user, &get(path)).allowed,
                allowed,
                "{} {path}",
                user.name
            );
        }
    }

    #[test]
    fn every_binding_points_to_a_role() {
        let objects = bootstrap_objects();
        for (_, role, _) in BINDINGS {
            assert!(
                objects
                    .iter()
                    .any(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == *role),
                "{role}"
            );
        }
    }
}

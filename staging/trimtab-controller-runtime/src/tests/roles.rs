//! What controllers declare is what their Role allows.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::core::PartialObjectMeta;

use super::server::Server;
use super::widgets::{Widgets, manager};
use crate::rbac::{Rule, Rules};

fn lines(rules: Option<Vec<PolicyRule>>) -> Vec<String> {
    let line = |rule: PolicyRule| {
        let (groups, resources) = (
            rule.api_groups.unwrap_or_default(),
            rule.resources.unwrap_or_default(),
        );
        format!(
            "{}: {}: {}",
            groups.join(" "),
            resources.join(" "),
            rule.verbs.join(" ")
        )
    };
    let mut lines: Vec<_> = rules.into_iter().flatten().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_role_is_made_of_what_is_declared() {
    let server = Server::default();
    let manager = manager(&server);
    let builder = manager.controller(Widgets::of(&server));
    builder
        .owns::<ConfigMap>()
        .owns::<Deployment>()
        .watches(|_: &PartialObjectMeta<Secret>| Vec::new())
        .watches(|_: &Node| Vec::new())
        .writes::<Secret>()
        .needs(Rule::new("", "pods/log", ["get"], true))
        .start()
        .expect("a good description");
    let rules = manager.rules();
    assert_eq!(
        lines(rules.cluster_role("widgets").rules),
        [
            ": configmaps secrets: create delete get list patch watch",
            ": nodes: get list watch",
            ": pods/log: get",
            "apps: deployments: create delete get list patch watch",
            "events.k8s.io: events: create patch",
            "example.com: widgets/finalizers: update",
            "example.com: widgets/status: patch",
            "example.com: widgets: get list patch watch",
        ]
    );
    assert!(rules.allow("patch", "apps", "deployments") && !rules.allow("update", "apps", "deployments"));
    assert!(!rules.allow("get", "", "pods") && rules.allow("get", "", "pods/log"));

    let (role, cluster_role) = rules.role("widgets", "team");
    assert_eq!(role.metadata.namespace.as_deref(), Some("team"));
    assert_eq!(lines(role.rules).len(), 7);
    let cluster_role = cluster_role.expect("nodes have no namespace");
    assert_eq!(lines(cluster_role.rules), [": nodes: get list watch"]);
}

#[test]
fn rules_for_named_objects_stay_apart() {
    let get = |name: &str| Rule::new("", "secrets", ["get"], true).named(name);
    let mut rules = Rules::default();
    rules.add(get("a").named("b"));
    rules.add(get("c"));
    rules.add(Rule::new("", "secrets", ["create"], true));
    rules.add(Rule::new("", "configmaps", ["get"], true).named("c"));
    for (name, allowed) in [("a", true), ("b", true), ("c", true), ("d", false)] {
        assert_eq!(rules.allow_named("get", "", "secrets", name), allowed, "{name}");
    }
    assert!(rules.allow_named("create", "", "secrets", "d"));
    assert!(!rules.allow_named("get", "", "configmaps", "a"));
    assert!(!rules.allow("get", "", "secrets") && rules.allow("create", "", "secrets"));
    let names = |rule: &PolicyRule| {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(" ");
        (
            list(&rule.resources),
            list(&rule.resource_names),
            rule.verbs.join(" "),
        )
    };
    let policy = rules.cluster_role("r").rules.expect("some");
    let mut found: Vec<_> = policy.iter().map(names).collect();
    found.sort();
    let expected = [
        ("configmaps secrets", "c", "get"),
        ("secrets", "", "create"),
        ("secrets", "a b", "get"),
    ];
    assert_eq!(
        found,
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
    );
}

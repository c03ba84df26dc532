//! What controllers declare is what their Role allows.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::core::PartialObjectMeta;

use super::server::Server;
use super::widgets::{Widgets, manager};
use crate::rbac::Rule;

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
    let builder = manager.controller(Widgets {
        server: server.clone(),
        ..Widgets::default()
    });
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

//! Which flow schema requests are given, by the objects that every cluster has and by others.

use serde_json::{Value, json};
use trimtab_apiserver_auth::UserInfo;

use crate::flow::{Digest, FlowMetrics, Table};

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..UserInfo::default()
    }
}

/// A resource's verb, group, resource, subresource and namespace, or a path.
fn digest<'a>(user: &'a UserInfo, what: &[&'a str]) -> Digest<'a> {
    let none = Digest {
        user,
        verb: "get",
        is_resource: false,
        group: "",
        resource: "",
        subresource: "",
        namespace: "",
        path: "",
    };
    match *what {
        [verb, group, resource, subresource, namespace] => Digest {
            verb,
            is_resource: true,
            group,
            resource,
            subresource,
            namespace,
            ..none
        },
        [path] => Digest { path, ..none },
        _ => panic!("five or one: {what:?}"),
    }
}

#[test]
fn the_first_schemas_know_their_clients() {
    let (schemas, levels) = super::objects();
    let table = Table::new(&schemas, &levels, 600, &FlowMetrics::default(), None);
    let nodes: &[&str] = &["system:nodes", "system:authenticated"];
    let accounts: &[&str] = &["system:serviceaccounts", "system:authenticated"];
    let known: &[&str] = &["system:authenticated"];
    let lease: &[&str] = &["update", "coordination.k8s.io", "leases", "", "kube-system"];
    let pods: &[&str] = &["list", "", "pods", "", "x"];
    for (name, groups, what, wanted) in [
        ("admin", &["system:masters"] as &[&str], pods, "exempt exempt"),
        ("admin", &["system:masters"], &["/healthz"], "exempt exempt"),
        ("jane", known, &["/healthz"], "probes exempt"),
        ("jane", known, &["/livez/etcd"], "probes exempt"),
        ("jane", known, &["/healthzy"], "global-default global-default"),
        ("jane", known, pods, "global-default global-default"),
        ("system:node:a", nodes, pods, "system-nodes system"),
        (
            "system:node:a",
            nodes,
            &["patch", "", "nodes", "status", ""],
            "system-node-high node-high",
        ),
        (
            "system:node:a",
            nodes,
            &["get", "", "nodes", "proxy", ""],
            "system-nodes system",
        ),
        ("system:node:a", nodes, lease, "system-node-high node-high"),
        (
            "system:kube-scheduler",
            known,
            lease,
            "system-leader-election leader-election",
        ),
        (
            "system:kube-scheduler",
            known,
            pods,
            "kube-scheduler workload-high",
        ),
        (
            "system:kube-controller-manager",
            known,
            &["list", "coordination.k8s.io", "leases", "", "a"],
            "kube-controller-manager workload-high",
        ),
        (
            "system:serviceaccount:kube-system:a",
            accounts,
            pods,
            "kube-system-service-accounts workload-high",
        ),
        (
            "system:serviceaccount:kube-systems:a",
            accounts,
            pods,
            "service-accounts workload-low",
        ),
        (
            "system:serviceaccount:a:b",
            accounts,
            &["/version"],
            "service-accounts workload-low",
        ),
        (
            "system:anonymous",
            &["system:unauthenticated"],
            &["/version"],
            "global-default global-default",
        ),
        ("nobody", &[], pods, "catch-all catch-all"),
    ] {
        let user = user(name, groups);
        let schema = table.classify(&digest(&user, what)).expect("some");
        assert_eq!(
            format!("{} {}", schema.name, schema.level.name),
            wanted,
            "{name} {what:?}"
        );
    }
}

#[test]
fn without_any_object_the_mandatory_ones_are_there() {
    let table = Table::new(&[], &[], 600, &FlowMetrics::default(), None);
    let jane = user("jane", &["system:authenticated"]);
    let admin = user("admin", &["system:masters"]);
    let of = |user| {
        table
            .classify(&digest(user, &["/version"]))
            .map(|s| s.name.as_str())
    };
    assert_eq!((of(&jane), of(&admin)), (Some("catch-all"), Some("exempt")));
}

#[test]
fn rules_of_others_count_by_precedence_and_name_and_only_with_their_level() {
    let rule = |subject: Value| {
        let resource = json!({"verbs": ["list"], "apiGroups": ["apps"], "resources": ["deployments/scale"],
                              "namespaces": ["a", "b"]});
        let path = json!({"verbs": ["get"], "nonResourceURLs": ["/a/*", "/b"]});
        json!([{"subjects": [subject], "resourceRules": [resource], "nonResourceRules": [path]}])
    };
    let schema = |name: &str, precedence: u32, level: &str, subject: Value| {
        json!({"metadata": {"name": name}, "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": level},
            "rules": rule(subject),
        }})
    };
    let jane = json!({"kind": "User", "user": {"name": "jane"}});
    let (mut schemas, levels) = super::objects();
    schemas.extend([
        schema("z", 50, "system", jane.clone()),
        schema("a", 50, "system", jane.clone()),
        schema("first", 40, "gone", jane),
        schema(
            "last",
            60,
            "system",
            json!({"kind": "Group", "group": {"name": "*"}}),
        ),
    ]);
    let table = Table::new(&schemas, &levels, 600, &FlowMetrics::default(), None);
    let (jane, joe) = (
        user("jane", &["system:authenticated"]),
        user("joe", &["system:authenticated"]),
    );
    for (user, what, wanted) in [
        (
            &jane,
            &["list", "apps", "deployments", "scale", "a"] as &[&str],
            "a",
        ),
        (&joe, &["list", "apps", "deployments", "scale", "b"], "last"),
        (&jane, &["list", "apps", "deployments", "", "a"], "global-default"),
        (
            &jane,
            &["list", "apps", "deployments", "scale", "c"],
            "global-default",
        ),
        (
            &jane,
            &["list", "apps", "deployments", "scale", ""],
            "global-default",
        ),
        (
            &jane,
            &["list", "", "deployments", "scale", "a"],
            "global-default",
        ),
        (
            &jane,
            &["get", "apps", "deployments", "scale", "a"],
            "global-default",
        ),
        (&jane, &["/a/b/c"], "a"),
        (&jane, &["/ab"], "global-default"),
        (&joe, &["/b"], "last"),
        (&joe, &["/b/c"], "last"),
    ] {
        let schema = table.classify(&digest(user, what)).expect("some");
        assert_eq!(schema.name, wanted, "{} {what:?}", user.name);
    }
}

//! Which requests policies and bindings are about.

use serde_json::{Value, json};

use super::kit::{bind, bound, make, validating};
use crate::admission::kit::{CONFIGURATIONS, Server};

fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

/// A server with a policy and a binding that refuse what they are about.
async fn refusing(constraints: Value, binding: Value) -> Server {
    let server = Server::new().await;
    server
        .ok("create", "/v1/namespaces", json!({"metadata": {"name": "other"}}))
        .await;
    validating(
        &server,
        "p",
        json!({"matchConstraints": constraints, "validations": [{"expression": "false"}]}),
    )
    .await;
    bind(&server, "validating", "p", binding).await;
    server
}

#[tokio::test]
async fn rules_excludes_names_and_selectors_say_what_a_policy_is_about() {
    let team = json!({"matchLabels": {"team": "a"}});
    let labelled = json!({"matchLabels": {"on": "yes"}});
    let all = || json!([rule(&["*"], "*", "*", "*")]);
    let mut named = rule(&["CREATE"], "", "v1", "configmaps");
    named["resourceNames"] = json!(["a"]);
    for (constraints, binding, expected) in [
        (json!({"resourceRules": all()}), json!({}), [true, true, true]),
        (
            json!({"resourceRules": [rule(&["UPDATE"], "", "v1", "configmaps")]}),
            json!({}),
            [false, false, false],
        ),
        (
            json!({"resourceRules": all(), "excludeResourceRules": [rule(&["*"], "", "v1", "configmaps")]}),
            json!({}),
            [false, false, false],
        ),
        (
            json!({"resourceRules": [named.clone()]}),
            json!({}),
            [true, false, true],
        ),
        (
            json!({"resourceRules": all(), "excludeResourceRules": [named]}),
            json!({}),
            [false, true, false],
        ),
        (
            json!({"resourceRules": all(), "namespaceSelector": team}),
            json!({}),
            [true, true, false],
        ),
        (
            json!({"resourceRules": all(), "objectSelector": labelled}),
            json!({}),
            [false, true, false],
        ),
        (
            json!({"resourceRules": all()}),
            json!({"matchResources": {"namespaceSelector": team}}),
            [true, true, false],
        ),
        (
            json!({"resourceRules": all()}),
            json!({"matchResources": {"objectSelector": labelled}}),
            [false, true, false],
        ),
        (
            json!({"resourceRules": all()}),
            json!({"matchResources": {"resourceRules": [rule(&["*"], "", "v1", "secrets")]}}),
            [false, false, false],
        ),
    ] {
        let server = refusing(constraints.clone(), binding.clone()).await;
        let mut refused = Vec::new();
        for (namespace, name, on) in [
            ("default", "a", "no"),
            ("default", "b", "yes"),
            ("other", "a", "no"),
        ] {
            let object = json!({"metadata": {"name": name, "labels": {"on": on}}});
            let (code, answer, _) = server
                .ask("create", &format!("/v1/{namespace}:configmaps"), object)
                .await;
            assert!(matches!(code, 201 | 422), "{answer}");
            refused.push(code == 422);
        }
        assert_eq!(refused, expected, "{constraints} {binding}");
    }
}

#[tokio::test]
async fn objects_come_in_the_version_that_the_policy_wants() {
    let server = Server::new().await;
    let autoscaler = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}})
    };
    let constraints = |policy: &str| {
        json!({"matchPolicy": policy,
        "resourceRules": [rule(&["CREATE"], "autoscaling", "v2", "horizontalpodautoscalers")]})
    };
    let validations = json!([
        {"expression": "object.apiVersion == 'autoscaling/v2' && object.spec.metrics[0].resource.target.averageUtilization == 5 \
            && request.kind.version == 'v2' && request.requestKind.version == 'v1'", "message": "not as it should be"},
        {"expression": "false", "message": "seen"},
    ]);
    bound(
        &server,
        "p",
        json!({"matchConstraints": constraints("Exact"), "validations": validations}),
    )
    .await;
    let path = "autoscaling/v1/default:horizontalpodautoscalers";
    server.ok("create", path, autoscaler("a")).await;
    bound(
        &server,
        "q",
        json!({"matchConstraints": constraints("Equivalent"), "validations": validations}),
    )
    .await;
    let (code, message) = server.refused("create", path, autoscaler("b")).await;
    assert!(
        code == 422 && message.ends_with("denied request: seen"),
        "{code} {message}"
    );
}

#[tokio::test]
async fn namespaces_are_in_none_but_their_labels_count() {
    let server = Server::new().await;
    bound(&server, "p", json!({
        "matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "v1", "namespaces")],
            "namespaceSelector": {"matchLabels": {"checked": "yes"}}},
        "validations": [{"expression": "namespaceObject == null", "message": "in a namespace"}, {"expression": "false"}],
    }))
    .await;
    let namespace =
        |name: &str, checked: &str| json!({"metadata": {"name": name, "labels": {"checked": checked}}});
    server.ok("create", "/v1/namespaces", namespace("a", "no")).await;
    let (_, message) = server
        .refused("create", "/v1/namespaces", namespace("b", "yes"))
        .await;
    assert!(message.ends_with("failed expression: false"), "{message}");
}

#[tokio::test]
async fn params_of_a_namespace_need_a_request_in_one() {
    let server = Server::new().await;
    validating(
        &server,
        "p",
        json!({"matchConstraints": {"resourceRules": [rule(&["*"], "", "v1", "nodes")]},
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
    )
    .await;
    bind(
        &server,
        "validating",
        "p",
        json!({"paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}}),
    )
    .await;
    let (_, message) = server
        .refused("create", "/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await;
    let wrong = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
    assert!(message.ends_with(wrong), "{message}");
}

#[tokio::test]
async fn deletes_of_collections_and_dry_runs_are_seen() {
    let server = Server::new().await;
    assert_eq!(make(&server, "a").await.0, 201);
    bound(&server, "p", json!({"validations": [
        {"expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'a'", "message": "kept"},
        {"expression": "!request.dryRun || request.options.dryRun == ['All'] && object.metadata.name != 'd'", "message": "dry"},
    ]}))
    .await;
    let (_, message) = server
        .refused("deletecollection", "/v1/default:configmaps", Value::Null)
        .await;
    assert!(message.ends_with("kept"), "{message}");
    let object = json!({"metadata": {"name": "d"}});
    let (_, message) = server
        .refused("create", "/v1/default:configmaps?dryRun=All", object)
        .await;
    assert!(message.ends_with("dry"), "{message}");
    let binding = format!("{CONFIGURATIONS}/validatingadmissionpolicybindings/p");
    server.ok("delete", &binding, Value::Null).await;
    server
        .ok("deletecollection", "/v1/default:configmaps", Value::Null)
        .await;
}

//! What mutating policies make of objects, and when they are asked again.

use serde_json::{Value, json};

use super::kit::{bind, bind_as, mutating};
use crate::admission::kit::{CONFIGURATIONS, Server, hook, patch, requests, rules, yes};
use crate::metrics::Metrics;
use crate::webhook::testing::Hook;

/// Appends a letter to `data.names`.
fn append(letter: &str) -> String {
    format!("Object{{data: {{'names': object.?data.?names.orValue('') + '{letter}'}}}}")
}

async fn with(expressions: &[&str], change: Value) -> Server {
    let server = Server::new().await;
    mutating(&server, "p", expressions, change).await;
    bind(&server, "mutating", "p", json!({})).await;
    server
}

#[tokio::test]
async fn objects_are_merged_and_patched() {
    for (expression, expected) in [
        (
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, data: {'added': object.data.k + '!'}}",
            json!({"labels": {"a": "b"}, "data": {"k": "v", "added": "v!"}}),
        ),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a/b': 'c'}}, \
              JSONPatch{op: 'replace', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'd'}, \
              JSONPatch{op: 'remove', path: '/data/k'}]",
            json!({"labels": {"a/b": "d"}, "data": {}}),
        ),
        (
            "[JSONPatch{op: 'test', path: '/data/k', value: 'w'}, JSONPatch{op: 'add', path: '/data/x', value: 'y'}]",
            json!({"labels": null, "data": {"k": "v"}}),
        ),
        (
            "[JSONPatch{op: 'add', path: '/data', value: Object.data{x: 'y'}}].filter(p, false)",
            json!({"labels": null, "data": {"k": "v"}}),
        ),
        ("Object{}", json!({"labels": null, "data": {"k": "v"}})),
    ] {
        let server = with(&[expression], json!({})).await;
        let (code, made, _) = server.make("a").await;
        assert_eq!(code, 201, "{expression}: {made}");
        let got = json!({"labels": made["metadata"]["labels"], "data": made["data"]});
        let got = if got["data"].is_null() {
            json!({"labels": got["labels"], "data": {}})
        } else {
            got
        };
        assert_eq!(got, expected, "{expression}");
    }
}

#[tokio::test]
async fn lists_with_keys_are_merged_and_defaults_filled_in() {
    let server = Server::new().await;
    let pods = json!({"resourceRules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
    ]});
    mutating(
        &server,
        "sidecar",
        &["Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'mesh:1', restartPolicy: \
           'Always', args: ['proxy']}], containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, \
           env: [Object.spec.containers.env{name: 'MESH', value: 'on'}]})}}"],
        json!({"matchConstraints": pods, "failurePolicy": "Fail"}),
    )
    .await;
    bind(&server, "mutating", "sidecar", json!({})).await;
    let pod = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i",
        "env": [{"name": "A", "value": "1"}]}]}})
    };
    let (code, answer, _) = server.ask("create", "/v1/default:pods", pod("a")).await;
    assert_eq!(code, 403);
    let atomic = "policy 'sidecar' with binding 'sidecar' denied request: error applying patch: invalid ApplyConfiguration: may not \
                  mutate atomic arrays, maps or structs: .spec.initContainers[0].args";
    assert_eq!(answer["message"], json!(atomic));
    assert_eq!(answer["reason"], json!("Invalid"));
    assert_eq!(answer["details"]["causes"], json!([{"message": atomic}]));
    let path = format!("{CONFIGURATIONS}/mutatingadmissionpolicies/sidecar");
    let policy = server.ok("get", &path, Value::Null).await;
    let expression = &policy["spec"]["mutations"][0]["applyConfiguration"]["expression"];
    let expression = expression
        .as_str()
        .unwrap_or_default()
        .replace(", args: ['proxy']", "");
    let mutation =
        json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]);
    server
        .ok("patch", &path, json!({"spec": {"mutations": mutation}}))
        .await;
    let made = server.ok("create", "/v1/default:pods", pod("a")).await;
    let mesh = &made["spec"]["initContainers"][0];
    assert_eq!(
        (&mesh["name"], &mesh["imagePullPolicy"]),
        (&json!("mesh"), &json!("IfNotPresent"))
    );
    let env = json!([{"name": "A", "value": "1"}, {"name": "MESH", "value": "on"}]);
    assert_eq!(
        (
            &made["spec"]["containers"][0]["env"],
            &made["spec"]["containers"][0]["image"]
        ),
        (&env, &json!("i"))
    );
}

#[tokio::test]
async fn what_cannot_be_done_refuses_unless_the_policy_may_fail() {
    let cases = [
        (
            "Object{data: {'x': object.spec.y}}",
            "expression 'Object{data: {'x': object.spec.y}}' resulted in error: no such key: spec",
        ),
        (
            "Object{data: Object.wrong{x: 'y'}}",
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.data\", which \
          matches field name path from root Object type",
        ),
        (
            "Object{date: {'x': 'y'}}",
            "error applying patch: failed to convert patch object to typed object: .date: field not declared \
          in schema",
        ),
    ];
    for (expression, why) in cases {
        let server = with(&[expression], json!({})).await;
        let (code, answer, _) = server.make("a").await;
        let message = format!("policy 'p' with binding 'p' denied request: {why}");
        assert_eq!((code, &answer["message"]), (403, &json!(message)), "{expression}");
        let server = with(&[expression, &append("z")], json!({"failurePolicy": "Ignore"})).await;
        let (code, made, _) = server.make("a").await;
        assert_eq!((code, &made["data"]["names"]), (201, &json!("z")), "{expression}");
    }
    let missing = "[JSONPatch{op: 'remove', path: '/data/none'}]";
    let server = with(&[missing], json!({})).await;
    let (code, answer, _) = server.make("a").await;
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        code == 403 && message.contains("denied request: JSON Patch: "),
        "{message}"
    );
    let unknown = "[JSONPatch{op: 'add', path: '/spec', value: 'x'}]";
    let server = with(&[unknown], json!({"failurePolicy": "Ignore"})).await;
    let (code, answer, _) = server.make("a").await;
    assert_eq!(
        (code, &answer["reason"]),
        (500, &json!("InternalError")),
        "{answer}"
    );
}

#[tokio::test]
async fn policies_come_by_name_before_plugins_look_again_and_before_webhooks() {
    let server = Server::new().await;
    let asked = Hook::start(|asked| {
        let names = asked.body["request"]["object"]["data"]["names"]
            .as_str()
            .unwrap_or_default();
        patch(
            asked,
            json!([{"op": "add", "path": "/data/names", "value": format!("{names}w")}]),
        )
    })
    .await;
    let only = json!({"rules": rules(&["*"], "", "v1", "configmaps")});
    server
        .configure("mutating", "w", hook(asked.client_config("/"), only))
        .await;
    for (name, again) in [("b", "Never"), ("a", "IfNeeded"), ("c", "IfNeeded")] {
        mutating(
            &server,
            name,
            &[&append(name)],
            json!({"reinvocationPolicy": again}),
        )
        .await;
        bind(&server, "mutating", name, json!({})).await;
    }
    let (code, made, _) = server.make("m").await;
    assert_eq!((code, &made["data"]["names"]), (201, &json!("abcwac")), "{made}");
    let seen = requests(&asked);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["object"]["data"]["names"], json!("abc"));
}

#[tokio::test]
async fn webhooks_are_asked_again_only_when_the_object_is_another_one() {
    let server = Server::new().await;
    let asked = yes().await;
    let change = json!({"rules": rules(&["*"], "", "v1", "configmaps"), "reinvocationPolicy": "IfNeeded"});
    let hook = hook(asked.client_config("/"), change);
    server.configure("mutating", "w", hook).await;
    mutating(
        &server,
        "p",
        &["Object{data: {'a': 'b'}}"],
        json!({"reinvocationPolicy": "IfNeeded"}),
    )
    .await;
    bind(&server, "mutating", "p", json!({})).await;
    assert_eq!(server.make("a").await.0, 201);
    assert_eq!(requests(&asked).len(), 1);
    mutating(
        &server,
        "q",
        &[&append("q")],
        json!({"reinvocationPolicy": "IfNeeded"}),
    )
    .await;
    bind(&server, "mutating", "q", json!({})).await;
    assert_eq!(server.make("b").await.1["data"]["names"], json!("qq"));
    assert_eq!(requests(&asked).len(), 2);
}

#[tokio::test]
async fn only_those_are_asked_again_that_were_asked() {
    let server = Server::new().await;
    let condition = json!([{"name": "c", "expression": "has(object.data.names)"}]);
    let again = json!({"reinvocationPolicy": "IfNeeded", "matchConditions": condition});
    mutating(&server, "a", &[&append("a")], again).await;
    mutating(&server, "b", &[&append("b")], json!({})).await;
    for name in ["a", "b"] {
        bind(&server, "mutating", name, json!({})).await;
    }
    let (code, made, _) = server.make("m").await;
    assert_eq!((code, &made["data"]["names"]), (201, &json!("b")), "{made}");
}

#[tokio::test]
async fn bindings_and_params_are_each_a_turn() {
    let server = Server::new().await;
    server
        .ok(
            "create",
            "/v1/namespaces",
            json!({"metadata": {"name": "params"}}),
        )
        .await;
    for name in ["x", "y"] {
        let params = json!({"metadata": {"name": name, "labels": {"of": "p"}}, "data": {"letter": name}});
        server.ok("create", "/v1/params:configmaps", params).await;
    }
    let expression = "Object{data: {'names': object.?data.?names.orValue('') + params.data.letter}}";
    mutating(
        &server,
        "p",
        &[expression],
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
    )
    .await;
    let reference = |of: Value| {
        let mut reference = json!({"namespace": "params", "parameterNotFoundAction": "Deny"});
        for (field, value) in of.as_object().into_iter().flatten() {
            reference[field] = value.clone();
        }
        json!({"paramRef": reference})
    };
    bind_as(
        &server,
        "mutating",
        "a",
        "p",
        reference(json!({"selector": {"matchLabels": {"of": "p"}}})),
    )
    .await;
    bind_as(&server, "mutating", "b", "p", reference(json!({"name": "x"}))).await;
    let (code, made, _) = server.make("m").await;
    assert_eq!((code, &made["data"]["names"]), (201, &json!("xyx")), "{made}");
    // They came from the watch cache, and as it was once everything before had come there.
    let caches = server.registry.cache_figures();
    let cache = caches.iter().find(|figures| figures.of.resource == "configmaps");
    assert!(
        cache.is_some_and(|figures| figures.waits.0.count() >= 2),
        "{cache:?}"
    );
    bind_as(&server, "mutating", "c", "p", reference(json!({"name": "z"}))).await;
    let (code, answer, _) = server.make("n").await;
    let why = "policy 'p' with binding 'c' denied request: failed to configure binding: no params found for policy binding with \
               `Deny` parameterNotFoundAction";
    assert_eq!(
        (code, &answer["message"], &answer["reason"]),
        (403, &json!(why), &json!("Forbidden"))
    );
}

#[tokio::test]
async fn objects_are_changed_in_the_version_that_the_policy_wants() {
    let server = Server::new().await;
    let autoscalers = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]});
    let expressions = [
        "[JSONPatch{op: 'replace', path: '/spec/metrics/0/resource/target/averageUtilization', value: 70}]",
        "Object{spec: Object.spec{maxReplicas: object.spec.maxReplicas + object.spec.metrics[0].resource.target.averageUtilization}}",
    ];
    mutating(
        &server,
        "p",
        &expressions,
        json!({"matchConstraints": autoscalers}),
    )
    .await;
    bind(&server, "mutating", "p", json!({})).await;
    let autoscaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let made = server
        .ok(
            "create",
            "autoscaling/v1/default:horizontalpodautoscalers",
            autoscaler,
        )
        .await;
    assert_eq!(made["apiVersion"], json!("autoscaling/v1"));
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], json!(70));
    assert_eq!(
        made["spec"]["maxReplicas"],
        json!(72),
        "each mutation sees what the one before it has made"
    );
}

#[tokio::test]
async fn deletes_are_not_mutated_and_mutations_are_counted() {
    let server = with(&[&append("a")], json!({})).await;
    assert_eq!(server.make("a").await.0, 201);
    server.ok("delete", "/v1/default:configmaps/a", Value::Null).await;
    let text = Metrics::new(&server.policy_metrics, &server.metrics).text();
    let line = "apiserver_mutating_admission_policy_check_total{policy=\"p\",policy_binding=\"p\",error_type=\"no_error\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn fields_that_policies_set_are_owned_by_who_asked() {
    let server = with(
        &["Object{metadata: Object.metadata{labels: {'a': 'b'}}}"],
        json!({}),
    )
    .await;
    let (_, made, _) = server.make("a").await;
    assert_eq!(made["metadata"]["labels"]["a"], json!("b"));
    let managers = made["metadata"]["managedFields"].as_array().map_or(0, Vec::len);
    assert_eq!(managers, 1, "{made}");
}

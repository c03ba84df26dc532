//! What is said to webhooks, and which answers are answers.

use serde_json::{Value, json};

use super::super::review::{Role, Version, denied, read};
use crate::admission::kit::{Server, hook, requests, yes};

/// The request of the only review that a webhook gets for a request.
async fn told(
    server: &Server,
    asked: &crate::webhook::testing::Hook,
    verb: &str,
    path: &str,
    body: Value,
) -> Value {
    asked.take();
    server.ok(verb, path, body).await;
    let mut requests = requests(asked);
    assert_eq!(requests.len(), 1, "{verb} {path}: {requests:?}");
    requests.remove(0)
}

/// Whether everything in `part` is in `whole`; a null in `part` asks for absence.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(k, v)| contains(whole.get(k).unwrap_or(&Value::Null), v)),
        (whole, part) => whole == part,
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_review_tells_all_of_a_request() {
    let (server, asked) = (Server::new().await, yes().await);
    server
        .configure("validating", "v", hook(asked.client_config("/v"), json!({})))
        .await;
    let object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let path = "/v1/default:configmaps?fieldManager=m&dryRun=All";
    let request = told(&server, &asked, "create", path, object).await;
    let uid = request["object"]["metadata"]["uid"].as_str();
    assert!(
        uid.is_some_and(|uid| !uid.is_empty()),
        "the object is what will be stored"
    );
    let expected = json!({
        "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
        "name": "a",
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": {"username": "alice", "uid": "u1", "groups": ["devs"], "extra": {"k": ["v"]}},
        "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "default"},
            "data": {"k": "v"}},
        "oldObject": null,
        "dryRun": true,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "fieldManager": "m"},
        "subResource": null,
        "requestSubResource": null,
    });
    assert!(contains(&request, &expected), "{request:#}");
}

#[tokio::test]
async fn every_operation_is_told_in_its_own_way() {
    let (server, asked) = (Server::new().await, yes().await);
    server
        .configure("validating", "v", hook(asked.client_config("/"), json!({})))
        .await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    for (verb, path, body, expected) in [
        (
            "create",
            "/v1/default:configmaps",
            json!({"metadata": {"name": "c"}, "data": {"k": "1"}}),
            json!({"operation": "CREATE", "name": "c", "options": {"kind": "CreateOptions"}}),
        ),
        (
            "update",
            "/v1/default:configmaps/c",
            json!({"metadata": {"name": "c"}, "data": {"k": "2"}}),
            json!({"operation": "UPDATE", "object": {"data": {"k": "2"}}, "oldObject": {"data": {"k": "1"}},
                "options": {"kind": "UpdateOptions"}}),
        ),
        (
            "patch",
            "/v1/default:configmaps/c?fieldManager=m",
            json!({"data": {"k": "3"}}),
            json!({"operation": "UPDATE", "object": {"data": {"k": "3"}},
                "options": {"kind": "UpdateOptions", "fieldManager": "m"}}),
        ),
        (
            "delete",
            "/v1/default:configmaps/c",
            json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 5,
            "preconditions": {}}),
            json!({"operation": "DELETE", "name": "c", "object": null, "oldObject": {"data": {"k": "3"}},
                "options": {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Foreground",
                    "gracePeriodSeconds": 5, "preconditions": null}}),
        ),
        (
            "create",
            "apps/v1/default:deployments",
            deployment,
            json!({"operation": "CREATE"}),
        ),
        (
            "patch",
            "apps/v1/default:deployments/d/status",
            json!({"status": {"replicas": 1}}),
            json!({"operation": "UPDATE", "subResource": "status", "requestSubResource": "status",
                "kind": {"kind": "Deployment"}, "object": {"status": {"replicas": 1}}}),
        ),
        (
            "patch",
            "apps/v1/default:deployments/d/scale",
            json!({"spec": {"replicas": 7}}),
            json!({"operation": "UPDATE", "subResource": "scale",
                "kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
                "object": {"kind": "Scale", "spec": {"replicas": 7}},
                "oldObject": {"kind": "Scale", "spec": {"replicas": 2}}}),
        ),
        (
            "create",
            "/v1/default:pods",
            pod("p"),
            json!({"operation": "CREATE"}),
        ),
        (
            "create",
            "/v1/default:pods/p/binding",
            json!({"metadata": {"name": "p"}, "target": {"name": "n"}}),
            json!({"operation": "CREATE", "subResource": "binding", "name": "p", "namespace": "default",
                "kind": {"group": "", "version": "v1", "kind": "Binding"},
                "resource": {"resource": "pods"},
                "object": {"kind": "Binding", "apiVersion": "v1", "target": {"name": "n"}}, "oldObject": null}),
        ),
        (
            "create",
            "/v1/default:pods/p/eviction",
            json!({"metadata": {"name": "p"}}),
            json!({"operation": "CREATE", "subResource": "eviction", "name": "p",
                "kind": {"group": "policy", "version": "v1", "kind": "Eviction"},
                "object": {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"namespace": "default"}}}),
        ),
        (
            "create",
            "/v1/namespaces",
            json!({"metadata": {"name": "n"}}),
            json!({"operation": "CREATE", "name": "n", "namespace": "n"}),
        ),
        (
            "update",
            "/v1/namespaces/n/finalize",
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}}),
            json!({"operation": "UPDATE", "subResource": "finalize", "namespace": "n", "kind": {"kind": "Namespace"}}),
        ),
    ] {
        let request = told(&server, &asked, verb, path, body).await;
        assert!(contains(&request, &expected), "{verb} {path}: {request:#}");
    }
}

#[tokio::test]
async fn connections_are_told_with_their_options() {
    let (server, asked) = (Server::new().await, yes().await);
    server.ok("create", "/v1/default:pods", pod("p")).await;
    server
        .configure("validating", "v", hook(asked.client_config("/"), json!({})))
        .await;
    for (path, expected) in [
        (
            "exec?command=ls&command=-l&stdin=true&stdout=false&container=c",
            json!({"kind": {"kind": "PodExecOptions"}, "subResource": "exec",
                "object": {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["ls", "-l"], "stdin": true,
                    "stdout": null, "stderr": true, "tty": null, "container": "c"}}),
        ),
        (
            "attach",
            json!({"object": {"kind": "PodAttachOptions", "stdout": true, "stderr": true, "stdin": null}}),
        ),
        (
            "portforward?ports=80,443",
            json!({"object": {"kind": "PodPortForwardOptions", "ports": [80, 443]}}),
        ),
        ("proxy", json!({"object": {"kind": "PodProxyOptions"}})),
    ] {
        asked.take();
        let (code, _) = server
            .refused("create", &format!("/v1/default:pods/p/{path}"), Value::Null)
            .await;
        assert_eq!(code, 400, "nothing runs behind this server");
        let request = requests(&asked).remove(0);
        let common =
            json!({"operation": "CONNECT", "name": "p", "options": null, "oldObject": null, "dryRun": false});
        assert!(
            contains(&request, &common) && contains(&request, &expected),
            "{path}: {request:#}"
        );
    }
    let (code, message) = server
        .refused("create", "/v1/default:pods/p/exec?dryRun=All", Value::Null)
        .await;
    assert_eq!((code, message.as_str()), (400, "dryRun is not supported"));
    server.ok("get", "/v1/default:pods/p/log", Value::Null).await;
    assert!(requests(&asked).is_empty(), "reading a log is no connection");
}

#[tokio::test]
async fn each_object_of_a_collection_is_asked_about() {
    let (server, asked) = (Server::new().await, yes().await);
    for name in ["a", "b"] {
        server.make(name).await;
    }
    for kind in ["mutating", "validating"] {
        server
            .configure(
                kind,
                kind,
                hook(asked.client_config(&format!("/{kind}")), json!({})),
            )
            .await;
    }
    server
        .ok("deletecollection", "/v1/default:configmaps", Value::Null)
        .await;
    let mut seen: Vec<(String, Value, Value)> = asked
        .take()
        .into_iter()
        .map(|asked| {
            let request = &asked.body["request"];
            let old = request["oldObject"]["metadata"]["name"].clone();
            let path = asked.path_and_query.split('?').next().unwrap_or_default();
            (path.to_owned(), request["name"].clone(), old)
        })
        .collect();
    // They are deleted several at a time: what matters is the order of each.
    seen.sort_by_key(|(_, _, name)| name.to_string());
    let of = |path: &str, name: &str| (path.to_owned(), Value::Null, json!(name));
    let expected = [
        of("/mutating", "a"),
        of("/validating", "a"),
        of("/mutating", "b"),
        of("/validating", "b"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_delete_that_goes_on_is_not_asked_about_again() {
    let (server, asked) = (Server::new().await, yes().await);
    let mut pod = pod("p");
    pod["spec"]["nodeName"] = "n".into();
    server.ok("create", "/v1/default:pods", pod).await;
    server
        .configure("validating", "v", hook(asked.client_config("/"), json!({})))
        .await;
    let path = "/v1/default:pods/p";
    let request = told(&server, &asked, "delete", path, Value::Null).await;
    // What the kind makes of options that leave it open is told.
    assert_eq!(request["options"]["gracePeriodSeconds"], 30);
    server.ok("delete", path, Value::Null).await;
    assert!(requests(&asked).is_empty());
    let sooner = json!({"gracePeriodSeconds": 0});
    let request = told(&server, &asked, "delete", path, sooner).await;
    assert_eq!(request["options"]["gracePeriodSeconds"], 0);
}

#[tokio::test]
async fn a_webhook_sees_the_version_that_it_asks_for() {
    let (server, asked) = (Server::new().await, yes().await);
    let rules = crate::admission::kit::rules(&["*"], "autoscaling", "v2", "horizontalpodautoscalers");
    let hook = hook(asked.client_config("/"), json!({"rules": rules}));
    server.configure("validating", "v", hook).await;
    let object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "autoscaling/v1/default:horizontalpodautoscalers";
    let request = told(&server, &asked, "create", path, object).await;
    let target = &request["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"];
    assert_eq!(
        (&request["object"]["apiVersion"], target),
        (&json!("autoscaling/v2"), &json!(70))
    );
    let expected = json!({
        "kind": {"group": "autoscaling", "version": "v2"},
        "resource": {"version": "v2"},
        "requestKind": {"version": "v1"},
        "requestResource": {"version": "v1"},
    });
    assert!(contains(&request, &expected), "{request:#}");
}

/// An answer of v1 with this response.
fn answer(response: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[test]
fn answers_are_checked() {
    let v1 = |response: Value| read(&answer(response), Version::V1, "u", Role::Mutating);
    for (response, expected) in [
        (json!(null), "webhook response was absent"),
        (
            json!({"uid": "x", "allowed": true}),
            "expected response.uid=\"u\", got \"x\"",
        ),
        (
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
            "webhook returned response.patch but not response.patchType",
        ),
        (
            json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
            "webhook returned response.patchType but not response.patch",
        ),
        (
            json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": ""}),
            "webhook returned invalid response.patchType of \"\"",
        ),
        (
            json!({"uid": "u", "allowed": "yes"}),
            "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool",
        ),
        (
            json!({"uid": 1}),
            "json: cannot unmarshal number into Go struct field AdmissionResponse.response.uid of type types.UID",
        ),
        (
            json!({"uid": "u", "warnings": "w"}),
            "json: cannot unmarshal string into Go struct field AdmissionResponse.response.warnings of type []string",
        ),
    ] {
        assert_eq!(v1(response), Err(expected.to_owned()));
    }
    let wrong_base64 = v1(json!({"uid": "u", "patch": "%"})).expect_err("no base64");
    assert!(wrong_base64.starts_with("illegal base64 data"), "{wrong_base64}");
    for (kind, expected) in [
        (json!({}), "got /, Kind="),
        (
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}),
            "got admission.k8s.io/v1beta1, Kind=AdmissionReview",
        ),
    ] {
        let mut answer = kind;
        answer["response"] = json!({"uid": "u", "allowed": true});
        let error = read(&answer, Version::V1, "u", Role::Validating);
        let expected =
            format!("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, {expected}");
        assert_eq!(error, Err(expected));
    }
    let validating = |response: Value| read(&answer(response), Version::V1, "u", Role::Validating);
    assert_eq!(
        validating(json!({"uid": "u", "patch": "W10=", "patchType": "JSONPatch"})),
        Err("validating webhook may not return response.patch".to_owned())
    );
    assert_eq!(
        validating(json!({"uid": "u", "patchType": "JSONPatch"})),
        Err("validating webhook may not return response.patchType".to_owned())
    );
    // The older version is not strict.
    let old = json!({"response": {"uid": "other", "allowed": true, "patch": "W10="}});
    let read_old = |role| read(&old, Version::V1beta1, "u", role).map(|r| (r.patch, r.patch_type));
    assert_eq!(
        read_old(Role::Mutating),
        Ok((b"[]".to_vec(), "JSONPatch".to_owned()))
    );
    assert_eq!(read_old(Role::Validating).map(|(patch, _)| patch), Ok(Vec::new()));
}

#[test]
fn refusals_carry_the_webhooks_status() {
    for (result, code, reason, message) in [
        (json!(null), 400, "", "without explanation"),
        (
            json!({"code": 200, "status": "Success"}),
            400,
            "",
            "without explanation",
        ),
        (json!({"reason": "Because"}), 400, "Because", ": Because"),
        (
            json!({"code": 403, "reason": "Forbidden", "message": "not you"}),
            403,
            "Forbidden",
            ": not you",
        ),
        (json!({"code": 12_345, "message": "m"}), 400, "", ": m"),
    ] {
        let error = denied("h", &result);
        let message = message.strip_prefix(':').map_or_else(
            || format!("admission webhook \"h\" denied the request {message}"),
            |why| format!("admission webhook \"h\" denied the request:{why}"),
        );
        assert_eq!(
            (error.code, error.reason.as_str(), error.message.as_str()),
            (code, reason, message.as_str())
        );
    }
    let details = json!({"name": "n", "group": "g", "kind": "k", "uid": "u", "retryAfterSeconds": 3,
        "causes": [{"reason": "FieldValueInvalid", "message": "m", "field": "spec.x"}]});
    let error = denied("h", &json!({"code": 422, "details": details}));
    let status = serde_json::to_value(error.to_status()).expect("a status");
    assert_eq!(status["details"], details);
}

#[test]
fn the_first_version_that_is_known_is_spoken() {
    let choose = |versions: &[&str]| {
        let versions: Vec<String> = versions.iter().map(|v| (*v).to_owned()).collect();
        Version::choose(&versions)
    };
    assert_eq!(choose(&["v2", "v1beta1", "v1"]), Some(Version::V1beta1));
    assert_eq!(choose(&["v1"]), Some(Version::V1));
    assert_eq!(choose(&["v2"]), None);
}

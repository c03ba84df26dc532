//! What answers do to a request: patches, refusals, warnings, failures.

use serde_json::{Value, json};

use crate::admission::kit::{Answer, Server, hook, patch, reply, rules, yes};
use crate::audit::Annotations;
use crate::webhook::testing::{Hook, Reply};

/// A server with one webhook of that kind for ConfigMaps, as `change` says, which answers in this way.
async fn with(
    kind: &str,
    change: Value,
    answer: impl Fn(&crate::webhook::testing::Asked) -> Reply + Send + Sync + 'static,
) -> (Server, Hook) {
    let (server, asked) = (Server::new().await, Hook::start(answer).await);
    let mut hook = hook(asked.client_config("/x"), change);
    hook["rules"] = rules(&["*"], "", "v1", "configmaps");
    server.configure(kind, "c", hook).await;
    (server, asked)
}

/// Makes a ConfigMap past one mutating webhook that answers with this patch.
async fn patched(operations: Value) -> Answer {
    let (server, _hook) = with("mutating", json!({}), move |asked| {
        patch(asked, operations.clone())
    })
    .await;
    server.make("a").await
}

#[tokio::test]
async fn a_patch_changes_the_object_before_it_is_checked() {
    let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    let (code, made, _) = patched(add("/data/new", json!("1"))).await;
    assert_eq!((code, &made["data"]), (201, &json!({"k": "v", "new": "1"})));
    // What the kind does not know is dropped, as in any request.
    let (code, made, warnings) = patched(add("/unknown", json!(1))).await;
    assert_eq!((code, made.get("unknown"), warnings), (201, None, Vec::new()));
    let (code, refused, _) = patched(add("/metadata/labels", json!({"a b": "c"}))).await;
    assert!(
        code == 422
            && refused["message"]
                .as_str()
                .is_some_and(|m| m.contains("metadata.labels: Invalid value: \"a b\"")),
        "{refused}"
    );
    let (code, refused, _) = patched(add("/data/new", json!(1))).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        code == 500 && message.starts_with("Internal error occurred: json: cannot unmarshal number"),
        "{message}"
    );
    let (code, refused, _) = patched(json!([{"op": "remove", "path": "/spec/x"}])).await;
    assert_eq!((code, &refused["reason"]), (500, &json!("InternalError")));
    let (code, _, _) = patched(json!([])).await;
    assert_eq!(code, 201);
    let (code, refused, _) = patched(add("/metadata/namespace", json!("other"))).await;
    assert_eq!(
        (code, refused["message"].as_str()),
        (
            400,
            Some("the namespace of the provided object does not match the namespace sent on the request")
        )
    );
}

#[tokio::test]
async fn what_a_patch_adds_gets_its_defaults() {
    let server = Server::new().await;
    let asked = Hook::start(|asked| {
        patch(
            asked,
            json!([{"op": "add", "path": "/spec/ports/-", "value": {"name": "b", "port": 81}}]),
        )
    })
    .await;
    let mutating = hook(
        asked.client_config("/"),
        json!({"rules": rules(&["*"], "", "v1", "services")}),
    );
    server.configure("mutating", "m", mutating).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 80}]}});
    let made = server.ok("create", "/v1/default:services", service).await;
    let port = json!({"name": "b", "port": 81, "protocol": "TCP", "targetPort": 81});
    assert_eq!(made["spec"]["ports"][1], port);
}

#[tokio::test]
async fn a_patch_in_another_version_comes_back_in_the_requests() {
    let server = Server::new().await;
    let asked = Hook::start(|asked| {
        let path = "/spec/metrics/0/resource/target/averageUtilization";
        patch(asked, json!([{"op": "replace", "path": path, "value": 42}]))
    })
    .await;
    let rules = rules(&["*"], "autoscaling", "v2", "horizontalpodautoscalers");
    server
        .configure(
            "mutating",
            "m",
            hook(asked.client_config("/"), json!({"rules": rules})),
        )
        .await;
    let object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let made = server
        .ok(
            "create",
            "autoscaling/v1/default:horizontalpodautoscalers",
            object,
        )
        .await;
    assert_eq!(
        (
            &made["apiVersion"],
            &made["spec"]["targetCPUUtilizationPercentage"]
        ),
        (&json!("autoscaling/v1"), &json!(42))
    );
}

#[tokio::test]
async fn scales_bindings_and_evictions_can_be_changed_too() {
    let server = Server::new().await;
    let asked = Hook::start(|asked| match asked.body["request"]["subResource"].as_str() {
        Some("scale") => patch(
            asked,
            json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]),
        ),
        Some("binding") => patch(
            asked,
            json!([{"op": "replace", "path": "/target/name", "value": "other"}]),
        ),
        Some("eviction") => patch(
            asked,
            json!([{"op": "add", "path": "/deleteOptions", "value": {"dryRun": ["All"]}}]),
        ),
        _ => reply(asked, json!({})),
    })
    .await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server
        .ok("create", "apps/v1/default:deployments", deployment)
        .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    server.ok("create", "/v1/default:pods", pod).await;
    server
        .configure("mutating", "m", hook(asked.client_config("/"), json!({})))
        .await;

    let scale = json!({"spec": {"replicas": 9}});
    let scaled = server
        .ok("patch", "apps/v1/default:deployments/d/scale", scale)
        .await;
    assert_eq!(scaled["spec"]["replicas"], 5);
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "n"}});
    server.ok("create", "/v1/default:pods/p/binding", binding).await;
    let bound = server.ok("get", "/v1/default:pods/p", Value::Null).await;
    assert_eq!(bound["spec"]["nodeName"], "other");
    server
        .ok(
            "create",
            "/v1/default:pods/p/eviction",
            json!({"metadata": {"name": "p"}}),
        )
        .await;
    let kept = server.ok("get", "/v1/default:pods/p", Value::Null).await;
    assert_eq!(
        kept["metadata"].get("deletionTimestamp"),
        None,
        "the eviction was made a dry run"
    );
}

#[tokio::test]
async fn a_refusal_is_the_answer() {
    for kind in ["mutating", "validating"] {
        let (server, _hook) = with(kind, json!({}), |asked| {
            let status = json!({"code": 403, "reason": "Forbidden", "message": "no maps"});
            reply(
                asked,
                json!({"allowed": false, "status": status, "warnings": ["careful", "careful"]}),
            )
        })
        .await;
        let (code, status, warnings) = server.make("a").await;
        assert_eq!(
            (code, &status["reason"], &status["message"]),
            (
                403,
                &json!("Forbidden"),
                &json!("admission webhook \"h.example.com\" denied the request: no maps")
            )
        );
        assert_eq!(warnings, ["careful", "careful"]);
        let (code, _) = server
            .refused("get", "/v1/default:configmaps/a", Value::Null)
            .await;
        assert_eq!(code, 404);
    }
}

#[tokio::test]
async fn a_refused_delete_deletes_nothing() {
    for kind in ["mutating", "validating"] {
        let (server, _hook) = with(kind, json!({}), |asked| {
            let deletes = asked.body["request"]["operation"] == "DELETE";
            reply(asked, json!({"allowed": !deletes}))
        })
        .await;
        server.make("a").await;
        for (verb, path) in [
            ("delete", "/v1/default:configmaps/a"),
            ("deletecollection", "/v1/default:configmaps"),
        ] {
            let (code, message) = server.refused(verb, path, Value::Null).await;
            let expected = "admission webhook \"h.example.com\" denied the request without explanation";
            assert_eq!((code, message.as_str()), (400, expected));
        }
        server.ok("get", "/v1/default:configmaps/a", Value::Null).await;
    }
}

#[tokio::test]
async fn a_delete_cannot_be_patched() {
    let (server, _hook) = with("mutating", json!({}), |asked| {
        if asked.body["request"]["operation"] == "DELETE" {
            patch(asked, json!([{"op": "remove", "path": "/data"}]))
        } else {
            reply(asked, json!({}))
        }
    })
    .await;
    server.make("a").await;
    let (code, message) = server
        .refused("delete", "/v1/default:configmaps/a", Value::Null)
        .await;
    let expected = "Internal error occurred: admission webhook \"h.example.com\" attempted to modify the object, which \
        is not supported for this operation";
    assert_eq!((code, message.as_str()), (500, expected));
}

#[tokio::test]
async fn warnings_reach_the_client() {
    let (server, _hook) = with("validating", json!({}), |asked| {
        reply(asked, json!({"warnings": ["w"]}))
    })
    .await;
    let (code, _, warnings) = server.make("a").await;
    assert_eq!((code, warnings), (201, vec!["w".to_owned()]));
}

#[tokio::test]
async fn what_webhooks_say_for_the_audit_log_is_noted_under_their_names() {
    for (kind, allowed) in [("mutating", true), ("validating", true), ("validating", false)] {
        let (server, _hook) = with(kind, json!({}), move |asked| {
            reply(
                asked,
                json!({"allowed": allowed, "auditAnnotations": {"why": "so"}}),
            )
        })
        .await;
        let noted = Annotations::default();
        let (code, ..) = noted.clone().scope(server.make("a")).await;
        assert_eq!(code < 300, allowed, "{kind}");
        let noted = noted.all();
        let said: Vec<_> = noted
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(said, [("h.example.com/why", "so")], "{kind}");
    }
}

#[tokio::test]
async fn failures_count_as_the_failure_policy_says() {
    let prefix = "Internal error occurred: failed calling webhook \"h.example.com\": ";
    type Broken = fn(&crate::webhook::testing::Asked) -> Reply;
    let cases: [(Broken, &str); 4] = [
        (
            |_| Reply::raw(500, "text/plain", "broken"),
            "failed to call webhook: an error on the server (\"broken\") has prevented the request from succeeding",
        ),
        (
            |_| Reply::raw(200, "text/plain", "nonsense"),
            "failed to call webhook: couldn't get version/kind; json parse error: invalid character 'o' in literal null \
             (expecting 'u')",
        ),
        (
            |_| Reply::Json(json!({"response": {"allowed": true}})),
            "received invalid webhook response: expected response.uid=",
        ),
        (
            |_| Reply::Json(json!({})),
            "received invalid webhook response: webhook response was absent",
        ),
    ];
    for kind in ["mutating", "validating"] {
        for (broken, expected) in cases {
            let (server, _hook) = with(kind, json!({"failurePolicy": "Fail"}), broken).await;
            let (code, status, _) = server.make("a").await;
            let message = status["message"].as_str().unwrap_or_default();
            assert!(
                code == 500 && message.starts_with(&format!("{prefix}{expected}")),
                "{kind}: {code} {message}"
            );
            assert_eq!(status["reason"], "InternalError");
            let (server, _hook) = with(kind, json!({"failurePolicy": "Ignore"}), broken).await;
            assert_eq!(server.make("a").await.0, 201, "{kind}: {expected}");
        }
    }
    let undecodable: Broken = |asked| patch(asked, json!("no list"));
    let (server, _hook) = with("mutating", json!({}), undecodable).await;
    let (_, message) = server
        .refused(
            "create",
            "/v1/default:configmaps",
            json!({"metadata": {"name": "a"}}),
        )
        .await;
    let expected = format!("{prefix}received undecodable patch in webhook response: ");
    assert!(message.starts_with(&expected), "{message}");
    let odd: Broken = |asked| {
        let patch = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, r#"[{"op":"test"}]"#);
        reply(asked, json!({"patch": patch, "patchType": "Merge"}))
    };
    let (server, _hook) = with("mutating", json!({}), odd).await;
    let (_, message) = server
        .refused(
            "create",
            "/v1/default:configmaps",
            json!({"metadata": {"name": "a"}}),
        )
        .await;
    assert_eq!(message, format!("{prefix}unsupported patch type \"Merge\""));
}

#[tokio::test]
async fn a_webhook_that_cannot_be_reached_is_told_of() {
    let server = Server::new().await;
    let service = json!({"service": {"namespace": "default", "name": "gone"}});
    server
        .configure("validating", "v", hook(service, json!({"name": "a.example.com"})))
        .await;
    let (code, status, _) = server.make("a").await;
    assert_eq!(
        (code, status["message"].as_str()),
        (
            500,
            Some(
                "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \
                 \"https://gone.default.svc:443/?timeout=10s\": service \"gone\" not found"
            )
        )
    );
}

#[tokio::test]
async fn the_older_review_is_spoken_where_it_is_asked_for() {
    let versions = json!({"admissionReviewVersions": ["v0", "v1beta1", "v1"]});
    let (server, asked) = with("mutating", versions, |asked| {
        // Of this version the patch may say nothing of what it is.
        let patch = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            r#"[{"op":"add","path":"/data/new","value":"1"}]"#,
        );
        Reply::Json(json!({"response": {"allowed": true, "patch": patch}, "asked": asked.body["apiVersion"]}))
    })
    .await;
    let (code, made, _) = server.make("a").await;
    assert_eq!((code, &made["data"]["new"]), (201, &json!("1")));
    assert_eq!(asked.asked()[0].body["apiVersion"], "admission.k8s.io/v1beta1");
}

#[tokio::test]
async fn managed_fields_that_make_no_sense_are_taken_back() {
    let (server, _hook) = with("mutating", json!({}), |asked| {
        patch(
            asked,
            json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{"manager": "m"}]}]),
        )
    })
    .await;
    let (code, made, warnings) = server.make("a").await;
    assert_eq!(
        (code, &made["metadata"]["managedFields"][0]["operation"]),
        (201, &json!("Update"))
    );
    assert!(
        warnings[0].starts_with(".metadata.managedFields was in an invalid state after admission"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn tokens_are_admitted_as_below_their_account() {
    let server = Server::new().await;
    let asked = yes().await;
    server
        .configure("validating", "v", hook(asked.client_config("/"), json!({})))
        .await;
    let request = crate::api::ApiRequest {
        info: crate::api::RequestInfo {
            verb: "create".to_owned(),
            version: "v1".to_owned(),
            namespace: "default".to_owned(),
            resource: "serviceaccounts".to_owned(),
            name: "sa".to_owned(),
            subresource: "token".to_owned(),
            ..Default::default()
        },
        ..Default::default()
    };
    let mut object = json!({"kind": "TokenRequest", "spec": {}});
    let mut creation = crate::registry::Creation::new(&server.registry, &request).expect("known");
    creation.mutate(&mut object).await.expect("admitted");
    creation.validate(&object).await.expect("admitted");
    let request = crate::admission::kit::requests(&asked).remove(0);
    assert_eq!(
        (
            &request["kind"]["kind"],
            &request["subResource"],
            &request["name"]
        ),
        (&json!("TokenRequest"), &json!("token"), &json!("sa"))
    );
}

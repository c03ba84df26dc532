//! Whether webhooks are called: configurations as they come and go, selectors, conditions, dry runs, deadlines.

use serde_json::{Value, json};

use crate::admission::kit::{CONFIGURATIONS, Server, hook, reply, requests, rules, yes};
use crate::metrics::Metrics;
use crate::webhook::testing::{Hook, Reply};

#[tokio::test]
async fn a_configuration_counts_from_the_next_request_on() {
    let server = Server::new().await;
    let no = Hook::start(|asked| reply(asked, json!({"allowed": false}))).await;
    let only = json!({"rules": rules(&["CREATE"], "", "v1", "configmaps")});
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    for round in 0..3 {
        assert_eq!(server.make(&format!("before-{round}")).await.0, 201);
        server
            .configure("validating", "v", hook(no.client_config("/"), only.clone()))
            .await;
        assert_eq!(server.make("a").await.0, 400);
        let mut other = server.ok("get", &format!("{path}/v"), Value::Null).await;
        other["webhooks"][0]["rules"][0]["resources"] = json!(["secrets"]);
        server.ok("update", &format!("{path}/v"), other.clone()).await;
        assert_eq!(server.make(&format!("between-{round}")).await.0, 201);
        other["webhooks"][0]["rules"][0]["resources"] = json!(["configmaps"]);
        other["metadata"]["resourceVersion"] = Value::Null;
        server
            .ok(
                "patch",
                &format!("{path}/v"),
                json!({"webhooks": other["webhooks"]}),
            )
            .await;
        assert_eq!(server.make("a").await.0, 400);
        server.ok("delete", &format!("{path}/v"), Value::Null).await;
    }
}

#[tokio::test]
async fn configurations_can_be_mended_whatever_they_say() {
    let server = Server::new().await;
    let no = Hook::start(|asked| reply(asked, json!({"allowed": false}))).await;
    for kind in ["mutating", "validating"] {
        server
            .configure(kind, "all", hook(no.client_config("/"), json!({})))
            .await;
    }
    assert_eq!(server.make("a").await.0, 400);
    for kind in ["mutating", "validating"] {
        let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations/all");
        server.ok("delete", &path, Value::Null).await;
    }
    assert_eq!(server.make("a").await.0, 201);
}

#[tokio::test]
async fn selectors_choose_by_labels() {
    let (server, asked) = (Server::new().await, yes().await);
    let other = json!({"metadata": {"name": "other", "labels": {"team": "b"}}});
    server.ok("create", "/v1/namespaces", other).await;
    let change = json!({
        "namespaceSelector": {"matchLabels": {"team": "b"}},
        "objectSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]},
    });
    server
        .configure("validating", "v", hook(asked.client_config("/"), change))
        .await;
    let object = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    for (verb, path, body, called) in [
        (
            "create",
            "/v1/default:configmaps",
            object("a", json!({"x": ""})),
            false,
        ),
        ("create", "/v1/other:configmaps", object("a", json!({})), false),
        (
            "create",
            "/v1/other:configmaps",
            object("b", json!({"x": ""})),
            true,
        ),
        ("update", "/v1/other:configmaps/b", object("b", json!({})), true),
        (
            "update",
            "/v1/other:configmaps/b",
            object("b", json!({"y": ""})),
            false,
        ),
        // What is in no namespace has none that could be the wrong one.
        ("create", "/v1/nodes", object("n", json!({"x": ""})), true),
        // A namespace is chosen by its own labels.
        (
            "create",
            "/v1/namespaces",
            object("c", json!({"x": "", "team": "b"})),
            true,
        ),
        (
            "create",
            "/v1/namespaces",
            object("d", json!({"x": "", "team": "c"})),
            false,
        ),
        (
            "patch",
            "/v1/namespaces/d",
            json!({"metadata": {"labels": {"team": "b"}}}),
            true,
        ),
    ] {
        asked.take();
        server.ok(verb, path, body.clone()).await;
        assert_eq!(!asked.take().is_empty(), called, "{verb} {path} {body}");
    }
}

#[tokio::test]
async fn conditions_decide_whether_a_webhook_is_called() {
    let condition = |expression: &str| json!([{"name": "c", "expression": expression}]);
    let two = |a: &str, b: &str| json!([{"name": "a", "expression": a}, {"name": "b", "expression": b}]);
    let broken =
        "configmaps \"a\" is forbidden: expression 'object.none == 1' resulted in error: no such key: none";
    for (conditions, policy, expected) in [
        (condition("object.data.k == 'v'"), "Fail", Ok(true)),
        (condition("object.data.k == 'w'"), "Fail", Ok(false)),
        (
            condition("oldObject == null && request.operation == 'CREATE'"),
            "Fail",
            Ok(true),
        ),
        (
            condition("request.userInfo.username == 'alice'"),
            "Fail",
            Ok(true),
        ),
        (
            condition("authorizer.requestResource.check('create').allowed()"),
            "Fail",
            Ok(false),
        ),
        (condition("object.none == 1"), "Fail", Err(broken)),
        (condition("object.none == 1"), "Ignore", Ok(false)),
        // One that does not hold decides, whatever is wrong with others.
        (two("object.none == 1", "false"), "Fail", Ok(false)),
        (two("object.none == 1", "true"), "Fail", Err(broken)),
    ] {
        let (server, asked) = (Server::new().await, yes().await);
        let change = json!({"matchConditions": conditions, "failurePolicy": policy,
            "rules": rules(&["*"], "", "v1", "configmaps")});
        server
            .configure("validating", "v", hook(asked.client_config("/"), change))
            .await;
        let (code, answer, _) = server.make("a").await;
        match expected {
            Ok(called) => {
                assert_eq!((code, !asked.take().is_empty()), (201, called), "{conditions}");
            }
            Err(message) => assert_eq!((code, answer["message"].as_str()), (403, Some(message))),
        }
    }
    let mut server = Server::new().await;
    server.user.name = "admin".to_owned();
    let asked = yes().await;
    let change =
        json!({"matchConditions": condition("authorizer.group('').resource('pods').check('get').allowed()")});
    server
        .configure("validating", "v", hook(asked.client_config("/"), change))
        .await;
    server.make("a").await;
    assert_eq!(requests(&asked).len(), 1);
}

#[tokio::test]
async fn dry_runs_call_only_those_that_do_nothing() {
    let (server, asked) = (Server::new().await, yes().await);
    let path = "/v1/default:configmaps?dryRun=All";
    let object = json!({"metadata": {"name": "a"}});
    for (effects, policy, expected) in [
        ("None", "Fail", None),
        ("NoneOnDryRun", "Fail", None),
        (
            "Some",
            "Ignore",
            Some("admission webhook \"h.example.com\" does not support dry run"),
        ),
        (
            "Unknown",
            "Ignore",
            Some("admission webhook \"h.example.com\" does not support dry run"),
        ),
    ] {
        // What was stored by an older server may say what validation does not let through any more.
        let hook = hook(
            asked.client_config("/"),
            json!({"sideEffects": effects, "failurePolicy": policy}),
        );
        let configuration = json!({"metadata": {"name": "v"}, "webhooks": [hook]});
        let key = "/registry/validatingwebhookconfigurations/v";
        let txn = trimtab_apiserver_storage::Txn {
            success: vec![trimtab_apiserver_storage::Op::Put {
                key: key.into(),
                value: configuration.to_string().into(),
                ttl: None,
            }],
            ..Default::default()
        };
        server.registry.store().txn(txn).await.expect("stores");
        let (code, answer, _) = server.ask("create", path, object.clone()).await;
        match expected {
            None => assert_eq!(code, 201, "{answer}"),
            Some(message) => {
                assert_eq!(
                    (code, answer["reason"].as_str(), answer["message"].as_str()),
                    (400, Some("BadRequest"), Some(message))
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_does_not_answer_costs_its_time_or_the_requests() {
    for kind in ["mutating", "validating"] {
        let server = Server::new().await;
        let mute = Hook::start(|_| Reply::Never).await;
        let change = json!({"timeoutSeconds": 5, "rules": rules(&["*"], "", "v1", "configmaps")});
        let called = |change: Value| hook(mute.client_config("/"), change);
        server.configure(kind, "v", called(change.clone())).await;
        let (code, status, _) = server.make("a").await;
        let expected = format!(
            "Internal error occurred: failed calling webhook \"h.example.com\": failed to call webhook: Post \
             \"https://{}/?timeout=5s\": context deadline exceeded",
            mute.address
        );
        assert_eq!((code, status["message"].as_str()), (500, Some(expected.as_str())));

        let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations/v");
        let mut lenient = change;
        lenient["failurePolicy"] = "Ignore".into();
        let update = json!({"webhooks": [called(lenient)]});
        server.ok("patch", &path, update).await;
        assert_eq!(server.make("a").await.0, 201);
        let object = json!({"metadata": {"name": "b"}});
        let (code, message) = server
            .refused("create", "/v1/default:configmaps?timeout=2s", object)
            .await;
        let expected =
            "Timeout: request did not complete within requested timeout - context deadline exceeded";
        assert_eq!((code, message.as_str()), (504, expected), "{kind}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_told_of() {
    let (server, asked) = (Server::new().await, yes().await);
    let change = json!({"namespaceSelector": {"matchLabels": {"team": "a"}}});
    server
        .configure("validating", "v", hook(asked.client_config("/"), change))
        .await;
    let object = json!({"metadata": {"name": "a"}});
    let (code, message) = server.refused("create", "/v1/gone:configmaps", object).await;
    assert_eq!((code, message.as_str()), (404, "namespaces \"gone\" not found"));
}

#[tokio::test]
async fn calls_are_counted() {
    let server = Server::new().await;
    let asked = Hook::start(|asked| match asked.body["request"]["name"].as_str() {
        Some("denied") => reply(asked, json!({"allowed": false, "status": {"code": 403}})),
        Some("broken") => Reply::raw(500, "text/plain", ""),
        _ => reply(asked, json!({})),
    })
    .await;
    let change =
        |policy: &str| json!({"failurePolicy": policy, "rules": rules(&["*"], "", "v1", "configmaps")});
    server
        .configure("mutating", "m", hook(asked.client_config("/"), change("Ignore")))
        .await;
    server
        .configure("validating", "v", hook(asked.client_config("/"), change("Fail")))
        .await;
    for name in ["fine", "denied", "broken"] {
        server.make(name).await;
    }
    let text = Metrics::new(&server.policy_metrics, &server.metrics).text();
    for line in [
        "apiserver_admission_webhook_rejection_count{name=\"h.example.com\",type=\"admit\",operation=\"CREATE\",\
         error_type=\"no_error\",rejection_code=\"403\"} 1",
        "apiserver_admission_webhook_rejection_count{name=\"h.example.com\",type=\"validating\",operation=\"CREATE\",\
         error_type=\"calling_webhook_error\",rejection_code=\"500\"} 1",
        "apiserver_admission_webhook_fail_open_count{name=\"h.example.com\",type=\"admit\"} 1",
        "apiserver_admission_webhook_request_total{name=\"h.example.com\",type=\"admit\",operation=\"CREATE\",\
         code=\"200\",rejected=\"false\"} 1",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"h.example.com\",type=\"validating\",\
         operation=\"CREATE\",rejected=\"false\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

//! A whole server, without a listener: that its parts are put together.

mod access;
mod answers;
mod plugins;
mod rights;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trimtab_apiserver_storage::{Config, EmbeddedStore, MIGRATION, MemoryStore, Op, Store as _, Txn};

use super::{ApiServer, ApiService, Builder};
use crate::crd::conversion::tests as conversion;
use crate::webhook::testing::{Hook, Reply};

async fn server() -> ApiServer {
    let store = Arc::new(MemoryStore::new(Config::default()));
    ApiServer::builder(store).start().await.expect("starts")
}

/// Posts an object; answers code, warnings and body.
async fn post(service: &ApiService, path: &str, body: &Value) -> (StatusCode, Vec<String>, Value) {
    send(service, Method::POST, path, body).await
}

/// Sends an object; answers code, warnings and body.
async fn send(
    service: &ApiService,
    method: Method,
    path: &str,
    body: &Value,
) -> (StatusCode, Vec<String>, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = service.clone().oneshot(request).await.expect("answers");
    let code = response.status();
    let warnings = response.headers().get_all(http::header::WARNING);
    let warnings = warnings
        .iter()
        .map(|v| v.to_str().unwrap_or_default().to_owned())
        .collect();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (code, warnings, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_store_that_is_being_filled_is_not_served() {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let mark = Op::Put {
        key: MIGRATION.into(),
        value: r#"{"from": "/data", "base": 7}"#.into(),
        ttl: None,
    };
    let write = |op| Txn {
        success: vec![op],
        ..Txn::default()
    };
    store.txn(write(mark)).await.expect("writes");
    let refused = ApiServer::builder(store.clone())
        .start()
        .await
        .expect_err("is not whole");
    let text = refused.to_string();
    assert!(
        text.contains("`trimtab migrate --from /data --to etcd` again"),
        "{text}"
    );
    assert_eq!(store.revision().await.ok(), Some(2), "nothing is written");
    let gone = Op::Delete {
        key: MIGRATION.into(),
    };
    store.txn(write(gone)).await.expect("writes");
    ApiServer::builder(store).start().await.expect("starts");
}

#[tokio::test]
async fn webhooks_have_their_say_and_are_counted() {
    let (server, asked) = (
        server().await,
        Hook::start(|asked| {
            let review = &asked.body;
            let response = json!({"uid": review["request"]["uid"], "allowed": false, "warnings": ["mind", "mind"],
                "status": {"code": 403, "reason": "Forbidden", "message": "no"}});
            Reply::Json(json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}))
        })
        .await,
    );
    let service = server.service();
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps"]});
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "v"},
        "webhooks": [{"name": "h.example.com", "clientConfig": asked.client_config("/"), "rules": [rule],
            "admissionReviewVersions": ["v1"], "sideEffects": "None"}]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let (code, _, answer) = post(&service, path, &configuration).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let (code, warnings, answer) = post(&service, "/api/v1/namespaces/default/configmaps", &object).await;
    assert_eq!(
        (code, &answer["message"]),
        (
            StatusCode::FORBIDDEN,
            &json!("admission webhook \"h.example.com\" denied the request: no")
        )
    );
    // Once, though it was said twice, and though the request is refused.
    assert_eq!(warnings, ["299 - \"mind\""]);
    let request = Request::builder().uri("/metrics").body(Full::new(Bytes::new()));
    let response = service
        .clone()
        .oneshot(request.expect("a request"))
        .await
        .expect("answers");
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&text);
    let counted = "apiserver_admission_webhook_rejection_count{name=\"h.example.com\",type=\"validating\"";
    assert!(text.contains(counted), "{text}");
    server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_webhook_sees_custom_resources_in_the_version_that_it_knows() {
    let converter = Hook::start(conversion::convert).await;
    let asked = Hook::start(|asked| {
        let review = &asked.body;
        let operations = json!([{"op": "replace", "path": "/spec/x", "value": "changed"}]).to_string();
        let patch = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, operations);
        let response = json!({"uid": review["request"]["uid"], "allowed": true, "patch": patch,
            "patchType": "JSONPatch"});
        Reply::Json(
            json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}),
        )
    })
    .await;
    let server = server().await;
    let service = server.service();
    let definition = conversion::differing(converter.client_config("/"));
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, _, answer) = post(&service, path, &definition).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let rule = json!({"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
        "resources": ["widgets"]});
    let condition = json!({"name": "c", "expression": "object.spec.x == 'one'"});
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration", "metadata": {"name": "m"},
        "webhooks": [{"name": "h.example.com", "clientConfig": asked.client_config("/"), "rules": [rule],
            "matchConditions": [condition], "admissionReviewVersions": ["v1"], "sideEffects": "None"}]});
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let (code, _, answer) = post(&service, path, &configuration).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let object = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "a"},
        "spec": {"text": "[one]"}});
    let made = loop {
        let path = "/apis/example.com/v2/namespaces/default/widgets";
        let (code, _, answer) = post(&service, path, &object).await;
        // The definition is established by a task of its own.
        if code != StatusCode::NOT_FOUND {
            assert_eq!(code, StatusCode::CREATED, "{answer}");
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["text"]),
        (&json!("example.com/v2"), &json!("[changed]"))
    );
    let request = &asked.asked()[0].body["request"];
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(request["object"]["spec"]["x"], "one");
    server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn who_may_do_everything_may_take_a_snapshot() {
    let server = server().await;
    let service = server.service();
    let ask = |method: Method, user: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/trimtab/snapshot");
        if let Some(user) = user {
            request = request.header("Impersonate-User", user);
        }
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let service = service.clone();
        async move {
            let response = service.oneshot(request).await.expect("answers");
            let code = response.status().as_u16();
            (
                code,
                response.into_body().collect().await.expect("a body").to_bytes(),
            )
        }
    };
    assert_eq!(
        ask(Method::GET, Some("jane")).await.0,
        403,
        "it holds every Secret"
    );
    assert_eq!(ask(Method::POST, None).await.0, 405);
    let (code, bytes) = ask(Method::GET, None).await;
    assert_eq!(code, 200);
    let restored = MemoryStore::restore(Config::default(), &bytes[..], 0).expect("a whole backup");
    let all = trimtab_apiserver_storage::RangeRequest::prefix("/registry/");
    let (wanted, got) = (
        server.store.range(all.clone()).await.expect("reads"),
        trimtab_apiserver_storage::Store::range(&restored, all)
            .await
            .expect("reads"),
    );
    assert!(wanted.count > 50, "the first objects: {}", wanted.count);
    assert_eq!(got.kvs, wanted.kvs);
    server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn the_stores_figures_are_among_the_metrics() {
    let dir = std::env::temp_dir().join(format!("trimtab-figures-{}", uuid::Uuid::new_v4()));
    let store = Arc::new(EmbeddedStore::open(&dir, Config::default()).expect("opens"));
    let server = ApiServer::builder(store).start().await.expect("starts");
    let request = Request::builder().uri("/metrics").body(Full::new(Bytes::new()));
    let response = server
        .service()
        .oneshot(request.expect("a request"))
        .await
        .expect("answers");
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    server.shutdown().await.expect("stops");
    std::fs::remove_dir_all(&dir).expect("removes");
    for line in [
        "apiserver_storage_size_bytes{storage_cluster_id=\"embedded\"} ",
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_debugging_mvcc_current_revision ",
        "etcd_debugging_mvcc_compact_revision 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} ",
        "etcd_disk_wal_fsync_duration_seconds_count ",
        "trimtab_storage_failures_total 0",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
    }
}

/// Servers behind this one read whom it believes.
#[tokio::test]
async fn whom_the_server_believes_is_written_and_kept() {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ApiServer::builder(store)
        .bind("127.0.0.1:0".parse().expect("an address"))
        .start()
        .await
        .expect("starts");
    let service = server.service();
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let get = async || send(&service, Method::GET, path, &Value::Null).await;
    let (code, _, written) = get().await;
    assert_eq!(code, StatusCode::OK, "{written}");
    let authority = written["data"]["client-ca-file"].as_str().expect("an authority");
    assert!(
        authority.starts_with("-----BEGIN CERTIFICATE-----\n"),
        "{authority}"
    );
    let (code, ..) = send(&service, Method::DELETE, path, &Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let again = async {
        loop {
            let (code, _, again) = get().await;
            if code == StatusCode::OK {
                return again["data"].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let again = tokio::time::timeout(std::time::Duration::from_secs(60), again).await;
    assert_eq!(again.expect("is written again"), written["data"]);
    server.shutdown().await.expect("stops");
}

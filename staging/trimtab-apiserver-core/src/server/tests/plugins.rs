//! A whole server with its admission plugins and ways of saying who asks.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use trimtab_apiserver_auth::service_account::Issuer;
use trimtab_apiserver_storage::{Config, MemoryStore};

use super::{ApiServer, Builder, post, send};
use crate::admission::Plugins;

async fn start(change: impl FnOnce(Builder) -> Builder) -> ApiServer {
    let store = Arc::new(MemoryStore::new(Config::default()));
    change(ApiServer::builder(store)).start().await.expect("starts")
}

fn account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automountServiceAccountToken": false})
}

fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({"serviceAccountName": "a", "containers": [{"name": "c", "image": "i"}]});
    trimtab_apimachinery_schema::patch::merge(&mut spec, &more);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn plugins_are_asked_and_can_be_turned_off() {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let usual = start(|builder| builder).await;
    let chosen = Plugins::choose(
        &names(&["AlwaysPullImages"]),
        &names(&["PodSecurity", "ResourceQuota"]),
    );
    let other = start(|builder| builder.admission_plugins(chosen.expect("chosen"))).await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": labels}});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}});
    for (server, on) in [(&usual, true), (&other, false)] {
        let service = server.service();
        assert_eq!(
            post(&service, "/api/v1/namespaces", &namespace).await.0,
            StatusCode::CREATED
        );
        let path = "/api/v1/namespaces/ns/serviceaccounts";
        assert_eq!(post(&service, path, &account()).await.0, StatusCode::CREATED);
        let pods = "/api/v1/namespaces/ns/pods";
        let (code, warnings, made) = post(
            &service,
            pods,
            &pod("plain", json!({"containers": [{"name": "c", "image": "i:1"}]})),
        )
        .await;
        assert_eq!(
            (code, warnings.len()),
            (StatusCode::CREATED, usize::from(on)),
            "{made}"
        );
        let policy = if on { "IfNotPresent" } else { "Always" };
        assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], policy, "{made}");
        let (code, _, answer) = post(&service, pods, &pod("host", json!({"hostPID": true}))).await;
        let text = "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
        assert_eq!(
            code == StatusCode::FORBIDDEN && answer["message"] == text,
            on,
            "{answer}"
        );
        // A quota whose controller says what it limits, and what is used.
        let path = "/api/v1/namespaces/ns/resourcequotas";
        let (code, _, mut quota) = post(&service, path, &quota).await;
        assert_eq!(code, StatusCode::CREATED);
        quota["status"] = json!({"hard": {"pods": "0"}, "used": {"pods": "0"}});
        let path = "/api/v1/namespaces/ns/resourcequotas/q/status";
        assert_eq!(
            send(&service, http::Method::PUT, path, &quota).await.0,
            StatusCode::OK
        );
        let (code, _, answer) = post(&service, pods, &pod("more", json!({}))).await;
        assert_eq!(code == StatusCode::CREATED, !on, "{answer}");
    }
}

#[tokio::test]
async fn what_is_denied_is_denied_once_the_server_is_up() {
    let denying = Plugins::choose(&["AlwaysDeny".to_owned()], &[]).expect("chosen");
    let server = start(|builder| builder.admission_plugins(denying)).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let (code, _, answer) = post(&server.service(), "/api/v1/namespaces/default/configmaps", &map).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "configmaps \"m\" is forbidden: admission control is denying all modifications"
    );
}

#[tokio::test]
async fn bootstrap_tokens_are_believed_where_that_is_said() {
    let encoded = |text: &str| STANDARD.encode(text);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {
            "token-id": encoded("abcdef"),
            "token-secret": encoded("0123456789abcdef"),
            "usage-bootstrap-authentication": encoded("true"),
            "auth-extra-groups": encoded("system:bootstrappers:workers"),
        },
    });
    for believed in [true, false] {
        let server = start(|builder| builder.bootstrap_tokens(believed)).await;
        let service = server.service();
        let path = "/api/v1/namespaces/kube-system/secrets";
        assert_eq!(post(&service, path, &secret).await.0, StatusCode::CREATED);
        for (token, good) in [
            ("abcdef.0123456789abcdef", believed),
            ("abcdef.0123456789abcdeg", false),
        ] {
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
            let path = "/apis/authentication.k8s.io/v1/tokenreviews";
            let (_, _, answer) = post(&service, path, &review).await;
            let status = &answer["status"];
            assert_eq!(status["authenticated"] == true, good, "{answer}");
            if good {
                assert_eq!(status["user"]["username"], "system:bootstrap:abcdef");
                let groups = json!([
                    "system:bootstrappers",
                    "system:bootstrappers:workers",
                    "system:authenticated"
                ]);
                assert_eq!(status["user"]["groups"], groups);
            }
        }
    }
}

#[tokio::test]
async fn tokens_last_no_longer_than_the_server_says() {
    let issuer = Issuer::generate().expect("a key").lasting(Some(7200));
    let server = start(|builder| builder.issuer(issuer)).await;
    let service = server.service();
    let path = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(post(&service, path, &account()).await.0, StatusCode::CREATED);
    let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
    for (asked, lasts, warned) in [(3600, 3600, 0), (7200, 7200, 0), (86400, 7200, 1)] {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": asked}});
        let (code, warnings, answer) = post(&service, path, &request).await;
        assert_eq!(
            (code, warnings.len()),
            (StatusCode::CREATED, warned),
            "{answer} {warnings:?}"
        );
        assert_eq!(answer["spec"]["expirationSeconds"], lasts, "{answer}");
    }
}

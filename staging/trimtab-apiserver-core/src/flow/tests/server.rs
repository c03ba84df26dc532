//! Priority and fairness in a whole server: headers, refusals, statuses, figures.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::http::Body;
use crate::limits::{InFlight, Limits};
use crate::{ApiServer, ApiService};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

async fn server(in_flight: InFlight) -> ApiServer {
    let limits = Limits {
        in_flight,
        ..Limits::default()
    };
    let store = Arc::new(MemoryStore::new(Config::default()));
    ApiServer::builder(store)
        .limits(limits)
        .authorization(crate::auth::Mode::AlwaysAllow)
        .start()
        .await
        .expect("starts")
}

async fn ask(service: &ApiService, method: &str, path: &str, body: Value) -> Response<Body> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    service.clone().oneshot(request).await.expect("answers")
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn json_of(service: &ApiService, path: &str) -> Value {
    let text = text(ask(service, "GET", path, Value::Null).await).await;
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Asks until the answer is as it should be: the server takes changes in on its own.
async fn until(service: &ApiService, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let value = json_of(service, path).await;
            if is(&value) {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .expect("it becomes so")
}

fn jane(server: &ApiServer) -> ApiService {
    server.service().for_user(UserInfo {
        name: "jane".to_owned(),
        ..UserInfo::default()
    })
}

#[tokio::test]
async fn answers_say_by_which_objects_they_were_let_in() {
    let server = server(InFlight::default()).await;
    let admin = server.service();
    let uid = async |path: &str| {
        let object = json_of(&admin, &format!("{FLOW}/{path}")).await;
        object["metadata"]["uid"].as_str().unwrap_or("none").to_owned()
    };
    for (service, path, schema, level, code) in [
        (admin.clone(), "/api/v1/pods", "exempt", "exempt", 200),
        (
            jane(&server),
            "/api/v1/pods",
            "global-default",
            "global-default",
            200,
        ),
        (
            jane(&server),
            "/api/v1/nothing",
            "global-default",
            "global-default",
            404,
        ),
        (jane(&server), "/healthz", "probes", "exempt", 200),
    ] {
        let response = ask(&service, "GET", path, Value::Null).await;
        assert_eq!(response.status(), code);
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        let schema = uid(&format!("flowschemas/{schema}")).await;
        let level = uid(&format!("prioritylevelconfigurations/{level}")).await;
        assert_eq!(header("x-kubernetes-pf-flowschema-uid"), schema, "{path}");
        assert_eq!(header("x-kubernetes-pf-prioritylevel-uid"), level, "{path}");
    }
    let text = text(ask(&admin, "GET", "/metrics", Value::Null).await).await;
    for line in [
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\"} 2",
        "apiserver_flowcontrol_current_executing_requests{flow_schema=\"exempt\",priority_level=\"exempt\"} 1",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 245",
        "apiserver_flowcontrol_request_wait_duration_seconds_count{execute=\"true\",flow_schema=\"global-default\",priority_level=\"global-default\"} 2",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    let plain = InFlight {
        fair: false,
        ..InFlight::default()
    };
    let plain = super::server::server(plain).await;
    let response = ask(&plain.service(), "GET", "/api/v1/pods", Value::Null).await;
    assert!(!response.headers().contains_key("x-kubernetes-pf-flowschema-uid"));
    server.shutdown().await.expect("stops");
    plain.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there_and_is_put_to_use() {
    let server = server(InFlight::default()).await;
    let admin = server.service();
    let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "s"},
    "spec": {
        "matchingPrecedence": 10,
        "priorityLevelConfiguration": {"name": "l"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "jane"}}],
                   "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                                      "clusterScope": true}]}],
    }});
    let made = ask(&admin, "POST", &format!("{FLOW}/flowschemas"), schema).await;
    assert_eq!(made.status(), 201);
    let path = format!("{FLOW}/flowschemas/s");
    let condition = |value: &Value| value["status"]["conditions"][0].clone();
    let there = until(&admin, &path, |s| condition(s)["status"] == "True").await;
    assert_eq!(
        condition(&there)["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"l\" but there is no such object"
    );
    let managers = there["metadata"]["managedFields"].as_array().expect("some");
    assert!(managers.iter().any(|m| {
        m["manager"] == "api-priority-and-fairness-config-consumer-v1" && m["subresource"] == "status"
    }));
    let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "l"},
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    let path_of_levels = format!("{FLOW}/prioritylevelconfigurations");
    assert_eq!(ask(&admin, "POST", &path_of_levels, level).await.status(), 201);
    let there = until(&admin, &path, |s| condition(s)["status"] == "False").await;
    assert_eq!(condition(&there)["reason"], "Found");
    let response = ask(&jane(&server), "GET", "/api/v1/pods", Value::Null).await;
    assert_eq!(
        response.headers()["x-kubernetes-pf-flowschema-uid"],
        there["metadata"]["uid"].as_str().expect("a UID")
    );
    let dumped = text(
        ask(
            &admin,
            "GET",
            "/debug/api_priority_and_fairness/dump_priority_levels",
            Value::Null,
        )
        .await,
    )
    .await;
    let line = dumped
        .lines()
        .find(|line| line.starts_with("l,"))
        .expect("the level");
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    assert_eq!(
        cells,
        ["l", "0", "true", "false", "0", "0", "1", "0", "0", "0", ""],
        "{dumped}"
    );
    for name in ["dump_queues", "dump_requests"] {
        let path = format!("/debug/api_priority_and_fairness/{name}");
        assert_eq!(ask(&admin, "GET", &path, Value::Null).await.status(), 200);
    }
    server.shutdown().await.expect("stops");
}

/// A body that does not come.
fn stalled() -> StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>>> {
    StreamBody::new(futures::stream::pending().map(|()| Ok(Frame::data(Bytes::new()))))
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_seat_is_told_to_come_again() {
    // Of three seats each level has one, at least.
    let server = server(InFlight {
        reading: 2,
        mutating: 1,
        fair: true,
    })
    .await;
    let path = "/api/v1/namespaces/default/configmaps";
    let client = jane(&server);
    let post = |client: ApiService| async move {
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("content-type", "application/json")
            .body(stalled())
            .expect("a request");
        client.oneshot(request).await.expect("answers")
    };
    // More than the level has seats, whatever others lend it.
    let posts: Vec<_> = (0..10).map(|_| tokio::spawn(post(client.clone()))).collect();
    tokio::task::yield_now().await;
    let second = tokio::spawn(ask_owned(client.clone(), path));
    tokio::task::yield_now().await;
    let response = second.await.expect("ends");
    assert_eq!(response.status(), 429, "after a quarter of the time that it has");
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.headers().contains_key("x-kubernetes-pf-flowschema-uid"));
    assert_eq!(
        text(response).await,
        "Too many requests, please try again later.\n"
    );
    let admin = ask(&server.service(), "GET", path, Value::Null).await;
    assert_eq!(admin.status(), 200, "who is exempt does not wait");
    let mut codes = Vec::new();
    for post in posts {
        let response = post.await.expect("ends");
        let code = response.status().as_u16();
        if code == 504 {
            let status: Value = serde_json::from_str(&text(response).await).expect("a status");
            let why = "Timeout: request did not complete within the allotted timeout";
            assert_eq!(
                (&status["reason"], &status["message"]),
                (&json!("Timeout"), &json!(why))
            );
        }
        codes.push(code);
    }
    assert!(codes.iter().all(|code| matches!(code, 429 | 504)), "{codes:?}");
    assert!(
        codes.contains(&504),
        "some had a seat, and their bodies did not come: {codes:?}"
    );
    let after = ask(&client, "GET", path, Value::Null).await;
    assert_eq!(after.status(), 200, "their seats came back");
    server.shutdown().await.expect("stops");
}

async fn ask_owned(service: ApiService, path: &str) -> Response<Body> {
    ask(&service, "GET", path, Value::Null).await
}

#[tokio::test]
async fn a_watch_holds_its_seat_until_it_has_begun() {
    let server = server(InFlight {
        reading: 2,
        mutating: 1,
        fair: true,
    })
    .await;
    let client = jane(&server);
    let path = "/api/v1/namespaces/default/configmaps";
    let mut open = Vec::new();
    for _ in 0..5 {
        let response = ask(&client, "GET", &format!("{path}?watch=1"), Value::Null).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        assert!(
            futures::poll!(std::pin::pin!(body.frame())).is_pending(),
            "nothing is there"
        );
        open.push(body);
    }
    assert_eq!(ask(&client, "GET", path, Value::Null).await.status(), 200);
    server.shutdown().await.expect("stops");
}

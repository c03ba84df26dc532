//! What a whole server writes down of requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_storage::{Config, MemoryStore};

use super::{Audit, Batching, LogConfig, Mode, Policy, Rotation, Truncation, WebhookConfig, annotate};
use crate::webhook::testing::{Hook, Reply};
use crate::{ApiServer, ApiService};

struct Kit {
    server: ApiServer,
    folder: PathBuf,
}

impl Kit {
    async fn new(rules: &str, mode: Mode) -> Self {
        Self::truncating(rules, mode, None).await
    }

    async fn truncating(rules: &str, mode: Mode, truncation: Option<Truncation>) -> Self {
        let folder = std::env::temp_dir().join(format!("trimtab-audited-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        let policy = Policy::read(&text, "p".to_owned()).expect("a policy");
        let log = LogConfig {
            path: folder.join("audit.log"),
            rotation: Rotation::default(),
            mode,
            truncation,
        };
        let audit = Audit::new(policy).with_log(&log).expect("opens");
        let store = Arc::new(MemoryStore::new(Config::default()));
        let server = ApiServer::builder(store)
            .audit(audit)
            .start()
            .await
            .expect("starts");
        Self { server, folder }
    }

    fn events(&self) -> Vec<Value> {
        events(&self.folder)
    }

    async fn stop(self) -> Vec<Value> {
        self.server.shutdown().await.expect("stops");
        let events = events(&self.folder);
        std::fs::remove_dir_all(&self.folder).expect("removes");
        events
    }
}

fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("audit.log")).expect("a log");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"));
    lines.collect()
}

async fn send(service: &ApiService, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())));
    let response = service
        .clone()
        .oneshot(request.expect("a request"))
        .await
        .expect("answers");
    let code = response.status().as_u16();
    response.into_body().collect().await.expect("a body");
    code
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn as_much_is_written_as_the_policy_wants() {
    let kit = Kit::new(
        r#"
- {level: None, nonResourceURLs: ["*"]}
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: Request, verbs: [update, patch], omitManagedFields: true}
- {level: RequestResponse, omitStages: [RequestReceived], omitManagedFields: true}
"#,
        Mode::Blocking,
    )
    .await;
    let service = kit.server.service();
    let json_type = ("content-type", "application/json");
    let secret = r#"{"metadata": {"name": "s"}, "stringData": {"password": "hidden"}}"#;
    let code = send(
        &service,
        "POST",
        "/api/v1/namespaces/default/secrets",
        &[json_type],
        secret,
    )
    .await;
    assert_eq!(code, 201);
    assert_eq!(send(&service, "GET", "/version", &[], "").await, 200);
    let headers = [
        json_type,
        ("audit-id", "mine"),
        ("user-agent", "test/1"),
        ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
        ("impersonate-user", "jane"),
        ("impersonate-group", "system:masters"),
    ];
    let map = r#"{"metadata": {"name": "m"}, "data": {"k": "v"}}"#;
    assert_eq!(
        send(&service, "POST", &format!("{MAPS}?dryRun=All"), &headers, map).await,
        201
    );
    assert_eq!(send(&service, "POST", MAPS, &[json_type], map).await, 201);
    let merge = ("content-type", "application/merge-patch+json");
    assert_eq!(
        send(
            &service,
            "PATCH",
            &format!("{MAPS}/m"),
            &[merge],
            r#"{"data": {"k": "w"}}"#
        )
        .await,
        200
    );
    assert_eq!(send(&service, "GET", &format!("{MAPS}/none"), &[], "").await, 404);
    assert_eq!(send(&service, "GET", MAPS, &[], "").await, 200);
    let jane = service.for_user(UserInfo {
        name: "jane".to_owned(),
        ..UserInfo::default()
    });
    assert_eq!(send(&jane, "GET", MAPS, &[], "").await, 403);
    let events = kit.stop().await;
    let text = serde_json::to_string(&events).expect("text");
    assert!(
        !text.contains("hidden") && !text.contains("aGlkZGVu"),
        "no more of secrets than is wanted"
    );
    let stages: Vec<&str> = events
        .iter()
        .map(|e| e["stage"].as_str().expect("a stage"))
        .collect();
    let (came, gone) = ("RequestReceived", "ResponseComplete");
    assert_eq!(stages, [came, gone, gone, gone, came, gone, gone, gone, gone]);
    let [_, secret, dry, made, _, patched, missing, list, refused] = &events[..] else {
        panic!("nine");
    };
    assert_eq!(secret["level"], "Metadata");
    assert_eq!(
        secret["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "apiVersion": "v1"})
    );
    assert_eq!(secret["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(secret["annotations"]["authorization.k8s.io/decision"], "allow");
    for (field, value) in [
        ("kind", json!("Event")),
        ("apiVersion", json!("audit.k8s.io/v1")),
        ("auditID", json!("mine")),
        ("verb", json!("create")),
        ("requestURI", json!(format!("{MAPS}?dryRun=All"))),
        ("userAgent", json!("test/1")),
        ("sourceIPs", json!(["10.0.0.1", "10.0.0.2"])),
    ] {
        assert_eq!(dry[field], value, "{field}");
    }
    assert_eq!(dry["user"]["username"], "kubernetes-admin");
    assert_eq!(dry["impersonatedUser"]["username"], "jane");
    assert!(
        dry.get("authenticationMetadata").is_none(),
        "nobody is a master by a rule about some requests"
    );
    assert_eq!(made["objectRef"]["name"], "m", "what the path did not name");
    assert_eq!(made["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(made["responseObject"]["data"], json!({"k": "v"}));
    assert!(made["responseObject"]["metadata"]["uid"].is_string());
    assert!(made["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(patched["requestObject"], json!({"data": {"k": "w"}}));
    assert!(patched.get("responseObject").is_none());
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseObject"]["kind"], "Status");
    assert_eq!(list["responseObject"]["kind"], "ConfigMapList");
    assert!(
        list["responseObject"]["items"][0]["metadata"]
            .get("managedFields")
            .is_none()
    );
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(refused["responseStatus"]["code"], 403);
    assert!(refused["requestReceivedTimestamp"].as_str() <= refused["stageTimestamp"].as_str());
}

#[tokio::test]
async fn what_is_too_long_is_left_out_of_events() {
    let truncation = |max_event| {
        Some(Truncation {
            max_event,
            ..Truncation::default()
        })
    };
    let rules = "- {level: RequestResponse, verbs: [create], omitStages: [RequestReceived]}";
    for mode in [Mode::Blocking, Mode::Batch] {
        for (max_event, written, whole) in [(100_000, true, true), (2000, true, false), (100, false, false)] {
            let kit = Kit::truncating(rules, mode, truncation(max_event)).await;
            let map = json!({"metadata": {"name": "m"}, "data": {"k": "v".repeat(3000)}});
            let headers = [("content-type", "application/json")];
            let code = send(&kit.server.service(), "POST", MAPS, &headers, &map.to_string()).await;
            assert_eq!(code, 201);
            let events = kit.stop().await;
            assert_eq!(events.len(), usize::from(written), "{max_event}");
            let Some(event) = events.first() else { continue };
            assert_eq!(event["objectRef"]["name"], "m");
            for object in ["requestObject", "responseObject"] {
                assert_eq!(event.get(object).is_some(), whole, "{max_event} {object}");
            }
            let said = &event["annotations"]["audit.k8s.io/truncated"];
            assert_eq!(*said == "true", !whole, "{max_event}");
        }
    }
}

#[tokio::test]
async fn a_watch_has_a_beginning_and_an_end() {
    let kit = Kit::new("- {level: Metadata, verbs: [watch]}", Mode::Blocking).await;
    let request = Request::builder()
        .uri(format!("{MAPS}?watch=1"))
        .body(Full::new(Bytes::new()));
    let response = kit
        .server
        .service()
        .oneshot(request.expect("a request"))
        .await
        .expect("answers");
    let stages = |kit: &Kit| -> Vec<String> {
        let events = kit.events();
        events
            .iter()
            .map(|e| e["stage"].as_str().expect("a stage").to_owned())
            .collect()
    };
    assert_eq!(stages(&kit), ["RequestReceived", "ResponseStarted"]);
    drop(response);
    assert_eq!(
        stages(&kit),
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
    let last = kit.stop().await.pop().expect("some");
    assert_eq!(last["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn events_that_are_written_later_are_written_before_the_end() {
    let kit = Kit::new(
        "- {level: Metadata, resources: [{resources: [configmaps]}]}",
        Mode::Batch,
    )
    .await;
    let service = kit.server.service();
    for _ in 0..100 {
        assert_eq!(send(&service, "GET", MAPS, &[], "").await, 200);
    }
    drop(service);
    let folder = kit.folder.clone();
    kit.server.shutdown().await.expect("stops");
    assert_eq!(events(&folder).len(), 200);
    std::fs::remove_dir_all(&folder).expect("removes");
}

#[tokio::test]
async fn annotations_are_of_the_request_that_is_answered_and_the_first_stays() {
    annotate("example.com/nowhere", || panic!("there is no request"));
    let annotations = super::Annotations::default();
    annotations
        .clone()
        .scope(async {
            annotate("example.com/a", || "first".to_owned());
            tokio::task::yield_now().await;
            annotate("example.com/a", || "second".to_owned());
        })
        .await;
    let all = annotations.all();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("example.com/a".to_owned(), "first".to_owned())]
    );
}

#[tokio::test]
async fn a_request_that_fails_badly_is_written_as_such() {
    let folder = std::env::temp_dir().join(format!("trimtab-panic-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("a folder");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]";
    let log = LogConfig {
        path: folder.join("audit.log"),
        rotation: Rotation::default(),
        mode: Mode::BlockingStrict,
        truncation: None,
    };
    let policy = Policy::read(text, "p".to_owned()).expect("a policy");
    let audit = Arc::new(Audit::new(policy).with_log(&log).expect("opens"));
    let headers = http::HeaderMap::new();
    let origin = super::Origin {
        uri: "/x",
        headers: &headers,
        address: None,
    };
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let (nobody, nothing) = (
        UserInfo::anonymous(),
        trimtab_apiserver_auth::Attributes::default(),
    );
    let begun = || audit.begin("id", &nobody, &nothing, origin, end);
    let record = begun().await.expect("is written").expect("is wanted");
    let failed = std::thread::spawn(move || {
        let _record = record;
        std::panic::resume_unwind(Box::new("bad"));
    });
    assert!(failed.join().is_err());
    drop(begun().await);
    let all = events(&folder);
    let stages: Vec<&Value> = all.iter().map(|e| &e["stage"]).collect();
    assert_eq!(
        stages,
        ["RequestReceived", "Panic", "RequestReceived", "ResponseComplete"]
    );
    assert_eq!(all[1]["responseStatus"]["code"], 500);
    assert_eq!(all[3]["responseStatus"]["message"], "Connection closed early");
    std::fs::remove_dir_all(&folder).expect("removes");
}

/// A kubeconfig that names a webhook.
fn kubeconfig(hook: &Hook, folder: &Path) -> PathBuf {
    let file = folder.join("hook");
    std::fs::write(folder.join("ca"), &hook.authority).expect("writes");
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": format!("https://{}/events", hook.address),
            "certificate-authority": "ca"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    std::fs::write(&file, config.to_string()).expect("writes");
    file
}

async fn with_webhook(hook: &Hook, mode: Mode, truncation: Option<Truncation>) -> (ApiServer, PathBuf) {
    let folder = std::env::temp_dir().join(format!("trimtab-audit-hook-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("a folder");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]";
    let config = WebhookConfig {
        config_file: kubeconfig(hook, &folder),
        mode,
        batch: Batching {
            most: 3,
            wait: std::time::Duration::from_secs(3600),
            ..Batching::default()
        },
        truncation,
        initial_backoff: std::time::Duration::ZERO,
    };
    let policy = Policy::read(text, "p".to_owned()).expect("a policy");
    let audit = Audit::new(policy).with_webhook(&config).expect("is read");
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ApiServer::builder(store)
        .audit(audit)
        .start()
        .await
        .expect("starts");
    (server, folder)
}

/// The paths of what a webhook was told, and how many events each list had.
fn told(hook: &Hook) -> (Vec<String>, Vec<usize>) {
    let lists: Vec<Value> = hook.asked().into_iter().map(|asked| asked.body).collect();
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let text = |event: &Value| {
        let (uri, stage) = (&event["requestURI"], &event["stage"]);
        format!(
            "{} {}",
            uri.as_str().unwrap_or_default(),
            stage.as_str().unwrap_or_default()
        )
    };
    let mut events: Vec<String> = lists
        .iter()
        .flat_map(|list| items(list).iter().map(text).collect::<Vec<_>>())
        .collect();
    events.sort();
    (events, lists.iter().map(|list| items(list).len()).collect())
}

#[tokio::test]
async fn events_are_sent_in_batches_again_if_need_be_and_all_of_them_in_the_end() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let hook = Hook::start(
        move |_| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Reply::raw(500, "text/plain", "not now"),
            _ => Reply::raw(200, "text/plain", ""),
        },
    )
    .await;
    let (server, folder) = with_webhook(&hook, Mode::Batch, None).await;
    let service = server.service();
    for path in ["/version", "/api"] {
        assert_eq!(send(&service, "GET", path, &[], "").await, 200);
    }
    server.shutdown().await.expect("stops");
    let (events, sizes) = told(&hook);
    // The first list has been sent twice.
    let mut all = sizes.clone();
    all.sort_unstable();
    assert_eq!(all, [1, 3, 3], "{events:?}");
    for stage in [
        "/api RequestReceived",
        "/api ResponseComplete",
        "/version ResponseComplete",
    ] {
        assert!(events.iter().any(|event| event == stage), "{stage}: {events:?}");
    }
    let asked = hook.asked();
    assert_eq!(
        (asked[0].path_and_query.as_str(), &asked[0].body["kind"]),
        ("/events", &json!("EventList"))
    );
    std::fs::remove_dir_all(folder).expect("removes");
}

#[tokio::test]
async fn batches_that_would_be_too_long_are_several() {
    let hook = Hook::start(|_| Reply::raw(200, "text/plain", "")).await;
    let truncation = Truncation {
        max_batch: 1,
        ..Truncation::default()
    };
    let (server, folder) = with_webhook(&hook, Mode::Batch, Some(truncation)).await;
    let service = server.service();
    for path in ["/version", "/api"] {
        assert_eq!(send(&service, "GET", path, &[], "").await, 200);
    }
    server.shutdown().await.expect("stops");
    let (events, sizes) = told(&hook);
    assert!(
        events.len() >= 4 && sizes.iter().all(|size| *size == 1),
        "{events:?} {sizes:?}"
    );
    std::fs::remove_dir_all(folder).expect("removes");
}

#[tokio::test]
async fn who_cannot_be_written_of_is_refused_where_that_is_wanted() {
    for (mode, code, expected) in [
        (Mode::BlockingStrict, 500, 500),
        (Mode::Blocking, 500, 200),
        (Mode::BlockingStrict, 200, 200),
    ] {
        let hook = Hook::start(move |_| Reply::raw(code, "text/plain", "")).await;
        let (server, folder) = with_webhook(&hook, mode, None).await;
        assert_eq!(
            send(&server.service(), "GET", "/version", &[], "").await,
            expected,
            "{mode:?} {code}"
        );
        assert_eq!(hook.asked()[0].body["items"][0]["stage"], "RequestReceived");
        server.shutdown().await.expect("stops");
        std::fs::remove_dir_all(folder).expect("removes");
    }
}

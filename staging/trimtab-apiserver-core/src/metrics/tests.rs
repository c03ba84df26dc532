//! What a whole server tells of itself, under the names by which dashboards look for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::{ApiServer, ApiService};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(
    service: &ApiService,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> (u16, Bytes) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Full::new(Bytes::from(body.to_owned())));
    let response = service
        .clone()
        .oneshot(request.expect("a request"))
        .await
        .expect("answers");
    let code = response.status().as_u16();
    (
        code,
        response.into_body().collect().await.expect("a body").to_bytes(),
    )
}

/// Samples by name and labels.
async fn samples(service: &ApiService) -> BTreeMap<String, f64> {
    let (_, text) = send(service, "GET", "/metrics", "", "").await;
    let text = String::from_utf8(text.to_vec()).expect("text");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    samples
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

#[tokio::test]
async fn requests_and_caches_are_counted_under_the_names_of_kube_apiserver() {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = ApiServer::builder(store).start().await.expect("starts");
    let service = server.service();
    let json = "application/json";
    let one = r#"{"metadata": {"name": "one"}}"#;
    let watch = Request::builder()
        .uri(format!("{MAPS}?watch=1"))
        .body(Full::new(Bytes::new()));
    let watch = service
        .clone()
        .oneshot(watch.expect("a request"))
        .await
        .expect("answers");
    let mut watch = watch.into_body();
    for (method, path, content_type, body, code) in [
        ("POST", MAPS.to_owned(), json, one, 201),
        (
            "POST",
            format!("{MAPS}?dryRun=All"),
            json,
            r#"{"metadata": {"name": "two"}}"#,
            201,
        ),
        ("GET", format!("{MAPS}/one"), json, "", 200),
        ("GET", MAPS.to_owned(), json, "", 200),
        (
            "PATCH",
            format!("{MAPS}/one"),
            "application/merge-patch+json",
            "{}",
            200,
        ),
        (
            "PATCH",
            format!("{MAPS}/one?fieldManager=x"),
            "application/apply-patch+yaml",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}",
            200,
        ),
        ("GET", "/api/v1/made-up-things".to_owned(), json, "", 404),
        ("GET", "/made-up".to_owned(), json, "", 404),
        ("GET", "/readyz".to_owned(), json, "", 200),
    ] {
        assert_eq!(
            send(&service, method, &path, content_type, body).await.0,
            code,
            "{method} {path}"
        );
    }
    let event = watch
        .frame()
        .await
        .expect("an event")
        .expect("whole")
        .into_data()
        .expect("data");
    let (_, text) = send(&service, "GET", "/metrics", "", "").await;
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("\n# TYPE apiserver_request_total counter\napiserver_request_total{"),
        "{text}"
    );
    let samples = samples(&service).await;
    let of = |verb: &str, scope: &str| {
        format!(
            "group=\"\",resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\""
        )
    };
    let count = |code: u16, dry: &str, verb: &str, scope: &str| {
        let of = of(verb, scope);
        format!("apiserver_request_total{{code=\"{code}\",dry_run=\"{dry}\",component=\"apiserver\",{of}}}")
    };
    let (namespace, resource) = ("namespace", "resource");
    let admitted = |operation: &str| format!("operation=\"{operation}\",rejected=\"false\",type=\"admit\"");
    let cache = "{group=\"\",resource=\"configmaps\"}";
    for (name, value) in [
        (count(201, "", "POST", namespace), 1.0),
        (count(201, "All", "POST", namespace), 1.0),
        (count(200, "", "GET", resource), 1.0),
        (count(200, "", "LIST", namespace), 1.0),
        (count(200, "", "WATCH", namespace), 1.0),
        (count(200, "", "PATCH", resource), 1.0),
        (count(200, "", "APPLY", resource), 1.0),
        (
            format!(
                "apiserver_request_duration_seconds_count{{dry_run=\"\",component=\"apiserver\",{}}}",
                of("GET", resource)
            ),
            1.0,
        ),
        (
            format!(
                "apiserver_response_sizes_count{{component=\"apiserver\",{}}}",
                of("LIST", namespace)
            ),
            1.0,
        ),
        (
            format!(
                "apiserver_longrunning_requests{{component=\"apiserver\",{}}}",
                of("WATCH", namespace)
            ),
            1.0,
        ),
        (
            "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"}".to_owned(),
            1.0,
        ),
        (
            "apiserver_watch_events_sizes_sum{group=\"\",resource=\"configmaps\",version=\"v1\"}".to_owned(),
            event.len() as f64,
        ),
        (format!("apiserver_watch_cache_initializations_total{cache}"), 1.0),
        (
            format!("apiserver_watch_cache_events_dispatched_total{cache}"),
            1.0,
        ),
        (format!("apiserver_resource_objects{cache}"), 1.0),
        (
            format!("apiserver_watch_cache_read_wait_seconds_count{cache}"),
            2.0,
        ),
        (format!("apiserver_storage_list_total{cache}"), 0.0),
        (
            "apiserver_cache_list_returned_objects_total{group=\"\",resource=\"configmaps\",index=\"\"}"
                .to_owned(),
            1.0,
        ),
        ("apiserver_audit_event_total".to_owned(), 0.0),
        (
            "authentication_duration_seconds_count{result=\"success\"}".to_owned(),
            12.0,
        ),
        (
            "authorization_duration_seconds_count{result=\"allowed\"}".to_owned(),
            12.0,
        ),
        (
            "apiserver_storage_objects{resource=\"configmaps\"}".to_owned(),
            1.0,
        ),
        (
            "authorization_attempts_total{result=\"allowed\"}".to_owned(),
            12.0,
        ),
        ("authentication_attempts{result=\"success\"}".to_owned(), 12.0),
        ("authenticated_user_requests{username=\"other\"}".to_owned(), 12.0),
    ] {
        assert_eq!(samples.get(&name), Some(&value), "{name}: {samples:#?}");
    }
    for name in [
        format!(
            "apiserver_admission_step_admission_duration_seconds_count{{{}}}",
            admitted("CREATE")
        ),
        format!(
            "apiserver_admission_controller_admission_duration_seconds_count{{name=\"NamespaceLifecycle\",{}}}",
            admitted("CREATE")
        ),
    ] {
        let count = samples.get(&name).copied().unwrap_or_default();
        assert!(
            count >= 2.0,
            "{name}: {count}, with what the server has made itself"
        );
    }
    let made_up = samples.keys().filter(|name| name.contains("made-up"));
    assert_eq!(made_up.count(), 0, "nobody makes up labels");
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(samples.contains_key(name), "{name}");
    }
    drop(watch);
    let after = self::samples(&service).await;
    let name = format!(
        "apiserver_longrunning_requests{{component=\"apiserver\",{}}}",
        of("WATCH", namespace)
    );
    assert_eq!(after.get(&name), Some(&0.0), "it has ended");
    server.shutdown().await.expect("stops");
}

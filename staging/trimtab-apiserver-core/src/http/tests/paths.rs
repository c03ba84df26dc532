//! Paths that are no resources, and those that lead nowhere.

use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::ServiceExt as _;

use super::super::health::STARTED;
use super::{ApiService, Bytes, Client, Config, JSON, MemoryStore};

impl Client {
    async fn read(&self, path: &str, accept: &str) -> (u16, String) {
        read(&self.service, path, accept).await
    }
}

/// The code and the body of an answer.
async fn read(service: &ApiService, path: &str, accept: &str) -> (u16, String) {
    let request = Request::builder()
        .uri(path)
        .header("accept", accept)
        .header("host", "there:6443")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn nothing_is_between_two_slashes() {
    let client = Client::new().await;
    let (status, page, found) = ("\"reason\":\"NotFound\"", "404 page not found\n", "");
    for (path, code, expected) in [
        ("/api//v1/pods", 404, status),
        ("/api//v1", 404, status),
        ("/api/v1/namespaces/default//pods", 404, status),
        ("/apis/apps//v1", 404, status),
        ("/apis/apps/v1//deployments", 404, status),
        ("//api/v1/pods", 404, page),
        ("//apis/apps/v1/deployments", 404, page),
        ("/apis//apps/v1", 404, page),
        ("/apis/example.com//v1/foos", 404, page),
        ("//version", 404, page),
        ("/healthz/", 404, page),
        ("/openapi/v2/", 404, page),
        ("/api/", 200, found),
        ("/api/v1/", 200, found),
        ("/api/v1/pods//", 200, found),
        ("/api/v1/namespaces/default/", 200, found),
        ("/apis/apps/v1/", 200, found),
        ("/version/", 200, found),
        ("/index.html", 200, "\"/readyz/shutdown\""),
    ] {
        let (got, body) = client.read(path, JSON).await;
        assert!(got == code && body.contains(expected), "{path}: {got} {body}");
    }
    client.server.shutdown().await.unwrap();
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let client = Client::new().await;
    let hooks: String = STARTED.iter().map(|hook| format!("[+]{hook} ok\n")).collect();
    let ready = |etcd: &str| {
        format!(
            "[+]ping ok\n[+]log ok\n{etcd}\n[+]etcd-readiness ok\n[+]informer-sync ok\n{hooks}[+]shutdown ok\n"
        )
    };
    let passed = "readyz check passed\n";
    for (path, code, expected) in [
        ("/healthz", 200, "ok".to_owned()),
        (
            "/healthz?verbose",
            200,
            format!("[+]ping ok\n[+]log ok\n[+]etcd ok\n{hooks}healthz check passed\n"),
        ),
        ("/livez/etcd", 200, "ok".to_owned()),
        ("/livez/poststarthook/rbac/bootstrap-roles", 200, "ok".to_owned()),
        (
            "/livez/poststarthook/rbac",
            404,
            "404 page not found\n".to_owned(),
        ),
        ("/livez/shutdown", 404, "404 page not found\n".to_owned()),
        ("/readyz/informer-sync?verbose", 200, "ok".to_owned()),
        ("/readyz?exclude=etcd", 200, "ok".to_owned()),
        (
            "/readyz?verbose&exclude=etcd",
            200,
            ready("[+]etcd excluded: ok") + passed,
        ),
        (
            "/readyz?verbose&exclude=a&exclude=b",
            200,
            ready("[+]etcd ok")
                + "warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\n"
                + passed,
        ),
    ] {
        assert_eq!(client.read(path, JSON).await, (code, expected), "{path}");
    }
    let Client { server, service } = client;
    server.shutdown().await.unwrap();
    let (code, body) = read(&service, "/readyz", JSON).await;
    assert_eq!(code, 500);
    assert!(
        body.ends_with("[-]shutdown failed: reason withheld\nreadyz check failed\n"),
        "{body}"
    );
}

#[tokio::test]
async fn what_checks_came_to_is_counted() {
    let client = Client::new().await;
    let figures = async || client.read("/metrics/slis", JSON).await.1;
    assert!(
        !figures().await.contains("kubernetes_healthcheck{"),
        "nobody has asked"
    );
    for path in ["/readyz", "/readyz/etcd", "/readyz?exclude=ping"] {
        assert_eq!(client.read(path, JSON).await.0, 200, "{path}");
    }
    let text = figures().await;
    for line in [
        "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1\n",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 3\n",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 1\n",
        "# TYPE kubernetes_healthchecks_total counter\n",
    ] {
        assert!(text.contains(line), "{line} {text}");
    }
    assert!(!text.contains("livez"));
    let Client { server, service } = client;
    server.shutdown().await.unwrap();
    assert_eq!(read(&service, "/readyz/shutdown", JSON).await.0, 500);
    let (_, text) = read(&service, "/metrics/slis", JSON).await;
    assert!(text.contains("kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0\n"));
}

#[tokio::test]
async fn pages_about_the_server_are_text_or_what_config_k8s_io_has() {
    let mut client = Client::new().await;
    let not_served = client.read("/flagz", "text/plain").await;
    assert_eq!(not_served.0, 404, "there were no flags");
    client.server.shutdown().await.unwrap();
    let store = std::sync::Arc::new(MemoryStore::new(Config::default()));
    let flags = [
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "[x,y]".to_owned()),
    ];
    let builder = crate::ApiServer::builder(store).flags(flags.into());
    client.server = builder.start().await.unwrap();
    client.service = client.server.service();
    let status = |kind: &str, version: &str, name: &str| {
        format!("application/{name};as={kind};v={version};g=config.k8s.io")
    };
    for (path, accept, code, expected) in [
        (
            "/statusz",
            String::new(),
            200,
            "\napiserver statusz\nWarning: This endpoint is not",
        ),
        ("/statusz", "*/*".to_owned(), 200, "\nBinary version: 1.36"),
        (
            "/statusz",
            "application/json, text/plain".to_owned(),
            200,
            "\nPaths: /flagz /healthz",
        ),
        (
            "/statusz",
            "application/json".to_owned(),
            406,
            "application/json, application/yaml, text/plain",
        ),
        ("/statusz", "text/html".to_owned(), 406, "NotAcceptable"),
        (
            "/statusz",
            status("Statusz", "v1beta1", "json"),
            200,
            "\"emulationVersion\":\"1.36\"",
        ),
        (
            "/statusz",
            status("Statusz", "v1alpha1", "yaml"),
            200,
            "apiVersion: config.k8s.io/v1alpha1\n",
        ),
        ("/statusz", status("Statusz", "v1", "json"), 406, ""),
        ("/statusz", status("Flagz", "v1beta1", "json"), 406, ""),
        ("/flagz", String::new(), 200, "purposes only.\na:1\nb:[x,y]\n"),
        (
            "/flagz",
            status("Flagz", "v1beta1", "json"),
            200,
            "\"flags\":{\"a\":\"1\",\"b\":\"[x,y]\"}",
        ),
        ("/flagz", status("Statusz", "v1beta1", "json"), 406, ""),
        ("/", String::new(), 200, "\"/flagz\""),
    ] {
        let (got, body) = client.read(path, &accept).await;
        assert!(
            got == code && body.contains(expected),
            "{path} {accept}: {got} {body}"
        );
    }
    client.server.shutdown().await.unwrap();
}

#[tokio::test]
async fn documents_say_where_the_server_is_and_what_it_is() {
    let client = Client::new().await;
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (_, core) = client.read("/api", JSON).await;
    assert_eq!(
        json(&core)["serverAddressByClientCIDRs"][0]["serverAddress"],
        "there:6443"
    );
    let (code, version) = client.read("/version", "*/*").await;
    assert!(
        code == 200 && version.contains("\n  \"minor\": \"36\","),
        "{version}"
    );
    assert_eq!(json(&version)["minCompatibilityMinor"], "35");
    // A refusal has no other shape, and is written as if none had been asked for.
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let (code, body) = client.read("/api/v1/namespaces/nobody", metadata).await;
    assert_eq!((code, &json(&body)["reason"]), (404, &"NotFound".into()));
    client.server.shutdown().await.unwrap();
}

/// What nobody serves is refused, with what there is: CBOR, as long as its feature gate is off, among it.
#[tokio::test]
async fn types_that_there_are_not_are_refused() {
    let client = Client::new().await;
    let three = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let routed = format!("406: Not Acceptable\n\nAvailable representations: {three}");
    let streams =
        format!("{routed}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch");
    let unrouted = format!("only the following media types are accepted: {three}");
    let json_only = "406: Not Acceptable\n\nAvailable representations: application/json".to_owned();
    let cbor = "application/cbor";
    let odd = "application/json;as=Table;g=meta.k8s.io;v=v2";
    for (path, accept, message, details) in [
        ("/api/v1/namespaces/default", cbor, &routed, true),
        ("/api/v1/namespaces", cbor, &streams, true),
        (
            "/api/v1/namespaces?watch=1",
            "application/cbor-seq",
            &streams,
            true,
        ),
        ("/api/v1/namespaces", odd, &unrouted, false),
        ("/api", cbor, &routed, true),
        ("/apis/apps", cbor, &unrouted, false),
        ("/apis/apps/v1", cbor, &routed, true),
        ("/version", "text/html", &json_only, true),
    ] {
        let (code, body) = client.read(path, accept).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 406, "{path}");
        assert_eq!(
            (body["message"].as_str(), body.get("details").is_some()),
            (Some(message.as_str()), details),
            "{path}"
        );
    }
    let maps = "/api/v1/namespaces/default/configmaps";
    for (method, path, media) in [
        ("POST", maps.to_owned(), cbor),
        (
            "PATCH",
            format!("{maps}/a?fieldManager=f"),
            "application/apply-patch+cbor",
        ),
        ("DELETE", format!("{maps}/a"), cbor),
    ] {
        let (code, ..) = client.send(method, &path, (JSON, media), vec![0xa0]).await;
        assert_eq!(code, 415, "{method}");
    }
    client.server.shutdown().await.unwrap();
}

//! Tests of negotiation against a whole server: what comes in as protobuf, and what goes out as it.

mod paths;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::protobuf::{decode, encode};
use trimtab_apiserver_storage::{Config, MemoryStore};

use super::protobuf::{MEDIA_TYPE as PROTOBUF, WATCH_MEDIA_TYPE};
use super::respond;
use crate::{ApiServer, ApiService};

const JSON: &str = "application/json";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FOOS: &str = "/apis/example.com/v1/foos";

struct Client {
    server: ApiServer,
    service: ApiService,
}

/// A status code, a content type, and a body as JSON.
type Answer = (u16, String, Value);

impl Client {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new(Config::default()));
        let server = ApiServer::builder(store).start().await.unwrap();
        let service = server.service();
        Self { server, service }
    }

    async fn send(&self, method: &str, path: &str, types: (&str, &str), body: Vec<u8>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", types.0)
            .header("content-type", types.1)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = self.service.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let mut body = response.into_body();
        let bytes = if content_type == WATCH_MEDIA_TYPE {
            // The first event; more may come.
            body.frame().await.unwrap().unwrap().into_data().unwrap()
        } else {
            body.collect().await.unwrap().to_bytes()
        };
        let value = match content_type.as_str() {
            PROTOBUF => decode(&bytes, "", "").unwrap(),
            WATCH_MEDIA_TYPE => {
                // The object begins somewhere in the frame.
                let (length, event) = bytes.split_first_chunk().unwrap();
                assert_eq!(u32::from_be_bytes(*length) as usize, event.len());
                let at = event.windows(4).position(|w| w == b"k8s\0").unwrap();
                decode(&event[at..], "", "").unwrap()
            }
            JSON => serde_json::from_slice(&bytes).unwrap(),
            _ => Value::Null,
        };
        (status, content_type, value)
    }
}

fn config_map(name: &str) -> Vec<u8> {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}});
    encode(&object).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_come_and_go_in_protobuf() {
    let client = Client::new().await;
    let both = "application/vnd.kubernetes.protobuf,application/json";
    let (status, content_type, made) = client
        .send("POST", CONFIG_MAPS, (both, PROTOBUF), config_map("a"))
        .await;
    assert_eq!((status, content_type.as_str()), (201, PROTOBUF));
    assert_eq!(made["data"], json!({"k": "v"}));
    assert_eq!(
        made["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:data": {".": {}, "f:k": {}}})
    );
    let a = format!("{CONFIG_MAPS}/a");
    let (status, _, changed) = client.send("PUT", &a, (JSON, PROTOBUF), config_map("a")).await;
    assert_eq!((status, &changed["data"]), (200, &made["data"]));

    let read = |value: &Value| value["items"].as_array().map(Vec::len);
    let (_, content_type, list) = client
        .send("GET", CONFIG_MAPS, (PROTOBUF, JSON), Vec::new())
        .await;
    assert_eq!((content_type.as_str(), read(&list)), (PROTOBUF, Some(1)));
    let watch = format!("{CONFIG_MAPS}?watch=true");
    let (_, content_type, event) = client.send("GET", &watch, (PROTOBUF, JSON), Vec::new()).await;
    assert_eq!(content_type, WATCH_MEDIA_TYPE);
    assert_eq!(event, changed);

    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    let options = encode(&options).unwrap();
    let (status, content_type, refused) = client.send("DELETE", &a, (PROTOBUF, PROTOBUF), options).await;
    assert_eq!((status, content_type.as_str()), (409, PROTOBUF));
    assert_eq!(refused["reason"], "Conflict");
    client.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_refused() {
    let client = Client::new().await;
    let prefix = "the object provided is unrecognized (must be of type ConfigMap): ";
    let secret = encode(&json!({"apiVersion": "v1", "kind": "Secret"})).unwrap();
    let mut broken = config_map("a");
    // A field that is a message, as a number.
    broken.truncate(21);
    broken.extend([0x12, 2, 8, 1]);
    for (body, message) in [
        (Vec::new(), format!("{prefix}empty data (<empty>)")),
        (
            b"{}".to_vec(),
            format!(
                "{prefix}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({{}})"
            ),
        ),
        (b"k8s\0".to_vec(), format!("{prefix}empty body (6b387300)")),
        (
            broken,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: proto: wrong wireType = 0 for field metadata"
                .to_owned(),
        ),
        (
            secret,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): \
             unknown conversion"
                .to_owned(),
        ),
    ] {
        let (status, _, error) = client.send("POST", CONFIG_MAPS, (JSON, PROTOBUF), body).await;
        assert_eq!((status, &error["message"]), (400, &json!(message)));
    }
    let a = format!("{CONFIG_MAPS}/a");
    for (method, body, status) in [
        ("DELETE", b"k8s".to_vec(), 400),
        ("PATCH", config_map("a"), 415),
        // Without a body there is nothing to understand.
        ("DELETE", Vec::new(), 404),
    ] {
        let (found, ..) = client.send(method, &a, (JSON, PROTOBUF), body).await;
        assert_eq!(found, status, "{method}");
    }
    let (status, ..) = client
        .send("DELETE", &a, (JSON, "text/plain"), b"{}".to_vec())
        .await;
    assert_eq!(status, 415);
    client.server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_have_metadata_in_protobuf_and_no_more() {
    let client = Client::new().await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (status, _, made) = client
        .send("POST", path, (PROTOBUF, PROTOBUF), encode(&definition).unwrap())
        .await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["spec"]["versions"][0]["schema"], schema);

    let foo = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}}).to_string();
    let made = async {
        loop {
            match client
                .send("POST", FOOS, (JSON, JSON), foo.clone().into_bytes())
                .await
            {
                // Not served yet.
                (404, ..) => tokio::task::yield_now().await,
                (status, ..) => return status,
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), made).await, Ok(201));
    let a = format!("{FOOS}/a");
    let both = "application/vnd.kubernetes.protobuf, application/json";
    for (accept, expected) in [
        (PROTOBUF, (406, PROTOBUF)),
        (both, (200, JSON)),
        (METADATA, (200, PROTOBUF)),
    ] {
        let (status, content_type, _) = client.send("GET", &a, (accept, JSON), Vec::new()).await;
        assert_eq!((status, content_type.as_str()), expected, "{accept}");
    }
    let (status, ..) = client.send("POST", FOOS, (JSON, PROTOBUF), config_map("b")).await;
    assert_eq!(status, 415);
    let options = encode(&json!({"apiVersion": "example.com/v1", "kind": "DeleteOptions"})).unwrap();
    let (status, ..) = client.send("DELETE", &a, (JSON, PROTOBUF), options).await;
    assert_eq!(status, 200);
    client.server.shutdown().await.unwrap();
}

/// A long list is written in pieces; it is the same list, compressed or not, and as pages.
#[tokio::test(flavor = "multi_thread")]
async fn long_lists_come_in_pieces() {
    let client = Client::new().await;
    for i in 0..64 {
        let data: String = (0..400_u32)
            .map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761 + i)))
            .collect();
        let object = json!({"metadata": {"name": format!("n{i:02}")}, "data": {"k": data}});
        let (code, ..) = client
            .send("POST", CONFIG_MAPS, (JSON, JSON), object.to_string().into())
            .await;
        assert_eq!(code, 201);
    }
    let whole = client.send("GET", CONFIG_MAPS, (JSON, JSON), Vec::new()).await.2;
    assert_eq!(whole["items"].as_array().map(Vec::len), Some(64));
    let in_protobuf = client
        .send("GET", CONFIG_MAPS, (PROTOBUF, JSON), Vec::new())
        .await
        .2;
    assert_eq!(in_protobuf, whole);
    for encoding in ["identity", "gzip"] {
        let request = Request::builder()
            .uri(CONFIG_MAPS)
            .header("accept-encoding", encoding)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = client.service.clone().oneshot(request).await.unwrap();
        let says = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let is_compressed = encoding == "gzip";
        assert_eq!(says("content-encoding"), is_compressed.then_some("gzip"));
        assert_eq!(says("content-type"), Some(JSON));
        let mut body = response.into_body();
        let (mut pieces, mut all) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() < 128 * 1024, "{} bytes at once", piece.len());
            pieces += 1;
            all.extend_from_slice(&piece);
        }
        assert!(pieces > 1, "{encoding}");
        if is_compressed {
            let mut plain = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&all[..]), &mut plain).unwrap();
            all = plain;
        }
        assert_eq!(
            serde_json::from_slice::<Value>(&all).unwrap(),
            whole,
            "{encoding}"
        );
    }
    let protobuf = client
        .send("GET", CONFIG_MAPS, (PROTOBUF, JSON), Vec::new())
        .await
        .2;
    assert_eq!(protobuf["items"].as_array().map(Vec::len), Some(64));
}

/// An answer that cannot be ended is not ended: the client sees an error, and not half of it.
#[tokio::test]
async fn what_fails_in_the_middle_is_cut_off() {
    for gzip in [false, true] {
        let piece = Bytes::from(vec![b' '; 200 * 1024]);
        let pieces = [Ok(piece), Err(ApiError::internal("gone"))];
        let style = respond::Style {
            gzip,
            ..respond::Style::default()
        };
        let response = respond::pieces(200, Box::new(pieces.into_iter()), style).unwrap();
        assert_eq!(response.status(), 200);
        let end = response.into_body().collect().await;
        assert!(
            end.is_err_and(|error| error.to_string().contains("gone")),
            "gzip: {gzip}"
        );
    }
    let pieces = [Err(ApiError::internal("gone"))];
    let refused = respond::pieces(200, Box::new(pieces.into_iter()), respond::Style::default());
    assert!(
        refused.is_err_and(|error| error.code == 500),
        "as long as nothing has been sent it is a status"
    );
}

#[tokio::test]
async fn a_head_alone_says_how_long_the_body_would_be() {
    let client = Client::new().await;
    for path in [
        "/api/v1/namespaces/default",
        "/api",
        "/healthz",
        "/api/v1/namespaces/none",
    ] {
        let ask = |method: &str| {
            let request = Request::builder().method(method).uri(path);
            client
                .service
                .clone()
                .oneshot(request.body(Full::<Bytes>::default()).unwrap())
        };
        let (whole, head) = (ask("GET").await.unwrap(), ask("HEAD").await.unwrap());
        assert_eq!(head.status(), whole.status(), "{path}");
        let length = head.headers()["content-length"].to_str().unwrap().to_owned();
        let body = whole.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(length, body.len().to_string(), "{path}");
        assert!(
            head.into_body().collect().await.unwrap().to_bytes().is_empty(),
            "{path}"
        );
    }
}

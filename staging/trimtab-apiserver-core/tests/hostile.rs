//! What is sent to break a server, not to use it: each is refused or done, within bounds that do not depend on what was
//! sent, and the server goes on. What would take a stack, a memory or a time that grows faster than the request does not
//! end this way, and so does not pass.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use trimtab_apiserver_core::{ApiServer, ApiService};
use trimtab_apiserver_storage::{Config, MemoryStore};

const JSON: &str = "application/json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// A little less than the largest body that is read.
const LARGE: usize = 2_900_000;

struct Kit {
    runtime: Runtime,
    server: Option<ApiServer>,
    service: ApiService,
}

struct Answer {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Kit {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(async {
            let store = Arc::new(MemoryStore::new(Config::default()));
            ApiServer::builder(store).start().await.expect("starts")
        });
        let service = server.service();
        Self {
            runtime,
            server: Some(server),
            service,
        }
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(body.into()))
            .expect("a request");
        self.answer(request)
    }

    fn answer(&self, request: Request<Full<Bytes>>) -> Answer {
        // On a thread of the runtime, with the stack that requests have.
        let service = self.service.clone();
        let answering = async move {
            let response = service.oneshot(request).await.expect("answers");
            let code = response.status().as_u16();
            let headers = response.headers().clone();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            Answer { code, headers, body }
        };
        let answer = self.runtime.spawn(answering);
        self.runtime.block_on(answer).expect("does not panic")
    }

    /// A kind whose objects may hold anything.
    fn define(&self, plural: &str, kind: &str, schema: &Value) {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {
                "group": "example.com", "scope": "Cluster",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        });
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let made = self.send("POST", path, JSON, definition.to_string());
        assert_eq!(made.code, 201, "{}", made.json());
        let path = format!("/apis/example.com/v1/{plural}");
        while self.send("GET", &path, JSON, "").code == 404 {
            std::thread::yield_now();
        }
    }

    fn anything(&self) -> &'static str {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        self.define("foos", "Foo", &anything);
        "/apis/example.com/v1/foos"
    }

    /// It still answers.
    fn goes_on(&self) {
        let name = format!("n{}", uuid::Uuid::new_v4());
        let body = json!({"metadata": {"name": name}}).to_string();
        assert_eq!(self.send("POST", MAPS, JSON, body).code, 201);
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = self.runtime.block_on(server.shutdown());
        }
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "{\"a\":".repeat(depth), "1") + &"}".repeat(depth)
}

#[test]
fn deep_bodies_are_refused() {
    let kit = Kit::new();
    let foos = kit.anything();
    let deep = LARGE / 8;
    for (path, content_type, body) in [
        (MAPS, JSON, nested(deep)),
        (foos, JSON, nested(deep)),
        (foos, JSON, "[".repeat(LARGE)),
        (foos, "application/yaml", "[".repeat(LARGE)),
        (foos, "application/yaml", "{a: ".repeat(deep)),
        (foos, "application/yaml", "- ".repeat(LARGE / 2)),
        (foos, "application/yaml", "? ".repeat(LARGE / 2)),
    ] {
        let answer = kit.send("POST", path, content_type, body);
        // What is unknown is left out before anybody looks how deep it is.
        assert!(
            matches!(answer.code, 400 | 422),
            "{content_type}: {}",
            answer.json()
        );
        assert!(answer.body.len() < LARGE * 8, "{}", answer.body.len());
    }
    let made = kit.send(
        "POST",
        foos,
        JSON,
        r#"{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"a"}}"#,
    );
    assert_eq!(made.code, 201, "{}", made.json());
    let a = format!("{foos}/a");
    for (content_type, body) in [
        ("application/merge-patch+json", nested(deep)),
        ("application/json-patch+json", format!("[{}]", nested(deep))),
        ("application/apply-patch+yaml", nested(deep)),
    ] {
        let answer = kit.send("PATCH", &format!("{a}?fieldManager=m"), content_type, body);
        assert_eq!(answer.code, 400, "{content_type}: {}", answer.json());
    }
    // What is taken can be read again, and changed.
    for depth in 80..130 {
        let name = format!("d{depth}");
        let body = format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Foo\",\"metadata\":{{\"name\":\"{name}\"}},\"x\":{}}}",
            nested(depth)
        );
        let made = kit.send("POST", foos, JSON, body).code;
        assert!(matches!(made, 201 | 400), "{depth}: {made}");
        if made == 201 {
            let path = format!("{foos}/{name}");
            let read = kit.send("GET", &path, JSON, "");
            assert!(read.json().is_object(), "{depth}");
            let patch = r#"{"metadata":{"labels":{"a":"b"}}}"#;
            assert_eq!(
                kit.send("PATCH", &path, "application/merge-patch+json", patch)
                    .code,
                200,
                "{depth}"
            );
        }
    }
    let deletion = kit.send("DELETE", &a, JSON, nested(deep));
    assert_eq!(deletion.code, 400, "{}", deletion.json());
    kit.goes_on();
}

/// Each operation makes what there is deeper, or twice as large.
#[test]
fn patches_that_grow_what_they_patch_are_refused() {
    let kit = Kit::new();
    let foos = kit.anything();
    let made = kit.send(
        "POST",
        foos,
        JSON,
        r#"{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"a"},"x":{"y":"0123456789"}}"#,
    );
    assert_eq!(made.code, 201, "{}", made.json());
    let a = format!("{foos}/a");
    let deepen = |i: usize| json!({"op": "add", "path": "/x".to_owned() + &"/x".repeat(i), "value": {}});
    let wrap = |_| json!({"op": "copy", "from": "/x", "path": "/x/z"});
    let double = |i: usize| json!({"op": "copy", "from": "/x", "path": format!("/x/k{i}")});
    let pairs = |i: usize| {
        json!([
            {"op": "copy", "from": "/x", "path": "/t"},
            {"op": "replace", "path": "/x", "value": {}},
            {"op": "copy", "from": "/t", "path": format!("/x/a{i}")},
            {"op": "copy", "from": "/t", "path": format!("/x/b{i}")},
        ])
    };
    let all = |of: &dyn Fn(usize) -> Value, times: usize| -> Vec<Value> { (0..times).map(of).collect() };
    let flat = |operations: Vec<Value>| -> Vec<Value> {
        operations
            .into_iter()
            .flat_map(|some| some.as_array().cloned().unwrap_or_default())
            .collect()
    };
    for (what, operations) in [
        ("deeper and deeper", all(&deepen, 2000)),
        ("deeper by itself", all(&wrap, 200)),
        ("twice as large", all(&double, 60)),
        ("twice as large, and flat", flat(all(&pairs, 60))),
    ] {
        let body = Value::from(operations).to_string();
        let answer = kit.send("PATCH", &a, "application/json-patch+json", body);
        assert!(
            matches!(answer.code, 400 | 413 | 422),
            "{what}: {} {}",
            answer.code,
            answer.json()["message"]
        );
        assert!(answer.body.len() < 64 << 20, "{what}: {}", answer.body.len());
    }
    let read = kit.send("GET", &a, JSON, "");
    assert_eq!(read.json()["x"], json!({"y": "0123456789"}), "all or nothing");
    kit.goes_on();
}

#[test]
fn aliases_are_not_multiplied() {
    let kit = Kit::new();
    let foos = kit.anything();
    let mut laughs = String::from(
        "apiVersion: example.com/v1\nkind: Foo\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n",
    );
    for i in 1..12 {
        let all = vec![format!("*a{}", i - 1); 9].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{all}]\n"));
    }
    let created = kit.send("POST", foos, "application/yaml", laughs.clone());
    assert_eq!(created.code, 400, "{}", created.json());
    let applied = kit.send(
        "PATCH",
        &format!("{foos}/a?fieldManager=m"),
        "application/apply-patch+yaml",
        laughs,
    );
    assert_eq!(applied.code, 400, "{}", applied.json());
    kit.goes_on();
}

/// Thousands of faults are not thousands of headers, nor compared with each other.
#[test]
fn many_faults_are_told_in_a_few_words() {
    let kit = Kit::new();
    let unknown: Vec<String> = (0..100_000).map(|i| format!("\"u{i}\":1")).collect();
    let body = format!("{{\"metadata\":{{\"name\":\"a\"}},{}}}", unknown.join(","));
    let warned = kit.send(
        "POST",
        &format!("{MAPS}?fieldValidation=Warn"),
        JSON,
        body.clone(),
    );
    assert_eq!(warned.code, 201, "{}", warned.json());
    let length: usize = warned.headers.get_all("warning").iter().map(|w| w.len()).sum();
    assert!(length < 16 * 1024, "{length} bytes of warnings");
    assert!(
        warned.headers.get_all("warning").iter().count() > 1,
        "some are told"
    );
    let refused = kit.send("POST", &format!("{MAPS}?fieldValidation=Strict"), JSON, body);
    assert_eq!(refused.code, 400);
    assert!(
        refused.body.len() < 64 * 1024,
        "{} bytes of faults",
        refused.body.len()
    );
    let twice = "\"data\":{},".repeat(100_000);
    let body = format!("{{{twice}\"metadata\":{{\"name\":\"b\"}}}}");
    let warned = kit.send("POST", &format!("{MAPS}?fieldValidation=Warn"), JSON, body);
    assert_eq!(warned.code, 201, "{}", warned.json());
    kit.goes_on();
}

/// Thousands of everything.
#[test]
fn large_objects_take_no_more_than_their_size() {
    let kit = Kit::new();
    let foos = kit.anything();
    let keys: Vec<String> = (0..10_000).map(|i| format!("\"k{i:06}\":\"v\"")).collect();
    let data = keys.join(",");
    let map = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"m\"}},\"data\":{{{data}}}}}"
    );
    let refused_or_made = |answer: &Answer| matches!(answer.code, 200 | 201 | 413 | 422);
    for (method, path, content_type) in [
        ("POST", MAPS.to_owned(), JSON),
        ("PUT", format!("{MAPS}/m"), JSON),
        ("PATCH", format!("{MAPS}/m"), "application/merge-patch+json"),
        (
            "PATCH",
            format!("{MAPS}/m"),
            "application/strategic-merge-patch+json",
        ),
        (
            "PATCH",
            format!("{MAPS}/m?fieldManager=x&force=true"),
            "application/apply-patch+yaml",
        ),
        (
            "PATCH",
            format!("{MAPS}/m?fieldManager=y&force=true"),
            "application/apply-patch+yaml",
        ),
    ] {
        let answer = kit.send(method, &path, content_type, map.clone());
        assert!(
            refused_or_made(&answer),
            "{method} {content_type}: {}",
            answer.json()["message"]
        );
    }
    // Items of lists that are told apart by their keys.
    let ports: Vec<Value> = (0..4000)
        .map(|i| json!({"name": format!("p{i}"), "port": i + 1, "protocol": "TCP", "targetPort": i + 1}))
        .collect();
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    let services = "/api/v1/namespaces/default/services";
    for (method, path, content_type) in [
        (
            "PATCH",
            format!("{services}/s?fieldManager=x&force=true"),
            "application/apply-patch+yaml",
        ),
        (
            "PATCH",
            format!("{services}/s?fieldManager=y&force=true"),
            "application/apply-patch+yaml",
        ),
        (
            "PATCH",
            format!("{services}/s"),
            "application/strategic-merge-patch+json",
        ),
    ] {
        let answer = kit.send(method, &path, content_type, service.to_string());
        assert!(
            refused_or_made(&answer),
            "{method} {content_type}: {}",
            answer.json()["message"]
        );
    }
    // A finalizer more for each of a set, and each once more.
    let finalizers: Vec<String> = (0..50_000)
        .map(|i| format!("example.com/f{}", i % 25_000))
        .collect();
    let foo = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "f", "finalizers": finalizers}});
    let answer = kit.send("POST", foos, JSON, foo.to_string());
    assert!(
        refused_or_made(&answer) || answer.code == 400,
        "{}",
        answer.json()["message"]
    );
    let many: Vec<Value> = (0..10_000)
        .map(|i| json!({"op": "add", "path": "/metadata/annotations", "value": {"a": format!("{i}")}}))
        .collect();
    let answer = kit.send(
        "PATCH",
        &format!("{MAPS}/m"),
        "application/json-patch+json",
        Value::from(many).to_string(),
    );
    assert!(refused_or_made(&answer), "{}", answer.json()["message"]);
    let more: Vec<Value> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"}))
        .collect();
    let answer = kit.send(
        "PATCH",
        &format!("{MAPS}/m"),
        "application/json-patch+json",
        Value::from(more).to_string(),
    );
    assert_eq!(answer.code, 413, "{}", answer.json());
    kit.goes_on();
}

#[test]
fn questions_are_not_worth_more_than_their_length() {
    let kit = Kit::new();
    let terms: Vec<String> = (0..5000).map(|i| format!("k{i}")).collect();
    let list = terms.join(",");
    let fields: Vec<String> = terms.iter().map(|t| format!("metadata.name!={t}")).collect();
    for query in [
        format!("labelSelector={list}"),
        format!("labelSelector=k%20in%20({list})"),
        format!("labelSelector={}", "(".repeat(50_000)),
        format!("labelSelector={}", "!".repeat(50_000)),
        format!("labelSelector={}", "a%20in%20(".repeat(5000)),
        format!("fieldSelector={}", &fields.join(",")[..60_000]),
        format!("fieldSelector={}", "%5C".repeat(15_000)),
        format!("continue={}", "A".repeat(60_000)),
        "limit=-1".to_owned(),
        format!("limit={}", "9".repeat(1000)),
        format!("resourceVersion={}", "9".repeat(1000)),
        format!("timeoutSeconds={}&watch=1", "9".repeat(1000)),
        "a=b&".repeat(15_000),
    ] {
        let answer = kit.send("GET", &format!("{MAPS}?{query}"), JSON, "");
        let start = &query[..query.len().min(40)];
        assert!(matches!(answer.code, 200 | 400 | 410), "{start}: {}", answer.code);
        assert!(
            answer.body.len() < 1 << 20,
            "{start}: {} bytes",
            answer.body.len()
        );
    }
    for accept in [
        "application/json;as=Table,".repeat(2000),
        "a/b;q=0.1,".repeat(5000),
        ";".repeat(50_000),
        ",".repeat(50_000),
    ] {
        let request = Request::builder().uri(MAPS).header("accept", accept.as_str());
        let answer = kit.answer(request.body(Full::default()).expect("a request"));
        assert!(
            matches!(answer.code, 200 | 406),
            "{}: {}",
            &accept[..10],
            answer.code
        );
    }
    for path in [
        "/api/v1".to_owned() + &"/a".repeat(20_000),
        "/".repeat(60_000),
        "/apis/%FF%00/%2e%2e/..".to_owned(),
    ] {
        let answer = kit.send("GET", &path, JSON, "");
        assert!(
            matches!(answer.code, 200 | 403..=405),
            "{}: {}",
            &path[..10],
            answer.code
        );
    }
    kit.goes_on();
}

/// Expressions and patterns that are deeper than any stack, in definitions of resources.
#[test]
fn deep_expressions_are_refused() {
    let kit = Kit::new();
    let deep = 20_000;
    let rules = [
        "(".repeat(deep) + "true" + &")".repeat(deep),
        "!".repeat(deep) + "true",
        "-".repeat(deep) + "1 == 1",
        "[".repeat(deep) + &"]".repeat(deep) + " == []",
        "true".to_owned() + &" && true".repeat(deep),
        "self.a".to_owned() + &".b".repeat(deep),
        "true ? true : ".repeat(deep) + "true",
    ];
    for (i, rule) in rules.iter().enumerate() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": [{"rule": rule}], "properties": {"a": {"type": "string"}}}}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("r{i}s.example.com")},
            "spec": {
                "group": "example.com", "scope": "Cluster",
                "names": {"plural": format!("r{i}s"), "singular": format!("r{i}"), "kind": format!("R{i}")},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        });
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let answer = kit.send("POST", path, JSON, definition.to_string());
        assert!(
            matches!(answer.code, 201 | 422),
            "{}: {}",
            &rule[..10],
            answer.code
        );
    }
    kit.goes_on();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the path, the query, the types and the body: an answer, and no failure of the server.
    #[test]
    fn anything_gets_an_answer(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
        path in "/(api|apis|api/v1|apis/apps/v1)(/[a-z%./]{0,12}){0,4}",
        query in "([a-zA-Z]{1,12}=[a-z0-9%,=!()]{0,12}&){0,3}",
        content_type in prop::sample::select(vec![
            JSON,
            "application/yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
            "application/vnd.kubernetes.protobuf",
            "text/plain",
        ]),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}\",:a0 \n&*-]{0,64}".prop_map(String::into_bytes),
            Just(b"k8s\0\n\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01".to_vec()),
        ],
    ) {
        let kit = SHARED.get_or_init(Kit::new);
        let uri = format!("{path}?{query}").parse::<http::Uri>();
        // What is no URI comes no further than the parser of HTTP.
        if let Ok(uri) = uri {
            let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
            let answer = kit.answer(request.body(Full::new(Bytes::from(body))).expect("a request"));
            prop_assert!(answer.code < 500, "{} {}: {}", method, path, answer.code);
        }
    }
}

static SHARED: std::sync::OnceLock<Kit> = std::sync::OnceLock::new();

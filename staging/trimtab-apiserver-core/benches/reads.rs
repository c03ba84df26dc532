//! What reading costs the server, without a network: 20,000 ConfigMaps as one list, in other shapes, through a selector,
//! and as the beginning of a watch; and one of them.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use trimtab_apiserver_core::{ApiServer, ApiService};
use trimtab_apiserver_storage::{Config, MemoryStore};

/// How many objects there are.
const OBJECTS: usize = 20_000;
const OF_ALL: &str = "/api/v1/configmaps";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const INITIAL_EVENTS: &str = "/api/v1/configmaps?watch=1&allowWatchBookmarks=true&sendInitialEvents=true\
                              &resourceVersionMatch=NotOlderThan&timeoutSeconds=60";

/// What the bookmark after the initial events has in it.
const MARK: &[u8] = b"k8s.io/initial-events-end";

fn main() {
    divan::main();
}

/// A server with objects of 1 KiB, one of a hundred of which is labelled.
struct Server {
    runtime: Runtime,
    _server: ApiServer,
    service: ApiService,
}

impl Server {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (server, service) = runtime.block_on(async {
            let store = Arc::new(MemoryStore::new(Config::default()));
            let server = ApiServer::builder(store).start().await.expect("a server");
            let service = server.service();
            let data = "x".repeat(1024);
            for i in 0..OBJECTS {
                let rare = i % 100 == 0;
                let object = format!(
                    r#"{{"metadata":{{"name":"n{i}","labels":{{"rare":"{rare}"}}}},"data":{{"k":"{data}"}}}}"#
                );
                let path = "/api/v1/namespaces/default/configmaps";
                let response = ask(&service, "POST", path, "application/json", object).await;
                assert_eq!(response.status(), 201);
            }
            (server, service)
        });
        Self {
            runtime,
            _server: server,
            service,
        }
    }

    /// Reads an answer to its end, or a watch to the end of its initial events.
    fn read(&self, path: &str, accept: &str) -> usize {
        self.runtime.block_on(async {
            let response = ask(&self.service, "GET", path, accept, String::new()).await;
            assert_eq!(response.status(), 200);
            let mut pieces = response.into_body().into_data_stream();
            let mut length = 0;
            while let Some(piece) = pieces.next().await {
                let piece = piece.expect("the answer comes whole");
                length += piece.len();
                // The mark is in the last line, which is short.
                let end = &piece[piece.len().saturating_sub(256)..];
                if end.windows(MARK.len()).any(|part| part == MARK) {
                    break;
                }
            }
            length
        })
    }
}

async fn ask(
    service: &ApiService,
    method: &str,
    path: &str,
    accept: &str,
    body: String,
) -> Response<impl http_body::Body<Data = Bytes, Error = std::io::Error> + use<>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", accept)
        .body(Full::new(Bytes::from(body)));
    let answer = service.clone().oneshot(request.expect("a request")).await;
    answer.unwrap_or_else(|never| match never {})
}

const CASES: [(&str, &str, &str); 7] = [
    (
        "one",
        "/api/v1/namespaces/default/configmaps/n7",
        "application/json",
    ),
    ("all", OF_ALL, "application/json"),
    ("metadata", OF_ALL, METADATA),
    ("table", OF_ALL, TABLE),
    (
        "by label",
        "/api/v1/configmaps?labelSelector=rare%3Dtrue",
        "application/json",
    ),
    ("page", "/api/v1/configmaps?limit=500", "application/json"),
    ("initial events", INITIAL_EVENTS, "application/json"),
];

#[divan::bench(args = CASES.map(|case| case.0), sample_count = 20)]
fn read(bencher: Bencher<'_, '_>, case: &str) {
    static SERVER: std::sync::OnceLock<Server> = std::sync::OnceLock::new();
    let server = SERVER.get_or_init(Server::new);
    let found = CASES.into_iter().find(|(name, ..)| *name == case);
    let (_, path, accept) = found.expect("one of the cases");
    bencher.bench_local(|| server.read(path, accept));
}

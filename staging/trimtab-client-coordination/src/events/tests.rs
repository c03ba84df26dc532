//! The recorder against a server that remembers what it is told.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

use super::{EventWriter, Note, QUEUE};

/// What the server was asked: creates by note and patches by count, in order.
#[derive(Clone, Debug, Default)]
struct Server {
    log: Arc<Mutex<Vec<String>>>,
    down: Arc<Mutex<bool>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                if *server.down.lock() {
                    return Err("connection refused");
                }
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.expect("a whole body");
                let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                let line = match method {
                    Method::POST => format!("create {}", value["note"].as_str().unwrap_or_default()),
                    _ => format!("count {}", value["series"]["count"]),
                };
                server.log.lock().push(line);
                let answer = serde_json::to_vec(&Event::default()).expect("JSON");
                Ok(Response::builder()
                    .status(StatusCode::OK)
                    .body(Body::from(answer))
                    .expect("a response"))
            }
        });
        Client::new(service, "default")
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }
}

fn object(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.into());
    object
}

fn created(message: &str) -> Note {
    Note::normal("Created", "Create", message)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn repetitions_become_a_count() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for _ in 0..5 {
        assert!(recorder.record(&object("a"), created("first")));
    }
    assert!(recorder.record(&object("b"), created("other object")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.log(), ["create first", "count 2", "create other object"]);
    tokio::time::sleep(Duration::from_secs(13 * 60)).await;
    assert_eq!(server.log()[3..], ["count 5"], "the series has ended");
    assert!(recorder.record(&object("a"), created("later")));
    assert!(writer.shut_down(LONG).await);
    assert_eq!(server.log()[4..], ["create later"]);
    assert!(!recorder.record(&object("a"), created("too late")));
    assert_eq!(recorder.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_writes_what_waits_counts_included() {
    let server = Server::default();
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for _ in 0..4 {
        recorder.record(&object("a"), created("first"));
    }
    assert!(writer.shut_down(LONG).await);
    assert_eq!(server.log(), ["create first", "count 2", "count 4"]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_costs_records_but_no_time() {
    let server = Server::default();
    *server.down.lock() = true;
    let (recorder, writer) = EventWriter::start(server.client(), "example.com/test", "host");
    for i in 0..QUEUE + 50 {
        recorder.record(&object(&format!("o{i}")), created("lost"));
    }
    assert_eq!(recorder.dropped(), 50);
    tokio::time::sleep(Duration::from_secs(5)).await;
    *server.down.lock() = false;
    assert!(writer.shut_down(LONG).await);
    assert_eq!(
        server.log().len(),
        QUEUE,
        "what was taken is written when the server is back"
    );
}

//! A server that goes and comes back, and one that does not answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::kit::{Answer, GROUP, World};

const NOTES: &str = "/apis/samples.test/v1/namespaces/default/notes";
const V1: &str = "v1.samples.test";

/// What aggregated discovery says of the version.
fn version(answer: &Answer) -> Option<Value> {
    let items = answer.json["items"].as_array()?;
    let group = items.iter().find(|item| item["metadata"]["name"] == GROUP)?;
    Some(group["versions"][0].clone())
}

async fn until_it_is(world: &World, freshness: &str) -> Value {
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    let looked_for = async {
        loop {
            let answer = world.send(Method::GET, "/apis", &[accept], Bytes::new()).await;
            match version(&answer) {
                Some(version) if version["freshness"] == freshness => break version,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let looked_for = tokio::time::timeout(std::time::Duration::from_secs(60), looked_for).await;
    looked_for.unwrap_or_else(|_| panic!("discovery never says {freshness}"))
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_of_and_is_there_again_when_it_is() {
    let world = World::new().await;
    let extension = world.extension().start().await.expect("starts");
    let address = extension.address().expect("listens");
    world
        .register(address.port(), extension.certificate_authority())
        .await;
    world.reason(V1, "Passed").await;
    assert_eq!(world.get(NOTES).await.code.as_u16(), 200);
    until_it_is(&world, "Current").await;

    extension.shutdown().await.expect("stops");
    // Nobody has told the aggregator yet.
    let first = world.get(NOTES).await;
    assert_eq!(first.code.as_u16(), 503, "{}", first.text);
    assert!(
        first.text.starts_with("error trying to reach service: ") || first.text == "service unavailable\n",
        "{}",
        first.text
    );
    // It is looked for at once, since somebody was not answered.
    let why = world.reason(V1, "FailedDiscoveryCheck").await;
    assert!(
        why.contains("/apis/samples.test/v1") && why.contains("connection refused"),
        "{why}"
    );
    let down = world.get(NOTES).await;
    assert_eq!(
        (down.code.as_u16(), down.text.as_str()),
        (503, "service unavailable\n")
    );
    let metrics = world.get("/metrics").await.text;
    for sample in [
        "aggregator_unavailable_apiservice{name=\"v1.samples.test\"} 1",
        "aggregator_unavailable_apiservice{name=\"v1.apps\"} 0",
        "aggregator_unavailable_apiservice_total{name=\"v1.samples.test\",reason=\"FailedDiscoveryCheck\"} 1",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}");
    }
    let stale = until_it_is(&world, "Stale").await;
    assert_eq!(stale.get("resources"), None, "{stale}");
    // The rest goes on.
    assert_eq!(world.get("/api/v1/namespaces").await.code.as_u16(), 200);
    assert_eq!(world.get("/openapi/v2").await.code.as_u16(), 200);

    let again = world
        .extension()
        .bind(address)
        .start()
        .await
        .expect("starts again");
    world.reason(V1, "Passed").await;
    let fresh = until_it_is(&world, "Current").await;
    assert_eq!(fresh["resources"][0]["resource"], "notes");
    assert_eq!(world.get(NOTES).await.code.as_u16(), 200);
    let path = format!("{}/{V1}", crate::kit::APISERVICES);
    let removed = world.send(Method::DELETE, &path, &[], Bytes::new()).await;
    assert_eq!(removed.code.as_u16(), 200, "{}", removed.text);
    world
        .eventually(NOTES, |answer| {
            (answer.text == "404 page not found\n").then_some(())
        })
        .await;
    again.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_server_that_says_nothing_takes_no_longer_than_its_clients_wait() {
    let world = World::new().await;
    // Connections are taken by the system, and nobody says anything.
    let silent = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a port");
    let extension = world.extension().start().await.expect("starts");
    let authority = extension.certificate_authority().to_owned();
    world
        .register(extension.address().expect("listens").port(), &authority)
        .await;
    world.reason(V1, "Passed").await;
    let port = silent.local_addr().expect("listens").port();
    let patch = format!(r#"{{"spec":{{"service":{{"port":{port}}}}}}}"#);
    let path = format!("{}/{V1}", crate::kit::APISERVICES);
    let merge = [("content-type", "application/merge-patch+json")];
    let moved = world.send(Method::PATCH, &path, &merge, patch.into()).await;
    assert_eq!(moved.code.as_u16(), 200, "{}", moved.text);
    // It counts as there until the first check is over, which takes its time.
    let slow = format!("{NOTES}?timeout=100ms");
    let late = world
        .eventually(&slow, |answer| (answer.code == 504).then(|| answer.json.clone()))
        .await;
    assert_eq!(late["reason"], "Timeout");
    assert_eq!(world.get("/api/v1/namespaces").await.code.as_u16(), 200);
    // After so many in a row nobody is kept waiting any more.
    world
        .eventually(&slow, |answer| {
            (answer.text == "service unavailable\n").then_some(())
        })
        .await;
    extension.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}

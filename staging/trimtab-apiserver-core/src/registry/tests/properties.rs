//! The registry's clauses, each with a checker, over random traffic.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::kit::{Server, run};

/// One write of a random history: to an object, giving it a label's value, or none to delete it.
type Write = (u8, Option<u8>);

fn history() -> impl Strategy<Value = Vec<Write>> {
    proptest::collection::vec((0..4u8, proptest::option::weighted(0.75, 0..3u8)), 1..40)
}

async fn carry_out(server: &Server, (name, label): Write) {
    let path = format!("ns/configmaps/n{name}");
    match label {
        None => drop(server.call("DELETE", &path, Value::Null).await),
        Some(label) => {
            let object =
                json!({"metadata": {"name": format!("n{name}"), "labels": {"x": label.to_string()}}});
            if server.call("POST", "ns/configmaps", object.clone()).await.0 == 409 {
                server.ok("PUT", &path, object, 200).await;
            }
        }
    }
}

/// Names with resource versions.
type State = BTreeMap<String, String>;

fn state(items: &Value) -> State {
    let text = |o: &Value, field: &str| o["metadata"][field].as_str().unwrap_or_default().to_owned();
    items
        .as_array()
        .into_iter()
        .flatten()
        .map(|o| (text(o, "name"), text(o, "resourceVersion")))
        .collect()
}

/// *Ordered*, *Unique* and *Reliable* through a selector: replaying a watch over what a list showed gives what a
/// later list shows, and resource versions only rise.
async fn check_replay(writes: &[Write], split: usize, selector: &str) {
    let server = Server::new();
    let (before, after) = writes.split_at(split.min(writes.len()));
    for write in before {
        carry_out(&server, *write).await;
    }
    let path = format!("ns/configmaps?{selector}");
    let list = server.ok("GET", &path, Value::Null, 200).await;
    let mut seen = state(&list["items"]);
    for write in after {
        carry_out(&server, *write).await;
    }
    let end = server.ok("GET", &path, Value::Null, 200).await;
    let expected = state(&end["items"]);
    let from = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let query = format!("{path}&watch=1&resourceVersion={from}&timeoutSeconds=1");
    let mut events = server.watch(&query).await;
    let mut last: u64 = from.parse().unwrap_or_default();
    while let Some((kind, name, object)) = events.next().await {
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let number: u64 = version.parse().unwrap_or_default();
        assert!(number > last, "versions rise: {number} after {last}");
        last = number;
        match kind.as_str() {
            "ADDED" => assert_eq!(
                seen.insert(name.clone(), version),
                None,
                "{name} was there already"
            ),
            "MODIFIED" => assert!(
                seen.insert(name.clone(), version).is_some(),
                "{name} was not there"
            ),
            _ => assert!(seen.remove(&name).is_some(), "{name} was not there"),
        }
    }
    assert_eq!(seen, expected, "a replayed watch is a list");
}

/// *Snapshot*: the pages of a list, whatever is written between them, are the list at the first page's revision.
async fn check_pages(writes: &[Write], limit: usize, selector: &str) {
    let server = Server::new();
    let (before, between) = writes.split_at(writes.len() / 2);
    for write in before {
        carry_out(&server, *write).await;
    }
    let whole = server
        .ok("GET", &format!("ns/configmaps?{selector}"), Value::Null, 200)
        .await;
    let mut pages = State::new();
    let mut token = String::new();
    let mut between = between.iter();
    loop {
        let path = format!("ns/configmaps?{selector}&limit={limit}&continue={token}");
        let page = server.ok("GET", &path, Value::Null, 200).await;
        let items = state(&page["items"]);
        assert!(items.len() <= limit);
        pages.extend(items);
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            break;
        }
        if let Some(write) = between.next() {
            carry_out(&server, *write).await;
        }
    }
    assert_eq!(pages, state(&whole["items"]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_replayed_watch_is_a_list(
        writes in history(), split in 0..20usize, selector in prop_oneof!["", "labelSelector=x%3D1"],
    ) {
        run(check_replay(&writes, split, &selector));
    }

    #[test]
    fn pages_are_a_snapshot(
        writes in history(), limit in 1..4usize, selector in prop_oneof!["", "labelSelector=x%21%3D1"],
    ) {
        run(check_pages(&writes, limit, &selector));
    }
}

/// *Atomic*: of many patches at once of one object none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_at_once_are_all_kept() {
    let server = Arc::new(Server::new());
    server
        .ok("POST", "ns/configmaps", json!({"metadata": {"name": "a"}}), 201)
        .await;
    let tasks: Vec<_> = (0..16)
        .map(|i| {
            let server = server.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {(format!("k{i}")): "v"}});
                server.ok("PATCH/merge", "ns/configmaps/a", patch, 200).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap_or_else(|e| panic!("{e}"));
    }
    let object = server.ok("GET", "ns/configmaps/a", Value::Null, 200).await;
    assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(16));
}

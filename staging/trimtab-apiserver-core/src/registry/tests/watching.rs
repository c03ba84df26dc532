//! Lists and watches.

use std::sync::Arc;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::kit::Server;
use crate::registry::{Admission, Attributes, Operation};

fn labelled(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"x": value}}})
}

async fn version(server: &Server) -> String {
    let list = server.ok("GET", "ns/configmaps", Value::Null, 200).await;
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|o| o["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let server = Server::new();
    for i in 0..5 {
        server
            .ok(
                "POST",
                "ns/configmaps",
                labelled(&format!("n{i}"), &(i % 2).to_string()),
                201,
            )
            .await;
    }
    let first = server.ok("GET", "ns/configmaps?limit=2", Value::Null, 200).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["n0", "n1"], &json!(3))
    );
    assert_eq!(
        first["items"][0]["kind"],
        Value::Null,
        "items of built-in kinds do not say what they are"
    );
    server
        .ok("POST", "ns/configmaps", labelled("n2a", "0"), 201)
        .await;
    server.ok("DELETE", "ns/configmaps/n3", Value::Null, 200).await;
    let token = first["metadata"]["continue"].as_str().unwrap_or_default();
    let rest = server
        .ok(
            "GET",
            &format!("ns/configmaps?continue={token}"),
            Value::Null,
            200,
        )
        .await;
    assert_eq!(names(&rest), ["n2", "n3", "n4"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );

    let selected = server
        .ok(
            "GET",
            "-/configmaps?limit=2&labelSelector=x%3D0",
            Value::Null,
            200,
        )
        .await;
    assert_eq!(
        (names(&selected), &selected["metadata"]["remainingItemCount"]),
        (vec!["n0", "n2"], &Value::Null)
    );
    let token = selected["metadata"]["continue"].as_str().unwrap_or_default();
    let path = format!("-/configmaps?labelSelector=x%3D0&continue={token}");
    assert_eq!(
        names(&server.ok("GET", &path, Value::Null, 200).await),
        ["n2a", "n4"]
    );
    let path = "ns/configmaps?fieldSelector=metadata.name%3Dn4";
    assert_eq!(names(&server.ok("GET", path, Value::Null, 200).await), ["n4"]);

    let exact = first["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!("ns/configmaps?resourceVersion={exact}&resourceVersionMatch=Exact");
    assert_eq!(names(&server.ok("GET", &path, Value::Null, 200).await).len(), 5);
    let future = server
        .ok(
            "GET",
            "ns/configmaps?resourceVersion=1000&resourceVersionMatch=Exact",
            Value::Null,
            504,
        )
        .await;
    assert_eq!(
        future["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

#[tokio::test]
async fn tables_and_metadata_are_shapes_of_the_same() {
    let server = Server::new();
    server.ok("POST", "ns/configmaps", labelled("a", "1"), 201).await;
    let table = server.ok("GET", "ns/configmaps?as=table", Value::Null, 200).await;
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let list = server
        .ok("GET", "ns/configmaps?as=metadata-list", Value::Null, 200)
        .await;
    assert_eq!(
        (&list["kind"], names(&list)),
        (&json!("PartialObjectMetadataList"), vec!["a"])
    );
    server
        .ok("GET", "ns/configmaps?as=metadata", Value::Null, 406)
        .await;
    server
        .ok("GET", "ns/configmaps/a?as=metadata-list", Value::Null, 406)
        .await;
    server
        .ok("GET", "ns/configmaps/a?as=metadata", Value::Null, 200)
        .await;
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::new();
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "1")] {
        server
            .ok("POST", "ns/configmaps", labelled(name, value), 201)
            .await;
    }
    let gone = server
        .ok("DELETE", "ns/configmaps?labelSelector=x%3D1", Value::Null, 200)
        .await;
    assert_eq!(names(&gone), ["a", "c"]);
    assert_eq!(
        names(&server.ok("GET", "ns/configmaps", Value::Null, 200).await),
        ["b"]
    );
}

/// Warns of each object that is deleted, and refuses one.
#[derive(Debug)]
struct Refuses(&'static str);

#[async_trait::async_trait]
impl Admission for Refuses {
    async fn validate(
        &self,
        attributes: &Attributes,
        _: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if attributes.operation != Operation::Delete {
            return Ok(());
        }
        let name = old.map(|old| old["metadata"]["name"].as_str().unwrap_or_default());
        warnings.push(name.unwrap_or_default().to_owned());
        match name {
            Some(name) if name == self.0 => Err(ApiError::bad_request("not this one".to_owned())),
            _ => Ok(()),
        }
    }
}

/// Many are deleted at once, which shows in nothing: warnings are in the order of the objects, and what cannot be deleted
/// stops what comes after it.
#[tokio::test]
async fn a_collection_is_deleted_until_one_object_cannot_be() {
    let all: Vec<String> = (0..200).map(|n| format!("n{n:03}")).collect();
    for (refused, code, left) in [("none", 200, 0..0), ("n150", 400, 1..51)] {
        let server = Server::new();
        for name in &all {
            server.ok("POST", "ns/configmaps", labelled(name, "1"), 201).await;
        }
        server.registry.set_admission(Arc::new(Refuses(refused)));
        let (got, answer, warnings) = server.call("DELETE", "ns/configmaps", Value::Null).await;
        assert_eq!(got, code, "{answer}");
        let list = server.ok("GET", "ns/configmaps", Value::Null, 200).await;
        let found = names(&list);
        if code == 200 {
            assert_eq!(names(&answer), all);
            assert_eq!(warnings, all);
            assert!(found.is_empty(), "{found:?}");
        } else {
            // What had been begun was brought to its end.
            assert!(left.contains(&found.len()), "{found:?}");
            assert!(found.contains(&refused), "{found:?}");
        }
    }
}

#[tokio::test]
async fn a_watch_sees_what_its_selector_lets_through() {
    let server = Server::new();
    let from = version(&server).await;
    for (method, path, body) in [
        ("POST", "ns/configmaps", labelled("a", "1")),
        (
            "PATCH/merge",
            "ns/configmaps/a",
            json!({"metadata": {"labels": {"x": "2"}}}),
        ),
        ("PATCH/merge", "ns/configmaps/a", json!({"data": {"k": "v"}})),
        (
            "PATCH/merge",
            "ns/configmaps/a",
            json!({"metadata": {"labels": {"x": "3"}}}),
        ),
        ("PATCH/merge", "ns/configmaps/a", json!({"data": {"k": "unseen"}})),
        (
            "PATCH/merge",
            "ns/configmaps/a",
            json!({"metadata": {"labels": {"x": "2"}}}),
        ),
        ("DELETE", "ns/configmaps/a", Value::Null),
    ] {
        server.call(method, path, body).await;
    }
    let path = format!("ns/configmaps?watch=1&resourceVersion={from}&labelSelector=x%3D2&timeoutSeconds=1");
    let seen = server.watch(&path).await.take(5).await;
    assert_eq!(
        seen,
        ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]
    );
    let path = format!("ns/configmaps?watch=1&resourceVersion={from}");
    let mut all = server.watch(&path).await;
    let mut last = 0;
    for _ in 0..7 {
        let Some((kind, _, object)) = all.next().await else {
            panic!("the watch ended")
        };
        let version: u64 = object["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse().ok())
            .unwrap_or_default();
        assert!(version > last, "{kind} at {version} after {last}");
        last = version;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_the_state_and_ends_with_its_time() {
    let server = Server::new();
    for name in ["b", "a"] {
        server.ok("POST", "ns/configmaps", labelled(name, "1"), 201).await;
    }
    let cases = [
        ("", vec!["ADDED a", "ADDED b"]),
        ("&resourceVersion=0", vec!["ADDED a", "ADDED b"]),
        (
            "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            vec!["ADDED a", "ADDED b", "BOOKMARK ", "BOOKMARK "],
        ),
        ("&resourceVersion=1000", vec![]),
    ];
    for (query, expected) in cases {
        let mut events = server
            .watch(&format!("ns/configmaps?watch=1&timeoutSeconds=5{query}"))
            .await;
        assert_eq!(events.take(9).await, expected, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_never_cease_hold_up_neither_bookmarks_nor_the_end() {
    let server = Server::new();
    let from = version(&server).await;
    let query = format!(
        "watch=1&resourceVersion={from}&allowWatchBookmarks=true&labelSelector=x%3Dseen&timeoutSeconds=100"
    );
    let mut events = server.watch(&format!("ns/configmaps?{query}")).await;
    let mut told = Vec::new();
    for second in 0..=100 {
        // There is a change whenever the watch looks, and it is shown one of two.
        for label in ["unseen", "seen"] {
            let map = labelled(&format!("{label}{second}"), label);
            server.ok("POST", "ns/configmaps", map, 201).await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await; // the cache gets on
        }
        let Some((kind, name, _)) = events.next().await else {
            break;
        };
        if kind == "BOOKMARK" {
            told.push(kind);
            let Some((_, next, _)) = events.next().await else {
                break;
            };
            assert_eq!(next, format!("seen{second}"));
        } else {
            assert_eq!(name, format!("seen{second}"));
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        told.push(name);
    }
    let bookmarks: Vec<_> = told
        .iter()
        .enumerate()
        .filter(|(_, what)| *what == "BOOKMARK")
        .collect();
    assert_eq!((told.len(), bookmarks.len()), (102, 2), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_of_what_was_left_out() {
    let server = Server::new();
    let from = version(&server).await;
    let query = format!(
        "watch=1&resourceVersion={from}&allowWatchBookmarks=true&labelSelector=x%3Dnone&timeoutSeconds=100"
    );
    let mut events = server.watch(&format!("ns/configmaps?{query}")).await;
    let created = server.ok("POST", "ns/configmaps", labelled("a", "1"), 201).await;
    for _ in 0..2 {
        let Some((kind, _, object)) = events.next().await else {
            panic!("the watch ended")
        };
        assert_eq!(kind, "BOOKMARK");
        assert_eq!(
            object["metadata"]["resourceVersion"],
            created["metadata"]["resourceVersion"]
        );
    }
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn watches_end_when_their_resource_goes() {
    let server = Server::new();
    let mut events = server.watch("ns/widgets?watch=1").await;
    server.registry.resources().remove("example.com", "widgets");
    assert!(events.next().await.is_none());
    server.ok("GET", "ns/widgets", Value::Null, 404).await;
}

#[tokio::test]
async fn watches_from_the_forgotten_past_say_so() {
    let server = Server::new();
    server.ok("POST", "ns/configmaps", labelled("a", "1"), 201).await;
    server.ok("DELETE", "ns/configmaps/a", Value::Null, 200).await;
    server
        .registry
        .store()
        .compact(3)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let mut events = server.watch("ns/configmaps?watch=1&resourceVersion=1").await;
    let Some((kind, _, status)) = events.next().await else {
        panic!("the watch ended")
    };
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_token_that_has_expired_brings_one_that_goes_on_anyway() {
    let server = Server::new();
    for name in ["a", "b", "c"] {
        server.ok("POST", "ns/configmaps", labelled(name, "1"), 201).await;
    }
    let first = server.ok("GET", "ns/configmaps?limit=1", Value::Null, 200).await;
    server.ok("DELETE", "ns/configmaps/b", Value::Null, 200).await;
    let store = server.registry.store();
    let current = store.revision().await.unwrap_or_else(|e| panic!("{e}"));
    store.compact(current).await.unwrap_or_else(|e| panic!("{e}"));
    // As long as the cache has not seen the change it can still answer for the time before.
    assert_eq!(version(&server).await, current.to_string());
    let next = |page: &Value| {
        let token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        format!("ns/configmaps?continue={token}")
    };
    let expired = server.ok("GET", &next(&first), Value::Null, 410).await;
    assert_eq!(expired["reason"], "Expired");
    assert_eq!(
        names(&server.ok("GET", &next(&expired), Value::Null, 200).await),
        ["c"]
    );
    let path = "ns/configmaps?resourceVersion=2&resourceVersionMatch=Exact";
    let old = server.ok("GET", path, Value::Null, 410).await;
    assert_eq!(
        old["message"],
        "The resourceVersion for the provided list is too old."
    );
    server
        .ok("GET", "ns/configmaps?continue=nonsense", Value::Null, 400)
        .await;
}

/// A version that has not happened yet is waited for, though not for ever.
#[tokio::test(start_paused = true)]
async fn the_future_is_waited_for() {
    let server = Server::new();
    server.ok("POST", "ns/configmaps", labelled("a", "1"), 201).await;
    let current: u64 = version(&server).await.parse().unwrap_or_default();
    let next = current + 1;
    let paths = [
        format!("ns/configmaps?resourceVersion={next}"),
        format!("ns/configmaps?resourceVersion={next}&resourceVersionMatch=NotOlderThan&limit=1"),
        format!("ns/configmaps/a?resourceVersion={next}"),
    ];
    for path in &paths {
        let begun = tokio::time::Instant::now();
        let error = server.ok("GET", path, Value::Null, 504).await;
        assert_eq!(begun.elapsed(), crate::registry::cache::PATIENCE, "{path}");
        assert_eq!(
            error["message"],
            format!("Timeout: Too large resource version: {next}, current: {current}")
        );
    }
    let waiting =
        futures::future::join_all(paths.iter().map(|path| server.ok("GET", path, Value::Null, 200)));
    let writing = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        server.ok("POST", "ns/configmaps", labelled("b", "1"), 201).await
    };
    let (lists, created) = futures::future::join(waiting, writing).await;
    assert_eq!(created["metadata"]["resourceVersion"], next.to_string());
    assert_eq!(names(&lists[0]), ["a", "b"]);
}

/// Of what the cache has forgotten, or never knew, the store tells.
#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_cache_sees_everything() {
    let server = Server::new();
    for i in 0..3 {
        server
            .ok("POST", "ns/configmaps", labelled(&format!("n{i}"), "1"), 201)
            .await;
    }
    let all = ["ADDED n0", "ADDED n1", "ADDED n2", "ADDED n3"];
    let mut before = server.watch("ns/configmaps?watch=1&resourceVersion=1").await;
    let mut object = server
        .watch("-/configmaps?watch=1&resourceVersion=1&fieldSelector=metadata.name%3Dn3")
        .await;
    server.ok("POST", "ns/configmaps", labelled("n3", "1"), 201).await;
    assert_eq!(before.take(4).await, all);
    assert_eq!(object.take(1).await, ["ADDED n3"]);
    // From where the cache knows everything it takes over.
    let gone = server.ok("DELETE", "ns/configmaps/n3", Value::Null, 200);
    let seen = futures::future::join3(gone, before.take(1), object.take(1)).await;
    assert_eq!(
        (seen.1, seen.2),
        (vec!["DELETED n3".to_owned()], vec!["DELETED n3".to_owned()])
    );
    let resource = server.registry.resources().get("", "v1", "configmaps");
    let cache = resource.map(|resource| server.registry.caches.of(&resource));
    assert_eq!(cache.map(|cache| cache.watchers()), Some(2));
}

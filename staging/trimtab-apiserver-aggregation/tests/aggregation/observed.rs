//! Objects that are computed: in pages, and watched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use trimtab_apiserver_aggregation::kit::{ApiError, Asked, Computed, ExtensionServer};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_core::extensions::Body;

use crate::kit::{Answer, DEADLINE, World, begin, definition, send};

const LOADS: &str = "/apis/samples.test/v1/loads";

/// What there is, until somebody changes it.
#[derive(Clone, Debug, Default)]
struct Loads(Arc<Mutex<BTreeMap<&'static str, u32>>>);

#[async_trait]
impl Computed for Loads {
    type Object = Value;

    async fn list(&self, _: &Asked) -> Result<Vec<Value>, ApiError> {
        let loads = self.0.lock();
        if loads.is_empty() {
            return Err(ApiError::unavailable("nothing is known"));
        }
        let load = |(name, load): (&&str, &u32)| {
            json!({"metadata": {"name": name, "labels": {"odd": (load % 2).to_string()}},
                "spec": {"times": load}})
        };
        Ok(loads.iter().map(load).collect())
    }
}

/// The next so many events, as their types, names, and loads.
async fn events(body: &mut Body, wanted: usize) -> Vec<String> {
    let mut text = String::new();
    while text.lines().filter(|line| line.ends_with('}')).count() < wanted {
        let frame = tokio::time::timeout(DEADLINE, body.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no more than {text}"));
        let frame = frame.expect("goes on").expect("is whole");
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    let told = text.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        format!(
            "{} {name} {}",
            event["type"].as_str().unwrap_or_default(),
            object["spec"]["times"]
        )
    });
    told.collect()
}

#[tokio::test]
async fn what_is_computed_comes_in_pages_and_is_watched_where_that_is_declared() {
    let world = World::new().await;
    let loads = Loads::default();
    let of = || definition("Load", "loads", "Cluster");
    let server = ExtensionServer::builder(world.delegation());
    let server = server.observed(of(), loads.clone(), Duration::from_millis(10));
    let server = server.start().await.expect("starts");
    let replica = ExtensionServer::builder(world.delegation());
    let replica = replica.observed(of(), loads.clone(), Duration::from_millis(10));
    let replica = replica.start().await.expect("starts");
    let root = UserInfo {
        name: "root".to_owned(),
        groups: vec![MASTERS_GROUP.to_owned()],
        ..UserInfo::default()
    };
    let get_from = |server: &ExtensionServer, query: &str| {
        let (service, path) = (server.service(root.clone()), format!("{LOADS}{query}"));
        async move { send(service, Method::GET, &path, &[], Bytes::new()).await }
    };
    let get = |query: &str| get_from(&server, query);
    let watch = |query: &str| {
        let (service, path) = (server.service(root.clone()), format!("{LOADS}{query}"));
        async move {
            begin(service, Method::GET, &path, &[], Bytes::new())
                .await
                .into_body()
        }
    };
    let set = |all: &[(&'static str, u32)]| *loads.0.lock() = all.iter().copied().collect();
    let names = |answer: &Answer| -> Vec<String> {
        let items = answer.json["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };

    // What cannot be computed is said to whoever asks.
    let unknown = get("").await;
    assert_eq!(
        (unknown.code.as_u16(), unknown.json["message"].as_str()),
        (503, Some("nothing is known"))
    );

    // Lists are of now, their pages of the moment of the first, and watches go on from there.
    set(&[("a", 1), ("b", 2), ("c", 3)]);
    let page = get("?limit=2").await;
    assert_eq!(names(&page), ["a", "b"], "{}", page.text);
    let revision = page.json["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    let next = page.json["metadata"]["continue"]
        .as_str()
        .expect("there is more")
        .to_owned();
    set(&[("a", 5), ("b", 2), ("d", 4)]);
    assert_eq!(get("/a").await.json["spec"]["times"], 5);
    assert_eq!(names(&get(&format!("?limit=2&continue={next}")).await), ["c"]);
    assert_eq!(names(&get("?labelSelector=odd%3D0").await), ["b", "d"]);
    let mut since = watch(&format!("?watch=1&resourceVersion={revision}")).await;
    assert_eq!(
        events(&mut since, 3).await,
        ["MODIFIED a 5", "DELETED c 3", "ADDED d 4"]
    );

    // Caches of clients begin with all there is, and are told when that is over. Nobody asks meanwhile: it is computed all the same.
    let query = "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut all = watch(query).await;
    assert_eq!(
        events(&mut all, 4).await,
        ["ADDED a 5", "ADDED b 2", "ADDED d 4", "BOOKMARK  null"]
    );
    set(&[("a", 5), ("b", 7), ("d", 4)]);
    assert_eq!(events(&mut all, 1).await, ["MODIFIED b 7"]);
    assert_eq!(events(&mut since, 1).await, ["MODIFIED b 7"]);

    // Nothing is missed by whoever goes on at another replica: they have to begin anew.
    let here = get("").await.json["metadata"]["resourceVersion"]
        .as_str()
        .expect("one")
        .to_owned();
    let there = get_from(&replica, "").await.json["metadata"]["resourceVersion"]
        .as_str()
        .expect("one")
        .to_owned();
    for (server, foreign) in [(&server, there), (&replica, here)] {
        let expired = get_from(server, &format!("?watch=1&resourceVersion={foreign}")).await;
        assert!(expired.text.contains("\"code\":410"), "{}", expired.text);
    }
    drop((all, since));
    server.shutdown().await.expect("stops");
    replica.shutdown().await.expect("stops");

    // Where it is not declared there are pages, and no watch.
    let plain = ExtensionServer::builder(world.delegation()).computed(of(), loads.clone());
    let plain = plain.start().await.expect("starts");
    let page = get_from(&plain, "?limit=2").await;
    assert_eq!(
        (names(&page), &page.json["metadata"]["remainingItemCount"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!(1))
    );
    let next = page.json["metadata"]["continue"]
        .as_str()
        .expect("there is more")
        .to_owned();
    let last = get_from(&plain, &format!("?limit=2&continue={next}")).await;
    assert_eq!(
        (names(&last), last.json["metadata"]["continue"].as_str()),
        (vec!["d".to_owned()], Some("")),
        "{}",
        last.text
    );
    for (query, code) in [
        ("?watch=1", 405),
        ("?resourceVersion=5&resourceVersionMatch=Exact", 410),
        ("?resourceVersion=0", 200),
    ] {
        let answer = get_from(&plain, query).await;
        assert_eq!(answer.code.as_u16(), code, "{query}: {}", answer.text);
    }
    plain.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}

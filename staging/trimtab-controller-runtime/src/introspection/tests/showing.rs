//! What is shown of controllers, their queues, informers and facts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::informer::{InformerFactory, Selection};
use trimtab_client_cache::reflector;
use trimtab_client_workqueue::{Add, WorkQueue};

use super::recording::{SECOND, failure, noon};
use crate::introspection::observed::{LISTABLE, SHOWN};
use crate::introspection::{
    ControllerState, Fact, Introspection, KeyStatus, Level, Listed, Observed, Occasion, Outcome, Place,
    Timeline,
};

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

fn places(listed: &Listed<KeyStatus>) -> Vec<(&str, Place, u64)> {
    let items = listed.items.iter();
    items
        .map(|key| (key.key.as_str(), key.place, key.time.as_secs()))
        .collect()
}

/// A controller whose keys are everywhere: `hand` reconciles and comes again, `lone` is in hand without a record, `ready`
/// and `low` wait, `later` is delayed, `bad` backs off, `gone` failed for good, and `idle` is at rest.
async fn busy() -> (Introspection, Vec<Box<dyn std::any::Any>>) {
    let queue = WorkQueue::<ObjectKey>::builder()
        .build()
        .expect("the defaults work");
    let timeline = Timeline::new();
    let shown = Introspection::new("program");
    shown.controller(
        Observed::new("widget", timeline.clone())
            .kind("Widget")
            .workers(2)
            .queue(queue.clone()),
    );
    for (name, outcome) in [
        ("bad", failure("first")),
        ("bad", failure("second")),
        (
            "gone",
            Outcome::Terminal {
                message: "never".to_owned(),
            },
        ),
        ("idle", Outcome::Success),
    ] {
        timeline.begin(&key(name), Occasion::new(noon())).end(outcome);
    }
    let add = |name: &str, add: Add| queue.add_with(key(name), add).expect("it is open");
    add("hand", Add::now().because("created"));
    let hand = queue.get().await.expect("it is open");
    let record = timeline.begin(hand.key(), Occasion::of(&hand, noon()));
    add("hand", Add::now().because("updated"));
    sleep(SECOND).await;
    add("lone", Add::now().because("alone"));
    let lone = queue.get().await.expect("it is open");
    add("low", Add::now().priority(-100));
    add("ready", Add::now().because("created"));
    add("later", Add::after(60 * SECOND));
    add("bad", Add::after(30 * SECOND).because("error: second"));
    sleep(SECOND).await;
    (shown, vec![Box::new(hand), Box::new(record), Box::new(lone)])
}

#[tokio::test(start_paused = true)]
async fn each_key_is_where_it_is() {
    let (shown, _held) = busy().await;
    let snapshot = shown.snapshot("widget").expect("it is shown");
    use Place::{BackingOff, Delayed, Idle, InHand, Ready, Reconciling};
    assert_eq!(
        places(&snapshot.in_hand),
        [("default/hand", Reconciling, 2), ("default/lone", InHand, 1)]
    );
    assert!(snapshot.in_hand.items[0].again && !snapshot.in_hand.items[1].again);
    assert_eq!(
        places(&snapshot.ready),
        [("default/ready", Ready, 1), ("default/low", Ready, 1)]
    );
    assert_eq!(
        places(&snapshot.delayed),
        [("default/bad", BackingOff, 29), ("default/later", Delayed, 59)]
    );
    assert_eq!(
        places(&snapshot.failing),
        [("default/gone", Idle, 2), ("default/bad", BackingOff, 29)]
    );
    let bad = &snapshot.failing.items[1];
    assert_eq!(
        (bad.failures, &bad.reasons[..]),
        (2, &["error: second".to_owned()][..])
    );
    assert_eq!(
        bad.last.as_ref().map(|last| &last.outcome),
        Some(&failure("second"))
    );
    assert!(!snapshot.too_many);

    let summary = &snapshot.controller;
    let mut brief = shown.overview().controllers.remove(0);
    assert_eq!(
        brief.in_hand, 1,
        "a turn without a record is seen in the queue only"
    );
    brief.in_hand = 2;
    assert_eq!(*summary, brief, "the two say the same");
    let ready: Vec<_> = summary
        .ready
        .iter()
        .map(|depth| (depth.priority, depth.keys))
        .collect();
    assert_eq!(ready, [(0, 1), (-100, 1)]);
    assert_eq!((summary.in_hand, summary.delayed, summary.failing), (2, 2, 2));
    assert_eq!(summary.longest_in_hand, Some(2 * SECOND));
    let failure = summary.last_failure.as_ref().map(|key| key.key.as_str());
    assert_eq!(failure, Some("default/gone"));

    let keys = shown.keys("widget", "").expect("it is shown");
    assert_eq!(keys.total, 8);
    let order: Vec<_> = keys
        .items
        .iter()
        .map(|key| &key.key["default/".len()..])
        .collect();
    assert_eq!(
        order,
        ["hand", "lone", "low", "ready", "bad", "later", "idle", "gone"]
    );
    let found = shown.keys("widget", "T/LO").expect("it is shown");
    assert_eq!(
        places(&found),
        [("default/lone", InHand, 1), ("default/low", Ready, 1)]
    );
    let bad = shown.keys("widget", "bad").expect("it is shown").items.remove(0);
    assert!(bad.last.is_some(), "a key that waits has its last turn beside it");
    assert_eq!(shown.keys("other", ""), None);
    assert_eq!(shown.snapshot("other"), None);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_shown_with_where_it_is() {
    let (shown, _held) = busy().await;
    for (name, known, place, turns) in [
        ("hand", true, Place::Reconciling, 1),
        ("lone", true, Place::InHand, 0),
        ("ready", true, Place::Ready, 0),
        ("bad", true, Place::BackingOff, 2),
        ("gone", true, Place::Idle, 1),
        ("nobody", false, Place::Idle, 0),
    ] {
        let view = shown.key("widget", &key(name).to_string()).expect("it is shown");
        let seen = (view.known, view.now.place, view.timeline.turns.len());
        assert_eq!(seen, (known, place, turns), "{name}");
        assert_eq!(view.now.key, key(name).to_string());
        assert_eq!(view.now.last.is_some(), ["bad", "gone"].contains(&name), "{name}");
    }
    assert_eq!(shown.key("other", "default/bad"), None);
}

/// Of a queue that is too large to be copied each second, numbers are shown.
#[tokio::test(start_paused = true)]
async fn a_large_queue_is_counted_and_not_listed() {
    let queue = WorkQueue::<String>::builder().build().expect("the defaults work");
    let shown = Introspection::new("program");
    let timeline = Timeline::new();
    shown.controller(Observed::new("widget", timeline.clone()).queue(queue.clone()));
    let add = |number| queue.add(format!("key-{number}")).expect("it is open");
    (0..LISTABLE).for_each(add);
    let snapshot = shown.snapshot("widget").expect("it is shown");
    assert_eq!(
        (snapshot.ready.total, snapshot.ready.items.len()),
        (LISTABLE, SHOWN)
    );
    let keys = shown.keys("widget", "").expect("it is shown");
    assert_eq!((keys.total, keys.items.len()), (LISTABLE, SHOWN));
    add(LISTABLE);
    for (name, outcome) in [("bad", failure("no")), ("good", Outcome::Success)] {
        timeline.begin(name, Occasion::new(noon())).end(outcome);
    }
    let snapshot = shown.snapshot("widget").expect("it is shown");
    assert!(snapshot.too_many);
    assert_eq!(places(&snapshot.failing), [("bad", Place::Unknown, 0)]);
    let keys = shown.keys("widget", "").expect("it is shown");
    assert_eq!(
        places(&keys),
        [("good", Place::Unknown, 0), ("bad", Place::Unknown, 0)]
    );
    for (name, known) in [("bad", true), ("key-1", false)] {
        let view = shown.key("widget", name).expect("it is shown");
        assert_eq!((view.known, view.now.place), (known, Place::Unknown), "{name}");
    }
    assert_eq!(
        (snapshot.ready.total, snapshot.ready.items.len()),
        (LISTABLE + 1, 0)
    );
    assert_eq!(snapshot.controller.ready[0].keys, LISTABLE + 1);
}

#[test]
fn the_same_name_is_shown_once() {
    let shown = Introspection::new("program");
    let observed = |kind: &str| Observed::new("a", Timeline::new()).kind(kind);
    shown.controller(observed("Old"));
    shown.controller(Observed::new("b", Timeline::new()));
    shown.controller(observed("New").state(|| ControllerState::Waiting {
        waits_for: "its caches".to_owned(),
    }));
    shown.facts("shards", || vec![Fact::new("held", "3 of 256")]);
    shown.facts("leader", || vec![Fact::new("leader", "me").level(Level::Good)]);
    shown.facts("shards", Vec::new);
    let overview = serde_json::to_value(shown.overview()).expect("it can be encoded");
    let told: Vec<_> = overview["controllers"].as_array().into_iter().flatten().collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["kind"], &told[0]["state"], &told[0]["waitsFor"]),
        (&json!("New"), &json!("waiting"), &json!("its caches"))
    );
    let fact = json!({"label": "leader", "value": "me", "level": "good"});
    assert_eq!(overview["facts"], json!([{"title": "leader", "facts": [fact]}]));
}

/// What is given to be asked later may itself look at what is shown.
#[test]
fn no_lock_is_held_while_others_are_asked() {
    let shown = Introspection::new("program");
    let (again, inner) = (shown.clone(), shown.clone());
    shown.controller(Observed::new("a", Timeline::new()).state(move || {
        again.facts("more", || vec![Fact::new("a", "b")]);
        ControllerState::Running
    }));
    shown.facts("all", move || vec![Fact::new("controllers", inner.program())]);
    shown.informers(Vec::new);
    assert_eq!(shown.overview().facts.len(), 1);
    assert_eq!(shown.overview().facts.len(), 2);
    assert!(shown.informer_snapshots().is_empty());
}

/// A server with one config map, of which it never says anything after the list, and with nothing else.
fn one_config_map() -> Client {
    let service = tower::service_fn(|request: http::Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default();
        if !request.uri().path().ends_with("/configmaps") {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"});
            let body = Full::from(status.to_string()).boxed();
            return http::Response::builder().status(404).body(body);
        }
        if query.contains("watch=true") {
            let silence = StreamBody::new(futures::stream::pending());
            return http::Response::builder().body(silence.boxed());
        }
        let map =
            json!({"metadata": {"namespace": "default", "name": "a", "uid": "1", "resourceVersion": "5"}});
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [map]});
        http::Response::builder().body(Full::<Bytes>::from(list.to_string()).boxed())
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn informers_say_how_they_are() {
    let config = reflector::Config {
        streamed_lists: false,
        ..reflector::Config::default()
    };
    let factory = InformerFactory::with_config(one_config_map(), config);
    let maps = factory.informer::<ConfigMap>(Selection::in_namespace("default"));
    let secrets = factory.informer::<Secret>(Selection::all());
    let _told = maps.add_handler(|_| ());
    sleep(Duration::from_secs(5)).await;

    let shown = Introspection::new("program");
    shown.informers(move || factory.status());
    let snapshots = serde_json::to_value(shown.informer_snapshots()).expect("it can be encoded");
    let [map, secret] = snapshots.as_array().map(Vec::as_slice).unwrap_or_default() else {
        panic!("two informers: {snapshots:#}");
    };
    assert_eq!(
        (&map["kind"], &map["selection"], &map["synced"], &map["objects"]),
        (
            &json!("ConfigMap"),
            &json!("namespace default"),
            &json!(true),
            &json!(1)
        )
    );
    assert_eq!(map["resourceVersion"], "7");
    assert_eq!(map["silentSeconds"], 5.0);
    assert_eq!(map["handlers"][0]["backlog"], 0);
    assert!(map["bytes"].as_u64() > Some(0) && map["receivedBytes"].as_u64() > Some(0));
    assert!(map["lists"].as_u64() > Some(0) && map["watches"].as_u64() > Some(0));
    assert_eq!((&map["unhealthy"], &map["trouble"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&secret["kind"], &secret["synced"]),
        (&json!("Secret"), &json!(false))
    );
    let unhealthy = secret["unhealthy"].as_str().unwrap_or_default();
    assert!(
        unhealthy.starts_with("Secret are not listed yet: "),
        "{unhealthy}"
    );
    assert!(secret["failures"].as_u64() > Some(0));
    drop((maps, secrets));
}

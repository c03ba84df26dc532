//! What is watched and what is kept of it: namespaces, shards, projections, resyncs, health.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::harness::{Called, caught_up, settle, start, start_selected};
use super::server::{Kind, Server};
use crate::Delta;
use crate::barrier::WriteBarrier;
use crate::cached::Form;
use crate::informer::{Handling, InformerFactory, Selection, SharedInformer, Unhealthy};
use crate::reflector::Config;

fn json_of(informer: &SharedInformer<ConfigMap>, key: &str) -> serde_json::Value {
    let object = informer.store().get(&key.parse().unwrap()).unwrap();
    serde_json::from_str(&object.to_json()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn everything_is_kept_unless_told_otherwise() {
    let whole = json!({
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "other": "kept"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}],
        },
        "data": {"secret": "x", "open": "y"},
    });
    let server = Server::new();
    server.change(|state| state.world.put("a", whole.clone()));
    let factory = InformerFactory::new(server.client());
    let cases = [
        (Selection::all(), whole["metadata"].clone(), whole["data"].clone()),
        (
            Selection::all().without_bookkeeping().form(Form::Typed),
            json!({"annotations": {"other": "kept"}}),
            whole["data"].clone(),
        ),
        (
            Selection::all()
                .without(["data", "secret"])
                .without(["metadata", "uid"])
                .without(["metadata"]),
            whole["metadata"].clone(),
            json!({"open": "y"}),
        ),
        (
            Selection::all().transform("no data", |object| {
                object["data"] = json!({});
                object["metadata"] = json!({"name": "other"});
            }),
            json!({}),
            json!({}),
        ),
    ];
    for (selection, metadata, data) in cases {
        let informer = factory.informer::<ConfigMap>(selection.clone());
        caught_up(&server, &informer).await;
        let kept = json_of(&informer, "default/a");
        assert_eq!(kept["data"], data, "{selection:?}");
        for field in ["name", "namespace", "uid", "resourceVersion"] {
            assert!(kept["metadata"][field].is_string(), "{selection:?}: {field}");
        }
        for field in ["annotations", "managedFields"] {
            assert_eq!(kept["metadata"][field], metadata[field], "{selection:?}");
        }
        let decoded = informer.store().list()[0].decode().unwrap();
        assert_eq!(
            decoded.data.as_ref().map_or(0, |data| data.len()),
            data.as_object().unwrap().len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_transform_that_panics_costs_its_object_only() {
    let server = Server::new();
    server.put_all(["a", "b"]);
    let which = Selection::all().transform("picky", |object| {
        assert_ne!(object["metadata"]["name"], "a", "a test's panic")
    });
    let informer = start_selected(&server, Config::default(), which);
    let handler = Called::join(&informer);
    caught_up(&server, &informer).await;
    assert_eq!(handler.heard(), ["b added initially"]);
    assert_eq!(
        (
            informer.status().undecodable,
            informer.status().reflectors[0].undecodable
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn only_equal_projections_share_a_watch() {
    let server = Server::new();
    let factory = InformerFactory::new(server.client());
    let kept = |name: &'static str| Selection::all().transform(name, |_| ());
    let selections = [
        Selection::all(),
        Selection::all().form(Form::Typed),
        Selection::all().without_bookkeeping(),
        Selection::all().without(["a"]).without(["b"]),
        Selection::all().without(["b"]).without(["a"]),
        kept("one"),
        kept("one"),
        kept("two"),
    ];
    let informers: Vec<_> = selections
        .into_iter()
        .map(|which| factory.informer::<ConfigMap>(which))
        .collect();
    settle().await;
    assert_eq!(
        (informers.len(), server.state().watching, factory.status().len()),
        (8, 6, 6)
    );
}

#[tokio::test(start_paused = true)]
async fn several_namespaces_are_one_cache() {
    let server = Server::new();
    server.put_all(["a", "b"]);
    let informer = start_selected(
        &server,
        Config::default(),
        Selection::in_namespaces(["default", "other"]),
    );
    let handler = Called::join(&informer);
    settle().await;
    let paths: Vec<_> = informer
        .status()
        .selection
        .namespaces()
        .map(str::to_owned)
        .collect();
    assert_eq!(paths, ["default", "other"]);
    assert_eq!(
        (server.state().watching, informer.status().reflectors.len()),
        (2, 2)
    );
    informer.synced().await.unwrap();
    settle().await;
    assert!(handler.registration.is_synced());
    // A write is waited for where it was made: the other namespace hears of its version late, if at all.
    let answer = server.change(|state| state.world.put("c", json!({})));
    let answer: ConfigMap = serde_json::from_value(answer).unwrap();
    let mut barrier = WriteBarrier::new();
    barrier.wrote(&informer.store(), &answer);
    barrier.passed(Duration::from_secs(5)).await.unwrap();
    settle().await;
    assert_eq!(
        handler.heard_sorted(),
        ["a added initially", "b added initially", "c added"]
    );
    // A list of one namespace says nothing about the other.
    server.change(|state| {
        state.world.delete("a");
        state.world.compacted = state.world.version;
    });
    caught_up(&server, &informer).await;
    assert_eq!(handler.heard(), ["a found deleted"]);
    assert_eq!(informer.store().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_shard_is_not_believed_to() {
    const SHARD: &str = "shardRange(object.metadata.uid, '0x0', '0x8000000000000000')";
    let server = Server::new();
    server.put("a", &[]);
    let informer = start_selected(&server, Config::default(), Selection::all().shard(SHARD));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = informer.status();
    assert!(!status.synced && status.objects == 0);
    let Err(Unhealthy::NotSynced { kind, trouble }) = status.health() else {
        panic!("{:?}", status.health());
    };
    assert_eq!(
        (&*kind, &*trouble),
        (
            "ConfigMap",
            "server does not shard lists: it needs the feature ShardedListAndWatch"
        )
    );
    server.change(|state| state.shards = true);
    caught_up(&server, &informer).await;
    assert_eq!(informer.status().health(), Ok(()));
    let queries: Vec<_> = server
        .state()
        .requests
        .iter()
        .map(|(_, query)| query["shardSelector"].clone())
        .collect();
    assert!(queries.iter().all(|shard| shard == SHARD));
    assert_eq!(server.count(Kind::StreamedList), 0);
}

#[tokio::test(start_paused = true)]
async fn each_handler_is_told_again_after_its_own_period() {
    let server = Server::new();
    server.put_all(["a", "b"]);
    let informer = start(&server, Config::default());
    let again = |period| {
        let told = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (hears, begun) = (told.clone(), tokio::time::Instant::now());
        let handling = Handling::named("again").resync(Duration::from_secs(period));
        let registration = informer.add_handler_with(handling, move |delta: Delta<ConfigMap>| {
            if delta.is_resync() {
                hears
                    .lock()
                    .push((begun.elapsed().as_secs(), delta.key().name.clone()));
            }
        });
        (registration, told)
    };
    let (often, seldom, never) = (again(10), again(25), Called::join(&informer));
    tokio::time::sleep(Duration::from_secs(15)).await;
    // What has changed is told once, as a change, and nothing is told of what is gone.
    server.delete("b");
    tokio::time::sleep(Duration::from_secs(11)).await;
    let told = |told: &parking_lot::Mutex<Vec<(u64, String)>>| {
        told.lock()
            .iter()
            .map(|(at, name)| format!("{name} at {at}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&often.1), ["a at 10", "b at 10", "a at 20"]);
    assert_eq!(told(&seldom.1), ["a at 25"]);
    assert_eq!(
        never.heard_sorted(),
        ["a added initially", "b added initially", "b deleted"]
    );
    let names: Vec<_> = informer
        .status()
        .handlers
        .iter()
        .map(|handler| handler.name.clone())
        .collect();
    assert_eq!(names, ["again", "again", ""]);
}

#[tokio::test(start_paused = true)]
async fn an_informer_says_when_it_has_not_heard_from_the_server() {
    let server = Server::new();
    server.put("a", &[]);
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    assert_eq!(informer.status().health(), Ok(()));
    server.change(|state| state.absent = true);
    server.cut();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(informer.status().health(), Ok(()), "not for long enough");
    tokio::time::sleep(Duration::from_secs(100)).await;
    let unhealthy = informer.status().health().unwrap_err().to_string();
    let (said, why) = (
        "no word of ConfigMap from the server for ",
        "could not find the requested resource",
    );
    assert!(
        unhealthy.starts_with(said) && unhealthy.contains(why),
        "{unhealthy}"
    );
    assert_eq!(informer.status().objects, 1, "what was seen last stays");
    server.change(|state| state.absent = false);
    caught_up(&server, &informer).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(informer.status().health(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn hot_objects_are_decoded_once() {
    let server = Server::new();
    server.put_all(["a", "b", "c"]);
    let cases = [
        (Form::Typed, true),
        (Form::Compact { hot: 4 }, true),
        (Form::Compact { hot: 0 }, false),
    ];
    for (form, same) in cases {
        let informer = start_selected(&server, Config::default(), Selection::all().form(form));
        caught_up(&server, &informer).await;
        for object in informer.store().list() {
            let (first, again) = (object.decode().unwrap(), object.decode().unwrap());
            assert_eq!(std::sync::Arc::ptr_eq(&first, &again), same, "{form:?}");
        }
    }
    let informer = start_selected(
        &server,
        Config::default(),
        Selection::all().form(Form::Compact { hot: 4 }),
    );
    caught_up(&server, &informer).await;
    let object = &informer.store().list()[0];
    let (passing, kept) = (object.decode_once().unwrap(), object.decode().unwrap());
    assert!(
        !std::sync::Arc::ptr_eq(&passing, &kept),
        "a walk over all leaves the hot ones alone"
    );
}

#[test]
fn a_selection_says_what_it_is() {
    let all = Selection::all;
    let cases = [
        (all(), "all"),
        (Selection::in_namespace("a"), "namespace a"),
        (Selection::in_namespaces(["b", "a"]), "namespaces a, b"),
        (
            all().labels("app=web,tier in (a,b)").fields("spec.nodeName=n"),
            "all; labels app=web,tier in (a,b); fields spec.nodeName=n",
        ),
        (
            Selection::in_namespace("a").shard("shardRange(x)"),
            "namespace a; shard shardRange(x)",
        ),
        (
            all().without_bookkeeping().without(["spec"]),
            "all; without metadata.annotations[kubectl.kubernetes.io/last-applied-configuration], \
             metadata.managedFields, spec",
        ),
        (
            all().transform("no data", |_| ()).form(Form::Typed),
            "all; changed by no data; all kept decoded as well",
        ),
        (all().form(Form::default()), "all"),
        (all().form(Form::Compact { hot: 0 }), "all; 0 kept decoded"),
    ];
    for (selection, text) in cases {
        assert_eq!(selection.to_string(), text);
    }
}

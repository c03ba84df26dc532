//! Informers and those who share them: handlers, streams, the factory.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use parking_lot::Mutex;

use super::clauses::{bounded_takings, complete, view};
use super::harness::{Called, Slow, caught_up, paged, settle, start};
use super::server::{Fault, Kind, Server};
use crate::informer::{Change, Handling, InformerFactory, Selection};
use crate::predicate;
use crate::reflector::Config;
use crate::store::WaitError;
use crate::{Cached, Delta, Form};

#[tokio::test(start_paused = true)]
async fn who_joins_late_is_told_all_that_is_there_then_what_changes() {
    let server = Server::new();
    server.put_all(["a", "b"]);
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    let late = Called::join(&informer);
    assert!(!late.registration.is_synced(), "before it has been called");
    let patience = Duration::from_secs(9);
    tokio::time::timeout(patience, late.registration.synced())
        .await
        .unwrap();
    assert_eq!(late.heard(), ["a added initially", "b added initially"]);
    server.put("b", &[]);
    server.put("c", &[]);
    caught_up(&server, &informer).await;
    assert_eq!(late.heard(), ["b updated", "c added"]);

    let empty = Server::new();
    let informer = start(&empty, Config::default());
    let nobody = Called::join(&informer);
    assert!(!nobody.registration.is_synced(), "before the list");
    caught_up(&empty, &informer).await;
    assert!(nobody.registration.is_synced(), "an empty list is seen at once");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_has_one_entry_per_object_and_misses_no_end() {
    let server = Server::new();
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    let mut slow = Slow::join(&informer);
    server.put_all(["kept", "gone", "again"]);
    settle().await;
    assert_eq!(slow.take(9).len(), 3);
    for round in 0..50 {
        server.put_all(["kept", "again", "new", "brief"]);
        if round % 2 == 0 {
            server.delete("again");
            server.delete("brief");
        }
        if round == 7 {
            server.delete("gone");
        }
        settle().await;
    }
    server.delete("brief");
    caught_up(&server, &informer).await;
    assert_eq!(informer.status().handlers[0].backlog, 5);
    let taken = slow.take(99);
    bounded_takings(&taken).unwrap();
    let mut told: Vec<_> = taken
        .iter()
        .map(|delta| format!("{delta:?}").replace("default/", ""))
        .collect();
    told.sort();
    let brief = taken.iter().find(|delta| delta.key().name == "brief").unwrap();
    let last = server.state().world.version.to_string();
    assert_eq!(brief.object().resource_version(), last, "the last of its name");
    let expected = [
        "again added",
        "again deleted",
        "brief deleted",
        "gone deleted",
        "kept updated",
        "new added",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_the_handler_one_delta_and_others_nothing() {
    let server = Server::new();
    server.put_all(["a", "b", "c"]);
    let informer = start(&server, Config::default());
    let other = Called::join(&informer);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let fragile = informer.add_handler(move |delta: Delta<ConfigMap>| {
        assert_ne!(delta.key().name, "b", "a test's panic");
        hears.lock().push(delta.key().name.clone());
    });
    caught_up(&server, &informer).await;
    heard.lock().sort();
    assert_eq!(
        (&heard.lock()[..], other.heard().len()),
        (&["a".to_owned(), "c".to_owned()][..], 3)
    );
    assert_eq!((informer.status().handler_panics, fragile.is_synced()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_told_nothing_more() {
    let server = Server::new();
    server.put("a", &[]);
    let informer = start(&server, Config::default());
    let (leaver, dropped) = (Called::join(&informer), Called::join(&informer));
    caught_up(&server, &informer).await;
    let (told, dropped_told) = (leaver.told.clone(), dropped.told.clone());
    leaver.registration.leave().await;
    drop(dropped);
    let signal = Called::join(&informer).registration.sync_signal();
    server.put("b", &[]);
    caught_up(&server, &informer).await;
    assert_eq!((told.lock().log.len(), dropped_told.lock().log.len()), (1, 1));
    assert_eq!(informer.status().handlers, []);
    // Ends, since nobody can become synced here any more.
    signal.wait().await;
    assert!(!signal.is_synced());
}

#[tokio::test(start_paused = true)]
async fn an_informer_runs_as_long_as_somebody_has_it() {
    let server = Server::new();
    server.put("a", &[]);
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    let (store, lister) = (informer.store(), informer.lister());
    let (mut deltas, handler) = (informer.deltas(), Called::join(&informer));
    drop(informer);
    settle().await;
    server.put("b", &[]);
    settle().await;
    assert_eq!(
        (server.state().watching, handler.heard().len()),
        (1, 2),
        "a handler keeps it"
    );
    drop(handler);
    settle().await;
    assert_eq!(server.state().watching, 1, "a stream keeps it");
    assert!(deltas.next().await.is_some());
    drop(deltas);
    settle().await;
    assert_eq!(server.state().watching, 0);
    let later = server.put("c", &[]);
    assert_eq!(
        store.wait_until(&later, Duration::from_secs(9)).await,
        Err(WaitError::Stopped)
    );
    assert_eq!(store.len(), 2, "what was seen last stays");
    assert!(lister.in_namespace("default").get("b").is_some());
}

#[tokio::test(start_paused = true)]
async fn equal_selections_share_one_watch() {
    let server = Server::new();
    server.put("a", &[("team", "a")]);
    let factory = InformerFactory::new(server.client());
    let first = factory.informer::<ConfigMap>(Selection::all());
    let part = factory.clone().through(server.client()).watching(paged());
    let again = part.informer::<ConfigMap>(Selection::default());
    let labels = factory.informer::<ConfigMap>(Selection::all().labels("team=a"));
    let fields = factory.informer::<ConfigMap>(Selection::all().fields("metadata.name=a"));
    let namespace = factory.informer::<ConfigMap>(Selection::in_namespace("default"));
    let metadata = factory.informer::<PartialObjectMeta<ConfigMap>>(Selection::all());
    let resource = ApiResource::erase::<ConfigMap>(&());
    let dynamic = factory.informer_of::<DynamicObject>(&resource, Selection::all());
    let secrets = ApiResource::erase::<Secret>(&());
    let other = factory.informer_of::<DynamicObject>(&secrets, Selection::all());
    settle().await;
    assert_eq!(server.state().watching, 6);
    first.synced().await.unwrap();
    assert_eq!(again.store().len(), 1);
    assert_eq!(
        (metadata.store().len(), dynamic.store().len(), other.store().len()),
        (1, 1, 0)
    );
    drop(first);
    settle().await;
    assert_eq!(server.state().watching, 6, "still shared");
    drop((again, labels, fields, namespace, metadata, dynamic, other));
    settle().await;
    assert_eq!(server.state().watching, 0);
    let anew = factory.informer::<ConfigMap>(Selection::all());
    anew.synced().await.unwrap();
    assert_eq!(server.state().watching, 1);
}

#[tokio::test(start_paused = true)]
async fn objects_known_only_at_run_time_say_what_they_are() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        server.put("a", &[]);
        let factory = InformerFactory::with_config(server.client(), config);
        let kind = ApiResource::erase::<ConfigMap>(&());
        let informer = factory.informer_of::<DynamicObject>(&kind, Selection::all());
        informer.synced().await.unwrap();
        let types = informer.store().list()[0]
            .decode()
            .unwrap()
            .types
            .clone()
            .unwrap();
        assert_eq!((&*types.api_version, &*types.kind), ("v1", "ConfigMap"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_selected_informer_sees_objects_come_and_go() {
    let server = Server::new();
    server.put("a", &[("team", "a")]);
    server.put("b", &[("team", "b")]);
    let factory = InformerFactory::new(server.client());
    let which = Selection::in_namespace("default").labels("team=a");
    let informer = factory.informer::<ConfigMap>(which);
    let handler = Called::join(&informer);
    informer.synced().await.unwrap();
    for (name, team) in [("b", "a"), ("a", "b"), ("a", "a"), ("b", "a")] {
        server.put(name, &[("team", team)]);
        settle().await;
    }
    let heard = handler.heard();
    assert_eq!(
        heard,
        [
            "a added initially",
            "b added",
            "a deleted",
            "a added",
            "b updated"
        ]
    );
    let known = handler.told.lock().ordered.known.clone();
    complete(&known, &view(&informer.store())).unwrap();
    let (_, query) = server.state().requests[0].clone();
    assert_eq!(query.get("labelSelector").map(String::as_str), Some("team=a"));
}

#[tokio::test(start_paused = true)]
async fn a_filtered_handler_loses_no_deletion() {
    let server = Server::new();
    server.put("a", &[("team", "a")]);
    server.put("b", &[("team", "b")]);
    let informer = start(&server, Config::default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let matches = |object: &Cached<ConfigMap>| object.label("team").is_some_and(|team| team == "a");
    let _handler = informer.add_handler(predicate::filtered(matches, move |delta| {
        hears.lock().push(format!("{delta:?}").replace("default/", ""));
    }));
    caught_up(&server, &informer).await;
    server.put("b", &[("team", "a")]);
    caught_up(&server, &informer).await;
    server.put("a", &[("team", "b")]);
    caught_up(&server, &informer).await;
    server.put("a", &[("team", "b")]);
    caught_up(&server, &informer).await;
    // Both in one step: the handler hears only of the end, whose state does not match.
    server.put("b", &[("team", "b")]);
    server.delete("b");
    caught_up(&server, &informer).await;
    let told = std::mem::take(&mut *heard.lock());
    assert_eq!(told, ["a added initially", "b added", "a deleted", "b deleted"]);
}

#[tokio::test(start_paused = true)]
async fn a_metadata_informer_asks_for_metadata() {
    let server = Server::new();
    server.put("a", &[]);
    server.fail_lists([Fault::Code(422, None)]);
    let factory = InformerFactory::new(server.client());
    let informer = factory.informer::<PartialObjectMeta<ConfigMap>>(Selection::all());
    informer.synced().await.unwrap();
    settle().await;
    let accepts = server.state().accepts.clone();
    let form = |list: &str| {
        format!("application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json")
    };
    assert_eq!(accepts, [form(""), form("List"), form("")]);
    assert_eq!(server.count(Kind::List), 1);
    assert_eq!(informer.store().list()[0].name(), "a");
}

/// Metadata is read where it is watched already, if all of it is there.
#[tokio::test(start_paused = true)]
async fn metadata_costs_no_second_watch_where_there_is_one() {
    let all = Selection::all;
    let annotation = [
        "metadata",
        "annotations",
        "kubectl.kubernetes.io/last-applied-configuration",
    ];
    let cases = [
        (all(), all(), true),
        (all(), all().without_bookkeeping(), true),
        (all().without_bookkeeping(), all(), false),
        (all().without(["data"]), all(), true),
        (
            all().without(annotation),
            all().without(["metadata", "annotations"]),
            true,
        ),
        (
            all().without(["metadata", "annotations"]),
            all().without(annotation),
            false,
        ),
        (all().labels("team=a"), all(), false),
        (all(), all().labels("team=a"), false),
        (all().labels("team=a"), all().labels("team=a"), true),
        (all().fields("metadata.name=a"), all(), false),
        (Selection::in_namespace("default"), all(), false),
        (all().transform("nothing", |_| ()), all(), false),
        (all().form(Form::Compact { hot: 0 }), all(), true),
        (all().form(Form::Typed), all(), false),
    ];
    let kind = ApiResource::erase::<ConfigMap>(&());
    for (running, asked, shares) in cases {
        let server = Server::new();
        let factory = InformerFactory::with_config(server.client(), Config::default());
        let typed = factory.informer::<ConfigMap>(running.clone());
        let metadata = factory.metadata_of(&kind, asked.clone());
        let again = factory.metadata_of(&kind, asked.clone());
        settle().await;
        let watches = server.state().watching;
        assert_eq!(
            watches,
            if shares { 1 } else { 2 },
            "{running}, asked for {asked}"
        );
        assert_eq!(
            metadata.status().metadata_only,
            !shares,
            "{running}, asked for {asked}"
        );
        drop((typed, again));
        metadata.synced().await.unwrap();
        settle().await;
        assert_eq!(server.state().watching, 1, "it runs as long as somebody has it");
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_of_metadata_are_told_as_all_others() {
    let kind = ApiResource::erase::<ConfigMap>(&());
    for is_shared in [true, false] {
        let server = Server::new();
        server.put("a", &[("team", "a")]);
        let factory = InformerFactory::with_config(server.client(), Config::default());
        let typed = is_shared.then(|| factory.informer::<ConfigMap>(Selection::all()));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let informer = factory.metadata_of(&kind, Selection::all());
        let handler = informer.add_handler_with(Handling::named("teams"), move |change: Change, object| {
            let team = object.label("team").unwrap_or_default().into_owned();
            let version = object.meta().unwrap().resource_version;
            assert_eq!(version.as_deref(), Some(&*object.resource_version()));
            hears
                .lock()
                .push(format!("{} of {team}: {change:?}", object.key().name));
        });
        drop(typed);
        handler.synced().await;
        server.put("a", &[("team", "b")]);
        settle().await;
        server.put("b", &[]);
        settle().await;
        server.delete("a");
        settle().await;
        let expected = [
            "a of a: Added { initial: true }",
            "a of b: Updated",
            "b of : Added { initial: false }",
            "a of b: Deleted { observed: true }",
        ];
        assert_eq!(*heard.lock(), expected, "shared: {is_shared}");
        assert_eq!(informer.status().handlers[0].name, "teams");
        handler.leave().await;
        server.delete("b");
        settle().await;
        assert_eq!(heard.lock().len(), expected.len(), "it has left");
    }
}

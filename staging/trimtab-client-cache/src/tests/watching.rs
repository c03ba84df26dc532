//! The reflector: what follows from each way in which lists and watches end.

use std::time::Duration;

use tokio::time::Instant;

use super::clauses::{complete, view, view_of};
use super::harness::{Called, caught_up, paged, settle, start, start_selected};
use super::server::{Fault, Kind, Server};
use crate::cached::Form;
use crate::informer::{Selection, SharedInformer};
use crate::reflector::Config;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

/// Lists of both kinds.
fn lists(server: &Server) -> usize {
    server.count(Kind::List) + server.count(Kind::StreamedList)
}

async fn status_of_trouble(informer: &SharedInformer<ConfigMap>) -> String {
    settle().await;
    informer.status().reflectors.remove(0).trouble.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_watch_resumes_and_only_a_lost_version_is_listed_again() {
    let seconds = Duration::from_secs;
    // What the first watch after the interruption meets, how many lists there are more, and when all is well again.
    let cases = [
        (Fault::Fine, 0, seconds(0)..seconds(2)),
        (Fault::Refused, 0, seconds(1)..seconds(6)),
        (Fault::Mute, 0, seconds(60)..seconds(66)),
        (Fault::Code(429, Some(40)), 0, seconds(40)..seconds(43)),
        (Fault::Code(429, None), 0, seconds(1)..seconds(6)),
        (Fault::Code(500, None), 0, seconds(1)..seconds(6)),
        (Fault::Code(503, Some(10)), 0, seconds(10)..seconds(13)),
        (Fault::ErrorEvent(429), 0, seconds(0)..seconds(6)),
        (Fault::Cut(0), 0, seconds(0)..seconds(6)),
        (Fault::Cut(30), 0, seconds(0)..seconds(6)),
        (Fault::Short(30), 0, seconds(0)..seconds(6)),
        (Fault::Closed, 0, seconds(1)..seconds(6)),
        (Fault::Hung, 0, seconds(120)..seconds(126)),
        (Fault::Expired, 1, seconds(0)..seconds(6)),
        (Fault::ExpiredEvent, 1, seconds(0)..seconds(6)),
        (Fault::ErrorEvent(500), 1, seconds(0)..seconds(6)),
    ];
    for (fault, more_lists, time) in cases {
        for config in [Config::default(), paged()] {
            let server = Server::new();
            server.put("a", &[]);
            let informer = start(&server, config);
            caught_up(&server, &informer).await;
            // The interruption counts as a failure of its own, so the next one waits for up to 3.2 s.
            server.fail_watches([fault]);
            server.cut();
            settle().await;
            server.put("b", &[]);
            let begun = Instant::now();
            informer
                .store()
                .wait_for(&"default/b".parse().unwrap(), |b| b.map(|_| ()))
                .await
                .unwrap();
            assert!(
                time.contains(&begun.elapsed()),
                "{fault:?}: after {:?}, not {time:?}",
                begun.elapsed()
            );
            tokio::time::sleep(seconds(10)).await;
            let status = informer.status().reflectors.remove(0);
            let more = status.paged_lists + status.streamed_lists - 1;
            assert_eq!((more, status.relists()), (more_lists, more_lists), "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_announces_what_happened_while_nobody_looked() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        for name in ["a", "b", "c", "d"] {
            server.put(name, &[]);
        }
        let informer = start(&server, config);
        let handler = Called::join(&informer);
        caught_up(&server, &informer).await;
        assert_eq!(handler.heard().len(), 4);
        // All of it in one step: the watch that is open is told only that it is too late.
        server.change(|state| {
            state.world.delete("a");
            state.world.delete("b");
            state.world.put("b", json!({}));
            state.world.put("c", json!({}));
            state.world.put("e", json!({}));
            state.world.compacted = state.world.version;
        });
        caught_up(&server, &informer).await;
        let heard = handler.heard_sorted();
        let expected = [
            "a found deleted",
            "b added",
            "b found deleted",
            "c updated",
            "e added",
        ];
        assert_eq!(heard, expected);
        complete(
            &handler.told.lock().ordered.known,
            &view_of(&server.state().world.objects()),
        )
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_made_again_is_deleted_then_added() {
    let server = Server::new();
    server.put("a", &[]);
    let informer = start(&server, Config::default());
    let handler = Called::join(&informer);
    caught_up(&server, &informer).await;
    server.delete("a");
    server.put("a", &[]);
    caught_up(&server, &informer).await;
    server.delete("a");
    caught_up(&server, &informer).await;
    assert_eq!(
        handler.heard(),
        ["a added initially", "a deleted", "a added", "a deleted"]
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_carry_a_quiet_watch_past_compactions() {
    let server = Server::new();
    let which = Selection::all().labels("team=a");
    let informer = start_selected(&server, Config::default(), which);
    caught_up(&server, &informer).await;
    for _ in 0..10 {
        server.put("other", &[("team", "b")]);
    }
    settle().await;
    let before = informer.store().resource_version();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let (after, now) = (
        informer.store().resource_version(),
        server.state().world.version.to_string(),
    );
    assert!(before != after && after == now, "{before} to {after}, not {now}");
    assert!(informer.status().reflectors[0].bookmarks > 0);
    server.compact();
    server.cut();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(
        (lists(&server), server.count(Kind::Watch)),
        (1, 1),
        "resumed, not listed again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_that_breaks_is_not_a_server_in_trouble() {
    let server = Server::new();
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    server.fail_watches([Fault::Hung; 10]);
    server.cut();
    // Each takes 120 s to be given up. Were they counted as failures in a row, the waits would add up to minutes.
    tokio::time::sleep(Duration::from_secs(10 * 122 + 5)).await;
    assert_eq!(server.count(Kind::Watch), 11);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_resource_is_waited_for() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        server.change(|state| state.absent = true);
        server.put("a", &[]);
        let informer = start(&server, config);
        let handler = Called::join(&informer);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let tries = lists(&server);
        assert!(
            (11..30).contains(&tries),
            "backs off up to a minute: {tries} tries"
        );
        let trouble = "the server could not find the requested resource";
        assert_eq!(status_of_trouble(&informer).await, trouble);
        assert!(!informer.status().synced && !handler.registration.is_synced());
        server.change(|state| state.absent = false);
        caught_up(&server, &informer).await;
        assert_eq!(handler.heard(), ["a added initially"]);
        assert_eq!(status_of_trouble(&informer).await, "", "a list is a success");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compact_cache_says_what_cannot_be_decoded_when_it_is_looked_at() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        let broken = |name: &str| server.change(|state| state.world.put(name, json!({"data": 1})));
        broken("a");
        server.put_all(["b", "c"]);
        let informer = start(&server, config);
        let handler = Called::join(&informer);
        caught_up(&server, &informer).await;
        let expected = ["a added initially", "b added initially", "c added initially"];
        assert_eq!(handler.heard_sorted(), expected);
        let store = informer.store();
        let key = "default/a".parse().unwrap();
        let undecodable = store.get(&key).unwrap().decode().unwrap_err();
        let said = "ConfigMap default/a cannot be decoded: invalid type: integer `1`, expected a map";
        assert_eq!(undecodable.to_string(), said);
        assert_eq!(
            undecodable.resource_version,
            store.get(&key).unwrap().resource_version()
        );
        assert_eq!(informer.status().undecodable, 1);
        assert!(store.list()[1..].iter().all(|object| object.decode().is_ok()));
        server.put("a", &[]);
        caught_up(&server, &informer).await;
        assert!(store.get(&key).unwrap().decode().is_ok(), "it has changed");
        assert_eq!(
            (handler.heard(), informer.status().undecodable),
            (vec!["a updated".to_owned()], 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_stops_nobody_else() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        let broken = |name: &str| server.change(|state| state.world.put(name, json!({"data": 1})));
        broken("a");
        server.put_all(["b", "c", "d"]);
        let informer = start_selected(&server, config, Selection::all().form(Form::Typed));
        let handler = Called::join(&informer);
        caught_up(&server, &informer).await;
        assert_eq!(
            handler.heard_sorted(),
            ["b added initially", "c added initially", "d added initially"]
        );
        assert_eq!(informer.status().reflectors[0].undecodable, 1);

        let known = view(&informer.store());
        let last = broken("b");
        caught_up(&server, &informer).await;
        assert_eq!(
            last["metadata"]["resourceVersion"],
            json!(informer.store().resource_version())
        );
        assert_eq!(
            (handler.heard(), view(&informer.store())),
            (Vec::new(), known.clone()),
            "what was known stays"
        );

        // Found by a list, too, except what has another UID.
        server.change(|state| {
            state.world.delete("c");
            state.world.put("c", json!({"data": 1}));
            state.world.compacted = state.world.version;
        });
        caught_up(&server, &informer).await;
        assert_eq!(handler.heard(), ["c found deleted"]);
        assert_eq!(informer.status().reflectors[0].undecodable, 5);

        server.put("a", &[]);
        server.delete("b");
        caught_up(&server, &informer).await;
        assert_eq!(handler.heard(), ["a added", "b deleted"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_read_in_pages() {
    for ignores in [true, false] {
        let server = Server::new();
        server.change(|state| {
            state.ignores_streamed_lists = ignores;
            state.refuses_streamed_lists = !ignores;
        });
        server.put_all(["a", "b", "c"]);
        let config = Config {
            page_size: 2,
            ..Config::default()
        };
        let informer = start(&server, config);
        caught_up(&server, &informer).await;
        server.change(|state| {
            state.world.put("d", json!({}));
            state.world.compacted = state.world.version;
        });
        caught_up(&server, &informer).await;
        assert_eq!(informer.store().len(), 4);
        let counts = [Kind::StreamedList, Kind::List].map(|kind| server.count(kind));
        // Streams are asked for once; two pages of each of the lists.
        let status = informer.status().reflectors.remove(0);
        assert_eq!(
            (counts, status.paged_lists, status.streamed_lists),
            ([1, 4], 2, 0),
            "ignores: {ignores}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_in_between_is_not_the_end_of_a_list() {
    let server = Server::new();
    server.put("a", &[]);
    let config = Config {
        initial_silence: Duration::from_secs(100),
        ..Config::default()
    };
    let informer = start(&server, config);
    caught_up(&server, &informer).await;
    // From now on the server takes the streamed list for a watch, which tells what is new, and in a minute a bookmark.
    server.change(|state| state.ignores_streamed_lists = true);
    server.fail_watches([Fault::ErrorEvent(500)]);
    server.cut();
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(
        (
            informer.store().len(),
            informer.status().reflectors[0].paged_lists
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_pages_expire_is_read_at_once() {
    let server = Server::new();
    server.put_all(["a", "b", "c", "d", "e"]);
    server.fail_lists([Fault::Fine, Fault::Expired]);
    // It was on the first page, which is no longer true.
    server.change(|state| state.deleted_on_expiry = Some("a"));
    let informer = start(&server, paged());
    caught_up(&server, &informer).await;
    complete(
        &view(&informer.store()),
        &view_of(&server.state().world.objects()),
    )
    .unwrap();
    assert_eq!(informer.status().reflectors[0].failures, 0);
    let limits = server
        .state()
        .requests
        .iter()
        .filter(|(kind, _)| *kind == Kind::List)
        .map(|(_, query)| query.get("limit").cloned())
        .collect::<Vec<_>>();
    assert_eq!(limits, [Some("2".to_owned()), Some("2".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_is_refused_and_a_server_that_was_set_back_is_followed() {
    for config in [Config::default(), paged()] {
        let server = Server::new();
        server.put_all(["a", "b", "c"]);
        let informer = start(&server, config);
        let handler = Called::join(&informer);
        caught_up(&server, &informer).await;
        handler.heard();
        server.fail_lists([Fault::Stale(1), Fault::Stale(2), Fault::Stale(3)]);
        server.fail_watches([Fault::Expired]);
        server.cut();
        tokio::time::sleep(Duration::from_secs(180)).await;
        assert_eq!(
            (handler.heard(), informer.store().len()),
            (Vec::new(), 3),
            "no list of the past is taken"
        );
        assert_eq!(informer.status().reflectors.remove(0).trouble, None);

        server.change(|state| {
            state.world.restore(3);
            state.cuts += 1;
        });
        let before = lists(&server);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(handler.heard(), ["c found deleted"]);
        assert_eq!(
            (informer.store().resource_version(), lists(&server) - before),
            ("3".to_owned(), 4)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_for_is_said_in_the_status() {
    let server = Server::new();
    let cases = [
        (
            Selection::in_namespace("a b"),
            "no request can be made for \"/api/v1/namespaces/a b/configmaps\": invalid uri character",
        ),
        (Selection::all().labels("a=b=c"), "unable to parse requirement"),
    ];
    for (which, trouble) in cases {
        let informer = start_selected(&server, Config::default(), which);
        assert_eq!(status_of_trouble(&informer).await, trouble);
    }
}

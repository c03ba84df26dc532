//! The reflector: what follows from each way in which lists and watches end.
//!
//! [`RECOVERIES`] and [`LIST_RECOVERIES`] say it of one fault each, beside what client-go makes of it. The rest:
//!
//! | what happens | test | client-go |
//! |---|---|---|
//! | 410 on a later page | `a_list_whose_pages_expire_is_read_at_once` | its pager lists all at once, too, at the first page's version |
//! | streamed lists refused or ignored | `a_server_that_does_not_stream_lists_is_read_in_pages` | falls back each time, or waits for the bookmark |
//! | a bookmark that does not end the list | `a_bookmark_in_between_is_not_the_end_of_a_list` | waits on |
//! | bookmarks only | `bookmarks_carry_a_quiet_watch_past_compactions` | the same |
//! | a list of the past | `a_stale_list_is_refused_and_a_server_that_was_set_back_is_followed` | asks for none, and takes what it gets |
//! | an object that cannot be decoded | `what_cannot_be_decoded_stops_nobody_else` | the list or watch fails, again and again |
//! | watches that are closed at once | `watches_that_are_closed_at_once_are_asked_for_ever_less_often` | lists as often |
//! | no such resource | `an_unknown_resource_is_waited_for` | the same |

use std::time::Duration;

use tokio::time::Instant;

use super::clauses::{View, complete, view, view_of};
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

/// What is made of a failed watch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It is watched again from where the watch ended.
    Resumed,
    /// It is listed, because the version has expired.
    Expired,
    /// It is listed, because the server has not come as far as the version.
    Unknown,
    /// It is listed, because the server's state is in doubt.
    Listed,
}

/// A fault that a resumed watch meets.
struct Met {
    fault: Fault,
    then: Then,
    /// After how many seconds all is well again.
    time: std::ops::Range<u64>,
    /// What client-go makes of it, as of its reflector.go.
    client_go: &'static str,
}

const fn met(fault: Fault, then: Then, time: std::ops::Range<u64>, client_go: &'static str) -> Met {
    Met {
        fault,
        then,
        time,
        client_go,
    }
}

/// The interruption itself counts as a failure, so the next one waits for up to 3.2 s; what expires is listed as soon.
const RECOVERIES: [Met; 24] = [
    met(
        Fault::Fine,
        Then::Resumed,
        0..2,
        "watches again from the last version",
    ),
    // Not reached:
    met(
        Fault::Refused,
        Then::Resumed,
        1..6,
        "connection refused: backs off and watches again",
    ),
    met(
        Fault::Mute,
        Then::Resumed,
        60..66,
        "none: waits for the transport's ping to fail, after 45 s, and lists",
    ),
    // Refused:
    met(
        Fault::Code(429, Some(40)),
        Then::Resumed,
        40..43,
        "the REST client waits as asked, then watches again",
    ),
    met(
        Fault::Code(429, None),
        Then::Resumed,
        1..6,
        "too many requests: backs off and watches again",
    ),
    met(
        Fault::Code(500, None),
        Then::Resumed,
        1..6,
        "backs off and lists; what it knows is as good as it was",
    ),
    met(
        Fault::Code(503, Some(10)),
        Then::Resumed,
        10..13,
        "the REST client waits as asked, then watches again",
    ),
    met(
        Fault::Code(504, None),
        Then::Resumed,
        1..6,
        "backs off and lists; what it knows is as good as it was",
    ),
    met(Fault::Code(403, None), Then::Listed, 1..9, "backs off and lists"),
    met(
        Fault::Expired,
        Then::Expired,
        0..6,
        "expired: lists, from no particular version if that has expired, too",
    ),
    met(
        Fault::TooLarge { by_cause: true },
        Then::Unknown,
        0..6,
        "isTooLargeResourceVersionError: lists at once",
    ),
    met(
        Fault::TooLarge { by_cause: false },
        Then::Unknown,
        0..6,
        "the same, by the message of servers before 1.18.5",
    ),
    // Broken off:
    met(
        Fault::Cut(0),
        Then::Resumed,
        0..6,
        "closed: watches again from the last version",
    ),
    met(
        Fault::Cut(30),
        Then::Resumed,
        0..6,
        "half a line, unexpected EOF: watches again from the last version",
    ),
    met(
        Fault::Short(30),
        Then::Resumed,
        0..6,
        "half a line, EOF: watches again from the last version",
    ),
    met(
        Fault::Closed,
        Then::Resumed,
        1..6,
        "VeryShortWatchError: backs off and lists; nothing was lost",
    ),
    met(
        Fault::Hung,
        Then::Resumed,
        120..126,
        "none: waits for the transport's ping or the end of the watch",
    ),
    // Told in the stream:
    met(
        Fault::ExpiredEvent,
        Then::Expired,
        0..6,
        "expired: ends the watch and lists",
    ),
    met(
        Fault::ErrorEvent(429),
        Then::Resumed,
        0..6,
        "too many requests: backs off and watches again",
    ),
    met(
        Fault::ErrorEvent(500),
        Then::Listed,
        0..6,
        "internal error: lists, as MaxInternalErrorRetryDuration is 0",
    ),
    met(
        Fault::ErrorEvent(504),
        Then::Listed,
        0..6,
        "any other error: ends the watch and lists",
    ),
    met(
        Fault::Garbled,
        Then::Listed,
        0..6,
        "unable to decode an event: ends the watch",
    ),
    // Of the past:
    met(
        Fault::Again(3),
        Then::Resumed,
        0..2,
        "stores it, and so goes back in time",
    ),
    met(
        Fault::Again(9),
        Then::Resumed,
        0..2,
        "stores it, and so goes back in time",
    ),
];

#[tokio::test(start_paused = true)]
async fn an_interrupted_watch_resumes_and_only_a_lost_version_is_listed_again() {
    let seconds = Duration::from_secs;
    for Met {
        fault,
        then,
        time,
        client_go,
    } in RECOVERIES
    {
        for config in [Config::default(), paged()] {
            let case = format!("{fault:?} (client-go: {client_go})");
            let server = Server::new();
            server.put_all(["a", "gone"]);
            let informer = start(&server, config);
            let handler = Called::join(&informer);
            caught_up(&server, &informer).await;
            server.put("gone", &[]);
            server.delete("gone");
            caught_up(&server, &informer).await;
            handler.heard();
            server.fail_watches([fault]);
            server.cut();
            settle().await;
            server.put("b", &[]);
            let begun = Instant::now();
            let b = "default/b".parse().unwrap();
            informer.store().wait_for(&b, |b| b.map(|_| ())).await.unwrap();
            let took = begun.elapsed();
            assert!(
                seconds(time.start) <= took && took < seconds(time.end),
                "{case}: after {took:?}, not {time:?}"
            );
            tokio::time::sleep(seconds(10)).await;
            assert_eq!(handler.heard(), ["b added"], "{case}");
            let is = view_of(&server.state().world.objects());
            complete(&view(&informer.store()), &is).unwrap_or_else(|broken| panic!("{case}: {broken}"));
            let status = informer.status().reflectors.remove(0);
            let relists = [
                status.relists_expired,
                status.relists_unknown,
                status.relists_failed,
            ];
            let expected =
                [Then::Expired, Then::Unknown, Then::Listed].map(|reason| u64::from(then == reason));
            assert_eq!(relists, expected, "{case}");
            let lists = status.paged_lists + status.streamed_lists;
            assert_eq!(
                (lists, status.trouble),
                (1 + relists.iter().sum::<u64>(), None),
                "{case}"
            );
        }
    }
}

/// A fault that a list meets.
struct MetListing {
    fault: Fault,
    /// After how many seconds there is a list, with or without one before.
    time: std::ops::Range<u64>,
    /// How many streamed lists and how many pages are asked for, the failed one included.
    asked: (usize, usize),
    client_go: &'static str,
}

const fn listing(
    fault: Fault,
    time: std::ops::Range<u64>,
    asked: (usize, usize),
    client_go: &'static str,
) -> MetListing {
    MetListing {
        fault,
        time,
        asked,
        client_go,
    }
}

const LIST_RECOVERIES: [MetListing; 26] = [
    // Streamed lists:
    listing(
        Fault::Refused,
        0..6,
        (2, 0),
        "connection refused: backs off and streams again",
    ),
    listing(Fault::Mute, 60..66, (2, 0), "waits for the transport"),
    listing(
        Fault::Code(429, Some(40)),
        40..43,
        (2, 0),
        "too many requests: waits and streams again",
    ),
    listing(
        Fault::Code(500, None),
        0..6,
        (2, 0),
        "any other error: falls back to pages for this time",
    ),
    listing(
        Fault::Code(422, None),
        0..1,
        (1, 1),
        "any other error: falls back to pages for this time",
    ),
    listing(
        Fault::Code(405, None),
        0..1,
        (1, 1),
        "any other error: falls back to pages for this time",
    ),
    listing(
        Fault::Expired,
        0..6,
        (2, 0),
        "expired: streams again at once, from no particular version",
    ),
    listing(
        Fault::TooLarge { by_cause: true },
        0..6,
        (2, 0),
        "too large: streams again at once, from no particular version",
    ),
    listing(
        Fault::TooLarge { by_cause: false },
        0..6,
        (2, 0),
        "the same, by the message of servers before 1.18.5",
    ),
    listing(
        Fault::Cut(0),
        0..6,
        (2, 0),
        "closed before the bookmark: streams again from the beginning",
    ),
    listing(
        Fault::Cut(400),
        0..6,
        (2, 0),
        "closed before the bookmark: streams again from the beginning",
    ),
    listing(
        Fault::Short(400),
        0..6,
        (2, 0),
        "closed before the bookmark: streams again from the beginning",
    ),
    listing(
        Fault::Closed,
        0..6,
        (2, 0),
        "closed before the bookmark: streams again from the beginning",
    ),
    listing(
        Fault::Hung,
        10..11,
        (1, 1),
        "warns every 10 s that there is no bookmark yet, and waits",
    ),
    listing(
        Fault::ErrorEvent(500),
        0..1,
        (1, 1),
        "any other error: falls back to pages for this time",
    ),
    listing(
        Fault::ErrorEvent(429),
        0..6,
        (2, 0),
        "any other error: falls back to pages for this time",
    ),
    // Lists in pages, of two objects each:
    listing(Fault::Refused, 0..6, (0, 3), "backs off and lists"),
    listing(Fault::Mute, 60..66, (0, 3), "waits for the transport"),
    listing(
        Fault::Code(429, Some(40)),
        40..43,
        (0, 3),
        "the REST client waits as asked and asks again",
    ),
    listing(Fault::Code(500, None), 0..6, (0, 3), "backs off and lists"),
    listing(
        Fault::Expired,
        0..6,
        (0, 3),
        "expired: lists at once, from no particular version",
    ),
    listing(
        Fault::TooLarge { by_cause: true },
        0..6,
        (0, 3),
        "too large: lists at once, from no particular version",
    ),
    listing(
        Fault::TooLarge { by_cause: false },
        0..6,
        (0, 3),
        "the same, by the message of servers before 1.18.5",
    ),
    listing(
        Fault::Cut(200),
        0..6,
        (0, 3),
        "unexpected EOF: backs off and lists",
    ),
    listing(
        Fault::Short(200),
        0..6,
        (0, 3),
        "unexpected end of JSON: backs off and lists",
    ),
    listing(Fault::Hung, 60..66, (0, 3), "waits for the transport"),
];

/// Before a list is complete nothing of it is seen: not by readers, who go on with the one before, and not by handlers.
#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_asked_for_again_and_nothing_is_seen_of_it() {
    let seconds = Duration::from_secs;
    for MetListing {
        fault,
        time,
        asked,
        client_go,
    } in LIST_RECOVERIES
    {
        for relist in [false, true] {
            let case = format!("{fault:?}, relist: {relist} (client-go: {client_go})");
            let config = if asked.0 > 0 { Config::default() } else { paged() };
            let server = Server::new();
            server.put_all(["a", "b", "c"]);
            let fail = || server.fail_lists([fault]);
            if !relist {
                fail();
            }
            let informer = start(&server, config);
            let handler = Called::join(&informer);
            let (mut known, mut before) = (View::new(), (0, 0));
            let counts = || (server.count(Kind::StreamedList), server.count(Kind::List));
            if relist {
                caught_up(&server, &informer).await;
                handler.heard();
                (known, before) = (view(&informer.store()), counts());
                fail();
                server.change(|state| {
                    state.world.delete("a");
                    state.world.put("d", json!({}));
                    state.world.compacted = state.world.version;
                });
            }
            let (begun, store) = (Instant::now(), informer.store());
            let is = view_of(&server.state().world.objects());
            while view(&store) != is {
                assert_eq!(
                    (view(&store), handler.heard()),
                    (known.clone(), Vec::new()),
                    "{case}"
                );
                assert!(begun.elapsed() < seconds(100), "{case}: no list in 100 s");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let took = begun.elapsed();
            assert!(
                seconds(time.start) <= took && took < seconds(time.end),
                "{case}: after {took:?}, not {time:?}"
            );
            settle().await;
            let heard: &[&str] = match relist {
                false => &["a added initially", "b added initially", "c added initially"],
                true => &["a found deleted", "d added"],
            };
            assert_eq!(handler.heard_sorted(), heard, "{case}");
            let (streamed, pages) = counts();
            let more = (streamed - before.0, pages - before.1);
            assert_eq!(more, asked, "{case}");
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
async fn who_is_stopped_as_its_server_goes_away_has_not_failed() {
    let server = Server::new();
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    let status = informer.status_handles().remove(0);
    server.cut();
    drop(informer);
    settle().await;
    assert_eq!(status.snapshot().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn watches_that_are_closed_at_once_are_asked_for_ever_less_often() {
    let server = Server::new();
    let informer = start(&server, Config::default());
    caught_up(&server, &informer).await;
    server.fail_watches([Fault::Closed; 100]);
    server.cut();
    // Waits of 0.8 s, doubled up to 30 s and by chance up to twice as long.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let watches = server.count(Kind::Watch);
    assert!((12..28).contains(&watches), "{watches} watches in 10 minutes");
    assert_eq!(lists(&server), 1, "what is known is as good as it was");
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

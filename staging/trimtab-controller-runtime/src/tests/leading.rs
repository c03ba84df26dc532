//! One replica works, the others are ready to; parts start and stop in their order; endpoints tell of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::leader::ElectionConfig;

use super::server::Server;
use super::widgets::{Running, Widgets, manager, run_in, wish};
use crate::{Endpoints, Error, Part};

const SOON: Duration = Duration::from_secs(6);

type Diary = Arc<Mutex<Vec<String>>>;

/// A replica of a program with an election.
fn replica(server: &Server, identity: &str, diary: &Diary) -> Running {
    let mut election = ElectionConfig::new("widgets");
    identity.clone_into(&mut election.identity);
    let manager = manager(server).elected(election).grace(Duration::from_secs(3));
    let (diary, name) = (diary.clone(), identity.to_owned());
    let led = Part::leading("diary", move |lead| {
        let (diary, name) = (diary.clone(), name.clone());
        async move {
            let token = lead.leadership().map(|leadership| leadership.fencing_token());
            diary
                .lock()
                .push(format!("{name} leads, {}", token.expect("elected")));
            lead.stop().cancelled().await;
            diary.lock().push(format!("{name} ends"));
            Ok::<_, Infallible>(())
        }
    });
    manager.part(led).expect("a name of its own");
    run_in(manager, Widgets::of(server), |controller| controller)
}

impl Running {
    fn is_leader(&self) -> bool {
        let text = self.manager.metrics_text();
        text.contains(r#"leader_election_master_status{name="widgets"} 1"#)
    }
}

#[tokio::test(start_paused = true)]
async fn one_replica_works_and_the_other_takes_over_with_warm_caches() {
    let (server, diary) = (Server::default(), Diary::default());
    server.put("widgets", "a", wish("x"));
    let first = replica(&server, "first", &diary);
    sleep(SOON).await;
    let second = replica(&server, "second", &diary);
    sleep(SOON).await;
    assert!(
        first.manager.is_ready() && second.manager.is_ready(),
        "caches need no leader"
    );
    assert_eq!((first.is_leader(), second.is_leader()), (true, false));
    assert!(!first.widgets.turns_of("a").is_empty());
    assert_eq!(second.widgets.turns_of("a").len(), 0, "it does not lead");

    // A clean stop hands over at once.
    first.end().await.expect("a clean end");
    server.put("widgets", "a", wish("y"));
    sleep(SOON).await;
    assert!(second.is_leader());
    assert_eq!(server.get("configmaps", "a").expect("made")["data"]["text"], "y");
    assert_eq!(*diary.lock(), ["first leads, 0", "first ends", "second leads, 1"]);

    // Who dies is succeeded when its lease has run out.
    second.task.abort();
    let third = replica(&server, "third", &diary);
    sleep(SOON).await;
    assert!(!third.is_leader());
    sleep(Duration::from_secs(20)).await;
    assert!(third.is_leader());
    server.put("widgets", "a", wish("z"));
    sleep(SOON).await;
    assert_eq!(server.get("configmaps", "a").expect("made")["data"]["text"], "z");
    third.end().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_leadership_stops_its_work_and_may_lead_again() {
    let (server, diary) = (Server::default(), Diary::default());
    let only = replica(&server, "only", &diary);
    sleep(SOON).await;
    server.0.lock().unreachable_leases = true;
    sleep(Duration::from_secs(30)).await;
    assert!(!only.is_leader());
    server.put("widgets", "a", wish("x"));
    sleep(SOON).await;
    assert_eq!(only.widgets.turns_of("a").len(), 0, "it does not lead");
    assert_eq!(*diary.lock(), ["only leads, 0", "only ends"]);

    server.0.lock().unreachable_leases = false;
    // Its own lease is one that it cannot know to be its own.
    sleep(Duration::from_secs(20)).await;
    assert!(only.is_leader());
    assert!(
        !only.widgets.turns_of("a").is_empty(),
        "what came meanwhile has waited"
    );
    assert_eq!(diary.lock().len(), 3, "{:?}", diary.lock());
    only.end().await.expect("a clean end");
}

/// A part that writes into the diary when it begins and ends.
fn part(diary: &Diary, name: &'static str) -> impl FnOnce(CancellationToken) -> JoinPart + use<> {
    let diary = diary.clone();
    move |stop| {
        diary.lock().push(format!("{name} begins"));
        Box::pin(async move {
            stop.cancelled().await;
            diary.lock().push(format!("{name} ends"));
            Ok(())
        })
    }
}

type JoinPart = futures::future::BoxFuture<'static, std::result::Result<(), Infallible>>;

#[tokio::test(start_paused = true)]
async fn parts_start_in_their_order_and_stop_against_it() {
    let (server, diary, stop) = (Server::default(), Diary::default(), CancellationToken::new());
    let manager = manager(&server);
    let led = diary.clone();
    manager
        .part(Part::leading("led", move |lead| {
            part(&led, "led")(lead.stop().clone())
        }))
        .expect("added");
    manager
        .part(Part::beside("beside", part(&diary, "beside")))
        .expect("added");
    manager
        .part(Part::server("server", part(&diary, "server")))
        .expect("added");
    let taken = manager.part(Part::server("led", part(&diary, "led")));
    assert!(
        matches!(taken, Err(Error::NameTaken { what: "part", .. })),
        "{taken:?}"
    );
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        sleep(SOON).await;
        stop.cancel();
    });
    ended.expect("a clean end");
    let order = [
        "server begins",
        "beside begins",
        "led begins",
        "led ends",
        "beside ends",
        "server ends",
    ];
    assert_eq!(*diary.lock(), order);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_named_and_ends_the_rest() {
    type Failing = fn(&str) -> Part;
    let kinds: [Failing; 3] = [
        |name| {
            Part::server(name.to_owned(), |_| async {
                Err(std::io::Error::other("it broke"))
            })
        },
        |name| {
            Part::beside(name.to_owned(), |_| async {
                Err(std::io::Error::other("it broke"))
            })
        },
        |name| {
            Part::leading(name.to_owned(), |_| async {
                Err(std::io::Error::other("it broke"))
            })
        },
    ];
    for kind in kinds {
        let (server, diary) = (Server::default(), Diary::default());
        let manager = manager(&server);
        manager.part(kind("brittle")).expect("added");
        manager
            .part(Part::server("server", part(&diary, "server")))
            .expect("added");
        let error = manager.run(CancellationToken::new()).await.expect_err("it broke");
        assert_eq!(error.to_string(), "brittle: it broke");
        assert_eq!(diary.lock().last().map(String::as_str), Some("server ends"));
    }
    let server = Server::default();
    let manager = manager(&server);
    manager
        .part(Part::beside("short", |_| async { Ok::<_, Infallible>(()) }))
        .expect("added");
    let error = manager.run(CancellationToken::new()).await.expect_err("it ended");
    assert_eq!(error.to_string(), "short: it ended by itself");
}

/// A part that does not stop is cut off, and those after it are stopped all the same.
#[tokio::test(start_paused = true)]
async fn a_part_that_does_not_stop_is_cut_off() {
    let (server, diary, stop) = (Server::default(), Diary::default(), CancellationToken::new());
    let manager = manager(&server).grace(Duration::from_secs(3));
    let stuck = |_| futures::future::pending::<std::result::Result<(), Infallible>>();
    manager.part(Part::beside("stuck", stuck)).expect("added");
    manager
        .part(Part::server("server", part(&diary, "server")))
        .expect("added");
    stop.cancel();
    let begun = tokio::time::Instant::now();
    let ended = manager.run(stop).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(diary.lock().last().map(String::as_str), Some("server ends"));
}

#[tokio::test]
async fn endpoints_tell_of_health_and_figures() {
    let (server, stop) = (Server::default(), CancellationToken::new());
    let manager = manager(&server).endpoints(Endpoints::at("127.0.0.1:0"));
    let widgets = Widgets::of(&server);
    server.0.lock().missing.push("configmaps".to_owned());
    let builder = manager.controller(widgets).owns::<ConfigMap>();
    builder.start().expect("a good description");
    assert_eq!(manager.address(), None);
    let asked = async {
        let address = loop {
            match manager.address() {
                Some(address) => break address,
                None => tokio::task::yield_now().await,
            }
        };
        let mut answers = Vec::new();
        for path in [
            "/livez",
            "/readyz?verbose",
            "/metrics",
            "/debug/controllers/api/controllers",
            "/nothing",
        ] {
            answers.push(get(address, path).await);
        }
        stop.cancel();
        answers
    };
    let (ended, answers) = tokio::join!(manager.run(stop.clone()), asked);
    ended.expect("a clean end");
    let [live, ready, metrics, page, nothing] = &answers[..] else {
        unreachable!("five paths")
    };
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    assert!(
        ready.starts_with("HTTP/1.1 500") && ready.contains("[-]caches failed"),
        "{ready}"
    );
    assert!(
        metrics.contains("application/openmetrics-text") && metrics.contains("# EOF"),
        "{metrics}"
    );
    assert!(
        page.contains(r#""name":"widget""#) && page.contains("the caches of ConfigMap"),
        "{page}"
    );
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
}

/// One request over a socket, without a client.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_says_why() {
    let server = Server::default();
    let mut election = ElectionConfig::new("widgets");
    election.identity.clear();
    let error = manager(&server)
        .elected(election)
        .run(CancellationToken::new())
        .await
        .expect_err("refused");
    assert!(
        error.to_string().contains("identity of the candidate is empty"),
        "{error}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let manager = manager(&server).endpoints(Endpoints::at(&*address));
    let error = manager.run(CancellationToken::new()).await.expect_err("in use");
    assert!(error.to_string().contains(&address), "{error}");
}

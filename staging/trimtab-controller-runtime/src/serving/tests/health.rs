//! What `/healthz` and its kin say.

use std::time::Duration;

use super::super::{Health, Router, ServeError};
use super::kit::{Answer, get};

fn program() -> (Health, Router) {
    let health = Health::new();
    health.live("ping", || async { Ok(()) }).expect("a new name");
    health
        .ready("caches", || async {
            Err("the cache of pods is empty".to_owned())
        })
        .expect("a new name");
    health.ready("webhook", || async { Ok(()) }).expect("a new name");
    health
        .ready("hook/start", || async { panic!("oh") })
        .expect("a new name");
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    };
    health.ready("slow", slow).expect("a new name");
    let router = health.routes(Router::new()).expect("new paths");
    (health, router)
}

const ALL_READY: &str = "[-]caches failed: reason withheld\n[-]hook/start failed: reason withheld\n\
                         [-]slow failed: reason withheld\n[+]webhook ok\nreadyz check failed\n";

#[tokio::test(start_paused = true)]
async fn answers_read_as_kubernetes_writes_them() {
    let (_health, router) = program();
    let except = "?exclude=caches&exclude=hook/start&exclude=slow";
    let cases = [
        ("/healthz", 200, "ok"),
        ("/livez/", 200, "ok"),
        ("/livez?verbose", 200, "[+]ping ok\nlivez check passed\n"),
        ("/healthz?verbose=1", 200, "[+]ping ok\nhealthz check passed\n"),
        ("/livez/ping", 200, "ok"),
        ("/livez/none", 404, "404 page not found\n"),
        ("/livez/caches", 404, "404 page not found\n"),
        ("/readyz", 500, ALL_READY),
        ("/readyz?verbose", 500, ALL_READY),
        ("/readyz/webhook", 200, "ok"),
        (
            "/readyz/caches",
            500,
            "internal server error: the cache of pods is empty\n",
        ),
        (
            "/readyz/hook/start",
            500,
            "internal server error: the check panicked\n",
        ),
        (
            "/readyz/slow",
            500,
            "internal server error: the check took longer than 10s\n",
        ),
        (&format!("/readyz{except}"), 200, "ok"),
        (
            &format!("/readyz{except}&exclude=b&exclude=a&verbose"),
            200,
            "[+]caches excluded: ok\n[+]hook/start excluded: ok\n[+]slow excluded: ok\n[+]webhook ok\n\
             warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n",
        ),
    ];
    for (path, code, text) in cases {
        let answer = Answer::of(router.answer(get(path)).await).await;
        assert_eq!(answer, Answer::new(code, text), "{path}");
    }
}

#[tokio::test]
async fn without_checks_there_is_a_ping_and_checks_can_come_later() {
    let health = Health::new();
    let router = health.routes(Router::new()).expect("new paths");
    let ask = async |path: &str| Answer::of(router.answer(get(path)).await).await;
    assert_eq!(
        ask("/readyz?verbose").await.text,
        "[+]ping ok\nreadyz check passed\n"
    );
    assert_eq!(ask("/readyz/ping").await, Answer::new(200, "ok"));
    health.ready("late", || async { Ok(()) }).expect("a new name");
    assert_eq!(
        ask("/readyz?verbose").await.text,
        "[+]late ok\nreadyz check passed\n"
    );
    for name in ["late", ""] {
        let taken = health.ready(name, || async { Ok(()) });
        assert!(matches!(taken, Err(ServeError::CheckName(_))), "{name:?}");
    }
    health
        .live("late", || async { Ok(()) })
        .expect("the other endpoint's names");
}

//! The life of a connection: it ends when it idles, and at the stop after what is under way.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::{Body, Certificates, Response, Route, Router, serve_stream, text};
use super::kit::{Answer, Authority, get, over_2, pipe};

fn router() -> Router {
    let slow = Route::get(|_| async {
        sleep(Duration::from_secs(20)).await;
        text(200, "at last")
    });
    let endless = Route::get(|_| async {
        let ticks = futures::stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((Ok(Bytes::from("tick\n")), ()))
        });
        Response::new(Body::stream(ticks))
    });
    let router = Router::new().route("/slow", slow).expect("a new path");
    router.route("/endless", endless).expect("a new path")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let served = serve_stream(theirs, None, router(), CancellationToken::new());
    timeout(Duration::from_secs(33), served)
        .await
        .expect("an end after 32 s")
        .expect("no TLS");
    drop(ours);
    // So is one that does not even shake hands.
    let (_ours, theirs) = tokio::io::duplex(1024);
    let certificates = Certificates::new();
    let served = serve_stream(theirs, Some(&certificates), router(), CancellationToken::new());
    timeout(Duration::from_secs(11), served)
        .await
        .expect("an end after 10 s")
        .expect("good TLS");
}

#[tokio::test(start_paused = true)]
async fn an_http_2_connection_that_idles_is_closed() {
    let authority = Authority::new();
    let certificates = Certificates::new();
    let (certificate, key) = authority.issue();
    certificates
        .replace(certificate.as_bytes(), key.as_bytes())
        .expect("a pair");
    let connect = || authority.connect(&certificates, b"h2", router());

    // Not a byte after the handshake.
    let mut silent = connect().await.expect("a handshake");
    let mut greeting = Vec::new();
    let closed = timeout(Duration::from_secs(100), silent.read_to_end(&mut greeting)).await;
    assert!(closed.is_ok());

    // Requests, then none. One that takes its time is no idling.
    let mut used = over_2(connect().await.expect("a handshake")).await;
    for _ in 0..6 {
        let response = used.send_request(get("https://localhost/slow")).await;
        assert_eq!(response.expect("an answer").status(), 200);
    }
    sleep(Duration::from_secs(200)).await;
    assert!(used.is_closed());
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_requests_end_and_none_begins() {
    let stop = CancellationToken::new();
    let mut client = pipe(router(), stop.clone()).await;
    let begun = Instant::now();
    let answer = client.send_request(get("/slow"));
    let stopping = async {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    };
    let (answer, ()) = tokio::join!(answer, stopping);
    assert_eq!(
        Answer::received(answer.expect("an answer")).await,
        Answer::new(200, "at last")
    );
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert!(client.send_request(get("/slow")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_streams_end() {
    let stop = CancellationToken::new();
    let mut client = pipe(router(), stop.clone()).await;
    let response = client.send_request(get("/endless")).await.expect("an answer");
    let stopping = async {
        sleep(Duration::from_millis(3500)).await;
        stop.cancel();
    };
    let (answer, ()) = tokio::join!(Answer::received(response), stopping);
    assert_eq!(answer, Answer::new(200, "tick\ntick\ntick\n"));
}

/// A route that never answers, and what is told when its future is dropped.
fn hanging() -> (Router, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel::<()>();
    let held = Mutex::new(Some(held));
    let route = Route::get(move |_| {
        let held = held.lock().take();
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    (Router::new().route("/", route).expect("a new path"), dropped)
}

/// The route was at work, and its future was dropped.
async fn was_dropped(dropped: oneshot::Receiver<()>) -> bool {
    matches!(timeout(Duration::from_secs(1), dropped).await, Ok(Err(_)))
}

#[tokio::test(start_paused = true)]
async fn whoever_hangs_up_ends_the_route() {
    let (router, mut dropped) = hanging();
    let mut client = pipe(router, CancellationToken::new()).await;
    let asked = timeout(Duration::from_secs(1), client.send_request(get("/"))).await;
    assert!(asked.is_err(), "there is no answer");
    assert!(
        matches!(dropped.try_recv(), Err(TryRecvError::Empty)),
        "it is at work"
    );
    drop(client);
    assert!(was_dropped(dropped).await);
}

/// HTTP/2 answers in tasks of its own: they end with the connection, too.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_off_ends_its_routes() {
    let authority = Authority::new();
    let certificates = Certificates::new();
    let (certificate, key) = authority.issue();
    certificates
        .replace(certificate.as_bytes(), key.as_bytes())
        .expect("a pair");
    let (router, mut dropped) = hanging();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        serve_stream(theirs, Some(&certificates), router, CancellationToken::new()).await
    });
    let mut client = over_2(authority.handshake(b"h2", ours).await.expect("a handshake")).await;
    let asked = timeout(
        Duration::from_secs(1),
        client.send_request(get("https://localhost/")),
    );
    assert!(asked.await.is_err(), "there is no answer");
    assert!(
        matches!(dropped.try_recv(), Err(TryRecvError::Empty)),
        "it is at work"
    );
    serving.abort();
    assert!(was_dropped(dropped).await);
}

#[tokio::test]
async fn a_body_is_whole_or_a_stream() {
    let pieces = futures::stream::iter(["a", "b"]).map(|piece| Ok(Bytes::from(piece)));
    assert_eq!(Body::stream(pieces).bytes().await.expect("no error"), "ab");
    assert_eq!(Body::from("ab").bytes().await.expect("no error"), "ab");
    assert_eq!(Body::default().bytes().await.expect("no error"), "");
    assert_eq!(text(999_u16.wrapping_mul(2), "").status(), 500);
}

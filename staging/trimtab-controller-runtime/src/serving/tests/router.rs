//! Which route answers, and what every route is kept to.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::super::{Route, Router, ServeError, text};
use super::kit::{Answer, get, post};

/// A route that tells its name.
fn named(name: &'static str) -> Route {
    Route::get(move |_| async move { text(200, name) })
}

fn router(paths: &[&'static str]) -> Router {
    let add = |router: Router, path: &&'static str| router.route(*path, named(path)).expect("a new path");
    paths.iter().fold(Router::new(), add)
}

#[tokio::test]
async fn the_longest_path_that_fits_answers() {
    let router = router(&["/", "/a", "/a/", "/a/b", "/c/"]);
    let cases = [
        ("/", "/"),
        ("/x", "/"),
        ("/x/y", "/"),
        ("/a", "/a"),
        ("/ab", "/"),
        ("/a/", "/a/"),
        ("/a/x", "/a/"),
        ("/a/x/y?z=/a/b", "/a/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/"),
        ("/c", "/"),
        ("/c/d", "/c/"),
    ];
    for (asked, answers) in cases {
        let answer = Answer::of(router.answer(get(asked)).await).await;
        assert_eq!(answer, Answer::new(200, answers), "{asked}");
    }
}

/// Something for the router's deadlines to live on.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
}

proptest! {
    /// The router finds what a search through all routes finds.
    #[test]
    fn the_router_agrees_with_a_search(
        routes in prop::collection::btree_set("(/[ab]?){1,3}", 0..6),
        asked in "(/[ab]?){1,4}",
    ) {
        let fits = |route: &&String| **route == asked || (route.ends_with('/') && asked.starts_with(route.as_str()));
        let wanted = routes.iter().filter(fits).max_by_key(|route| (**route == asked, route.len()));
        let mut router = Router::new();
        for path in &routes {
            let name = path.clone();
            let route = Route::get(move |_| { let name = name.clone(); async move { text(200, name) } });
            router = router.route(path.as_str(), route).expect("a new path");
        }
        let answer = runtime().block_on(async { Answer::of(router.answer(get(&asked)).await).await });
        let wanted = wanted.map_or(Answer::new(404, "404 page not found\n"), |path| Answer::new(200, path));
        prop_assert_eq!(answer, wanted);
    }
}

#[test]
fn paths_are_told_apart_and_begin_with_a_slash() {
    let router = router(&["/a", "/b/"]);
    assert_eq!(router.paths().collect::<Vec<_>>(), ["/a", "/b/"]);
    let taken = router.clone().route("/a", named("again"));
    assert!(matches!(taken, Err(ServeError::PathTaken(path)) if path == "/a"));
    let invalid = router.route("c", named("c"));
    assert!(matches!(invalid, Err(ServeError::PathInvalid(path)) if path == "c"));
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let route = Route::new([Method::PUT, Method::DELETE], |_| async { text(200, "") });
    let router = router(&["/a"]).route("/b", route).expect("a new path");
    for (path, allowed) in [("/a", "GET, HEAD"), ("/b", "PUT, DELETE")] {
        let response = router.answer(post(path, "")).await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()["allow"], allowed, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let echo = Route::post(|request| async move { text(200, String::from_utf8_lossy(request.body())) });
    let router = Router::new().route("/", echo.body_limit(5)).expect("a new path");
    let refused = Answer::new(413, "the request's body has more than 5 bytes\n");

    let whole = Answer::of(router.answer(post("/", "12345")).await).await;
    assert_eq!(whole, Answer::new(200, "12345"));
    let longer = Answer::of(router.answer(post("/", "123456")).await).await;
    assert_eq!(longer, refused);

    // What is declared is believed; the body, which would never come, is not waited for.
    let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let declared = Request::post("/").header("content-length", "6").body(never);
    let declared = Answer::of(router.answer(declared.expect("a request")).await).await;
    assert_eq!(declared, refused);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_bad_request() {
    let router = Router::new().route("/", Route::post(|_| async { text(200, "") }));
    let broken = futures::stream::iter([
        Ok(Frame::data(Bytes::from("a"))),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ]);
    let request = Request::post("/")
        .body(StreamBody::new(broken))
        .expect("a request");
    let answer = Answer::of(router.expect("a new path").answer(request).await).await;
    assert_eq!(answer, Answer::new(400, "the request's body could not be read\n"));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_a_deadline() {
    let slow = || {
        Route::new([Method::GET, Method::POST], |_| async {
            tokio::time::sleep(Duration::from_secs(31)).await;
            text(200, "late")
        })
    };
    let router = Router::new().route("/short", slow()).expect("a new path");
    let router = router
        .route("/long", slow().deadline(Duration::from_secs(60)))
        .expect("a new path");
    let short = Answer::of(router.answer(get("/short")).await).await;
    assert_eq!(short, Answer::new(503, "no answer within 30s\n"));
    let long = Answer::of(router.answer(get("/long")).await).await;
    assert_eq!(long, Answer::new(200, "late"));
    // A body that does not come counts, too.
    let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let endless = Request::post("/short").body(never).expect("a request");
    let endless = Answer::of(router.answer(endless).await).await;
    assert_eq!(endless, Answer::new(503, "no answer within 30s\n"));
}

#[tokio::test]
async fn a_panic_is_answered_and_says_nothing() {
    let at_once = Route::get(|_| -> std::future::Ready<super::super::Response> { panic!("a secret") });
    let later = Route::get(|request| async move {
        tokio::task::yield_now().await;
        panic!("a secret about {}", request.uri())
    });
    let router = Router::new().route("/at-once", at_once).expect("a new path");
    let router = router.route("/later", later).expect("a new path");
    for path in ["/at-once", "/later"] {
        let answer = Answer::of(router.answer(get(path)).await).await;
        assert_eq!(answer, Answer::new(500, "internal server error\n"), "{path}");
    }
}

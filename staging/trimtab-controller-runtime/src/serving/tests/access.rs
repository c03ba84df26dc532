//! Who gets in, who does not, what is remembered and for how long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::advance;

use super::super::{Access, Route, Router, text};
use super::kit::Answer;

/// A cluster that knows two users and lets one of them; and which questions it was asked.
#[derive(Clone, Default)]
struct Cluster {
    asked: Arc<Mutex<Vec<String>>>,
    /// What to answer instead.
    code: Arc<Mutex<Option<u16>>>,
    silent: Arc<Mutex<bool>>,
}

impl Cluster {
    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect_bytes().await.expect("a whole body");
        let mut review: Value = serde_json::from_slice(&body).expect("JSON");
        let spec = review["spec"].clone();
        let silent = *self.silent.lock();
        if silent {
            std::future::pending::<()>().await;
        }
        if let Some(code) = *self.code.lock() {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "reason": "Forbidden", "message": "you may not ask", "metadata": {}});
            return Response::builder()
                .status(code)
                .body(status.to_string().into())
                .expect("a response");
        }
        if path.ends_with("/tokenreviews") {
            let token = spec["token"].as_str().expect("a token").to_owned();
            self.asked.lock().push(token.clone());
            let user = json!({"username": token, "groups": ["scrapers"], "extra": {"pod": ["p"]}});
            review["status"] = match token.as_str() {
                "prometheus" | "guest" => json!({"authenticated": true, "user": user}),
                _ => json!({"error": "who is that?"}),
            };
        } else {
            assert_eq!(spec["groups"], json!(["scrapers"]), "groups are passed on");
            assert_eq!(spec["extra"], json!({"pod": ["p"]}), "so is the rest");
            let attributes = &spec["nonResourceAttributes"];
            let (user, verb, path) = (&spec["user"], &attributes["verb"], &attributes["path"]);
            self.asked.lock().push(format!("{user} {verb} {path}"));
            review["status"] = json!({"allowed": user == "prometheus"});
        }
        Response::new(review.to_string().into())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    fn router(&self) -> Router {
        let route = || Route::get(|_| async { text(200, "1") }).only_with(Access::new(self.client()));
        let router = Router::new().route("/metrics", route()).expect("a new path");
        router.route("/live", route()).expect("a new path")
    }
}

async fn ask(router: &Router, authorization: &str) -> Answer {
    let request = Request::get("/metrics").header("authorization", authorization);
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    Answer::of(router.answer(request).await).await
}

#[tokio::test(start_paused = true)]
async fn the_cluster_says_who_gets_in() {
    let cluster = Cluster::default();
    let router = cluster.router();
    let cases = [
        ("Bearer prometheus", 200, "1"),
        ("bearer  prometheus", 200, "1"),
        ("Bearer guest", 403, "Authorization denied for user guest\n"),
        ("Bearer nobody", 401, "Unauthorized\n"),
        ("Bearer ", 401, "Unauthorized\n"),
        ("Bearer", 401, "Unauthorized\n"),
        ("Basic prometheus", 401, "Unauthorized\n"),
        ("", 401, "Unauthorized\n"),
    ];
    for (authorization, code, text) in cases {
        assert_eq!(
            ask(&router, authorization).await,
            Answer::new(code, text),
            "{authorization:?}"
        );
    }
    assert_eq!(
        cluster.asked(),
        [
            "prometheus",
            "\"prometheus\" \"get\" \"/metrics\"",
            "guest",
            "\"guest\" \"get\" \"/metrics\"",
            "nobody",
        ]
    );
    let anonymous = Request::get("/metrics")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let refused = router.answer(anonymous).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
}

#[tokio::test(start_paused = true)]
async fn a_yes_holds_a_minute_and_a_no_ten_seconds() {
    let cluster = Cluster::default();
    let router = cluster.router();
    for (token, holds, questions) in [("prometheus", 60, 2), ("nobody", 10, 1)] {
        let token = format!("Bearer {token}");
        ask(&router, &token).await;
        assert_eq!(cluster.asked().len(), questions, "{token}");
        advance(Duration::from_secs(holds - 1)).await;
        ask(&router, &token).await;
        assert_eq!(cluster.asked().len(), 0, "{token}");
        advance(Duration::from_secs(2)).await;
        ask(&router, &token).await;
        assert_eq!(cluster.asked().len(), questions, "{token}");
    }
    // The user is known for a minute, that there is no permission for ten seconds.
    ask(&router, "Bearer guest").await;
    cluster.asked();
    advance(Duration::from_secs(11)).await;
    ask(&router, "Bearer guest").await;
    assert_eq!(cluster.asked(), ["\"guest\" \"get\" \"/metrics\""]);
}

#[tokio::test(start_paused = true)]
async fn when_the_cluster_cannot_be_asked_nobody_gets_in_and_nothing_is_remembered() {
    let cluster = Cluster::default();
    let router = cluster.router();
    *cluster.code.lock() = Some(403);
    let text = "Authentication failed: the token cannot be reviewed\n";
    assert_eq!(ask(&router, "Bearer prometheus").await, Answer::new(500, text));
    *cluster.code.lock() = None;
    *cluster.silent.lock() = true;
    assert_eq!(ask(&router, "Bearer prometheus").await, Answer::new(500, text));
    *cluster.silent.lock() = false;
    assert_eq!(ask(&router, "Bearer prometheus").await.code, 200);

    // The token is known, the permission is not.
    advance(Duration::from_secs(15)).await;
    ask(&router, "Bearer guest").await;
    advance(Duration::from_secs(15)).await;
    *cluster.code.lock() = Some(500);
    let text = "Authorization for user guest failed\n";
    assert_eq!(ask(&router, "Bearer guest").await, Answer::new(500, text));
    *cluster.code.lock() = None;
    assert_eq!(ask(&router, "Bearer guest").await.code, 403);
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_push_out_each_other_and_not_the_valid() {
    let cluster = Cluster::default();
    let router = cluster.router();
    ask(&router, "Bearer prometheus").await;
    for made_up in 0..3000 {
        ask(&router, &format!("Bearer {made_up}")).await;
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(cluster.asked().len(), 3002);
    ask(&router, "Bearer prometheus").await;
    ask(&router, "Bearer 2999").await;
    assert_eq!(cluster.asked(), Vec::<String>::new());
    ask(&router, "Bearer 0").await;
    assert_eq!(cluster.asked(), ["0"]);
}

//! Questions and answers over HTTP, and what is counted of them.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use trimtab_controller_runtime::serving::Router;

use super::websites::{Defaults, Rules, Website, v1beta1, website};
use crate::{Authenticator, Bearer, Conversion, Hook, WebhookError, Webhooks};

pub(super) const VALIDATE: &str = "/validate-example-com-v1-website";

pub(super) fn webhooks() -> Webhooks {
    Webhooks::new("websites")
        .hook(Hook::defaulting::<Website>(Defaults))
        .hook(Hook::validating::<Website>(Rules))
        .conversion(Conversion::hub().spoke::<v1beta1::Website>())
}

/// A question about a new website.
pub(super) fn question(text: &str) -> Value {
    let kind = |kind: &str, name: &str| json!({"group": "example.com", "version": "v1", kind: name});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "CREATE", "kind": kind("kind", "Website"),
            "resource": kind("resource", "websites"), "object": website("v1", json!({"text": text}))},
    })
}

async fn post(router: &Router, path: &str, content_type: &str, body: String) -> (u16, String) {
    let request = Request::post(path).header("content-type", content_type);
    let request = request.body(Full::<Bytes>::from(body)).expect("a request");
    let response = router.answer(request).await;
    let code = response.status().as_u16();
    let body = response.into_body().bytes().await.expect("a whole body");
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn questions_are_answered_where_they_belong() {
    let router = webhooks().router().expect("a router");
    assert_eq!(
        router.paths().collect::<Vec<_>>(),
        ["/convert", "/mutate-example-com-v1-website", VALIDATE]
    );
    let conversion = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": "example.com/v1beta1", "objects": [website("v1", json!({}))]}});
    let json = "application/json";
    let cases = [
        (VALIDATE, json, question("t").to_string(), 200, "\"allowed\":true"),
        (
            VALIDATE,
            "Application/JSON; charset=utf-8",
            question("forbidden").to_string(),
            200,
            "such texts are not wanted",
        ),
        (
            "/mutate-example-com-v1-website",
            json,
            question("t").to_string(),
            200,
            "\"patchType\":\"JSONPatch\"",
        ),
        (
            "/convert",
            json,
            conversion.to_string(),
            200,
            "\"status\":\"Success\"",
        ),
        (VALIDATE, json, "{}".to_owned(), 400, "expected AdmissionReview"),
        (
            "/convert",
            json,
            "{}".to_owned(),
            400,
            "the body is no ConversionReview",
        ),
        (
            VALIDATE,
            "text/plain",
            question("t").to_string(),
            415,
            "text/plain",
        ),
        ("/validate", json, question("t").to_string(), 404, "not found"),
    ];
    for (path, content_type, body, code, says) in cases {
        let (answered, text) = post(&router, path, content_type, body).await;
        assert_eq!(answered, code, "{path}: {text}");
        assert!(text.contains(says), "{path}: {text}");
    }
}

/// Knows nobody.
struct Nobody;

impl Authenticator for Nobody {
    async fn authenticate(&self, _: &str, _: &[String]) -> Result<Option<Bearer>, String> {
        Ok(None)
    }
}

#[tokio::test]
async fn authenticators_have_paths_of_their_own() {
    let router = webhooks()
        .authenticator("/tokens", Nobody)
        .router()
        .expect("a router");
    let question =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "t"}});
    let (code, answer) = post(&router, "/tokens", "application/json", question.to_string()).await;
    assert_eq!(code, 200);
    assert!(answer.contains(r#""authenticated":false"#), "{answer}");
    let taken = webhooks().authenticator(VALIDATE, Nobody).router();
    assert!(matches!(taken, Err(WebhookError::PathTaken(path)) if path == VALIDATE));
}

#[tokio::test]
async fn too_large_a_question_is_refused() {
    let router = webhooks().conversion_limit(1000).router().expect("a router");
    let spaces = |bytes: usize| " ".repeat(bytes);
    for (path, bytes, code) in [
        (VALIDATE, 7 * 1024 * 1024, 400),
        (VALIDATE, 7 * 1024 * 1024 + 1, 413),
        ("/convert", 1000, 400),
        ("/convert", 1001, 413),
    ] {
        let (answered, _) = post(&router, path, "application/json", spaces(bytes)).await;
        assert_eq!(answered, code, "{path} {bytes}");
    }
}

#[tokio::test]
async fn answers_are_counted() {
    let webhooks = webhooks();
    let router = webhooks.router().expect("a router");
    let line = |name: &str, labels: &str| format!("controller_runtime_webhook_{name}{{{labels}}} ");
    let label = format!("webhook=\"{VALIDATE}\"");
    let count = |text: &str, line: &str| {
        let found = text.lines().find_map(|l| l.strip_prefix(line));
        found.map(str::to_owned)
    };
    let ok = line("requests_total", &format!("{label},code=\"200\""));
    let before = webhooks.metrics_text();
    assert_eq!(count(&before, &ok).as_deref(), Some("0"), "{before}");

    for text in ["t", "forbidden", "panic"] {
        post(&router, VALIDATE, "application/json", question(text).to_string()).await;
    }
    post(&router, VALIDATE, "application/json", "{}".to_owned()).await;
    let conversion = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": "example.com/v1",
            "objects": [website("v1beta1", json!({"html": "panic"}))]}});
    post(&router, "/convert", "application/json", conversion.to_string()).await;

    let after = webhooks.metrics_text();
    let figures = [
        (ok, "3"),
        (line("requests_total", &format!("{label},code=\"400\"")), "1"),
        (line("latency_seconds_count", &label), "4"),
        (line("requests_in_flight", &label), "0"),
        ("controller_runtime_webhook_panics_total ".to_owned(), "1"),
        (
            "controller_runtime_conversion_webhook_panics_total ".to_owned(),
            "1",
        ),
    ];
    for (line, value) in figures {
        assert_eq!(count(&after, &line).as_deref(), Some(value), "{line}\n{after}");
    }
}

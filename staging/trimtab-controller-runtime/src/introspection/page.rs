//! The live page: which path answers with what. A pure function, without sockets; whoever listens calls it.

use std::borrow::Cow;
use std::collections::HashMap;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::live::Introspection;
use super::wire;

/// Where the page is unless told otherwise.
const BASE: &str = "/debug/controllers/";

/// Files of the page: path below the base, content type, content. The page itself has the empty path.
const FILES: [(&str, &str, &str); 10] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("format.js", SCRIPT, include_str!("page/format.js")),
    ("parts.js", SCRIPT, include_str!("page/parts.js")),
    ("informers.js", SCRIPT, include_str!("page/informers.js")),
    ("controllers.js", SCRIPT, include_str!("page/controllers.js")),
    ("timeline.js", SCRIPT, include_str!("page/timeline.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// The page loads what is beside it and nothing else, is shown in no other page's frame, and turns no text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer. What is shown is of this moment, so nothing is to be kept.
const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// An answer: its body is a file of the page or JSON.
pub type Response = http::Response<Cow<'static, [u8]>>;

/// The live page of an [`Introspection`], below a path. Clones answer alike.
///
/// | path below the base | answers with |
/// |---|---|
/// | (nothing) | the page, and beside it its scripts, its style and its icon |
/// | `api/controllers` | [`Overview`](super::Overview) |
/// | `api/controllers/{name}` | [`ControllerSnapshot`](super::ControllerSnapshot) |
/// | `api/controllers/{name}/keys?search=` | [`Listed`](super::Listed) [`KeyStatus`](super::KeyStatus)es |
/// | `api/controllers/{name}/timeline?key=` | [`KeyView`](super::KeyView) |
/// | `api/informers` | `{"informers": […]}`, [`InformerSnapshot`](super::InformerSnapshot)s |
///
/// Each JSON answer also says of which `program` it is and when it was made, as `time`. Anything else is answered with 404
/// and `{"error": …}`. What the page shows is no secret to those who may read all objects of the watched kinds, and is to
/// everybody else: keys, and messages of errors. Whoever listens decides who may see it.
#[derive(Clone, Debug)]
pub struct Page {
    introspection: Introspection,
    base: String,
}

/// A snapshot, of which program it is and when it was made.
#[derive(Serialize)]
struct At<'a, T> {
    program: &'a str,
    #[serde(serialize_with = "wire::timestamp")]
    time: Timestamp,
    #[serde(flatten)]
    what: T,
}

#[derive(Serialize)]
struct Informers {
    informers: Vec<super::InformerSnapshot>,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

// === impl Page ===

impl Page {
    /// The page below `/debug/controllers/`.
    pub fn new(introspection: Introspection) -> Self {
        Self {
            introspection,
            base: BASE.to_owned(),
        }
    }

    /// The page below another path; slashes around it are added where they lack.
    #[must_use]
    pub fn at(self, base: &str) -> Self {
        let inner = base.trim_matches('/');
        let base = match inner {
            "" => "/".to_owned(),
            inner => format!("/{inner}/"),
        };
        Self { base, ..self }
    }

    /// The path below which it is, with a slash at either end. What routes by prefix should also route this path without
    /// the last slash here, which answers with a redirect.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Answers a request. `path` and `query` are as the request has them, percent-encoded; `now` is the time on a wall clock.
    ///
    /// Quick, but not constant: it copies what it shows, which may be as many as 20,000 keys of a queue.
    ///
    /// # Panics
    /// If a function panics that the [`Introspection`] was given.
    pub fn respond(&self, method: &Method, path: &str, query: Option<&str>, now: Timestamp) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = failure(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{method} is not allowed here, only GET and HEAD are"),
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, allowed);
            return answer;
        }
        let mut answer = match path.strip_prefix(&self.base) {
            Some(below) => self.get(below, query, now),
            None if self.base.strip_suffix('/') == Some(path) => self.redirect(),
            None => nothing(path),
        };
        if *method == Method::HEAD {
            *answer.body_mut() = Cow::Borrowed(b"");
        }
        answer
    }

    fn get(&self, below: &str, query: Option<&str>, now: Timestamp) -> Response {
        if let Some((_, kind, text)) = FILES.iter().find(|(path, ..)| *path == below) {
            return answer(StatusCode::OK, kind, Cow::Borrowed(text.as_bytes()));
        }
        let parts: Option<Vec<_>> = below
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8().ok())
            .collect();
        let parts = parts.unwrap_or_default();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let query: HashMap<_, _> = query.collect();
        let shown = &self.introspection;
        match parts[..] {
            ["api", "controllers"] => self.json(now, Some(shown.overview()), ""),
            ["api", "controllers", name] => self.json(now, shown.snapshot(name), name),
            ["api", "controllers", name, "keys"] => {
                let search = query.get("search").map_or("", AsRef::as_ref);
                self.json(now, shown.keys(name, search), name)
            }
            ["api", "controllers", name, "timeline"] => match query.get("key") {
                Some(key) => self.json(now, shown.key(name, key), name),
                None => failure(StatusCode::BAD_REQUEST, "which key? add ?key=".to_owned()),
            },
            ["api", "informers"] => {
                let informers = shown.informer_snapshots();
                self.json(now, Some(Informers { informers }), "")
            }
            _ => nothing(below),
        }
    }

    fn json<T: Serialize>(&self, time: Timestamp, what: Option<T>, controller: &str) -> Response {
        let program = self.introspection.program();
        match what {
            Some(what) => encoded(StatusCode::OK, &At { program, time, what }),
            None => failure(
                StatusCode::NOT_FOUND,
                format!("there is no controller {controller:?}"),
            ),
        }
    }

    /// To the same path with a slash, said relative to it, since a proxy may have changed what is before.
    fn redirect(&self) -> Response {
        let last = self.base.trim_end_matches('/').rsplit('/').next();
        let mut answer = failure(
            StatusCode::PERMANENT_REDIRECT,
            "the page's path ends with a slash".to_owned(),
        );
        if let Ok(location) = HeaderValue::try_from(format!("{}/", last.unwrap_or_default())) {
            answer.headers_mut().insert(LOCATION, location);
        }
        answer
    }
}

fn nothing(path: &str) -> Response {
    failure(StatusCode::NOT_FOUND, format!("there is nothing at {path:?}"))
}

fn failure(status: StatusCode, error: String) -> Response {
    encoded(status, &Failure { error })
}

fn encoded(status: StatusCode, what: &impl Serialize) -> Response {
    match serde_json::to_vec(what) {
        Ok(body) => answer(status, JSON, Cow::Owned(body)),
        Err(error) => {
            tracing::error!(%error, "a snapshot cannot be encoded");
            let body = br#"{"error":"the answer cannot be encoded"}"#;
            answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, Cow::Borrowed(body))
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Cow<'static, [u8]>) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.extend(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

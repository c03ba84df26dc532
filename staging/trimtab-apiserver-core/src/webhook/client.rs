//! One call: a JSON document is posted, a JSON document comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::dial::Dialer;
use super::errors::{CallError, explain};
use super::target::Target;
use super::{Resolver, tls};
use crate::http::MAX_BODY;
use crate::registry::json_syntax;

/// As kube-apiserver calls itself towards webhooks.
const AGENT: &str = "kube-apiserver-admission";
/// Targets whose connections are kept; from kube-apiserver's cache of clients.
const MOST: usize = 200;
/// Idle connections kept per target; client-go's.
pub(super) const IDLE_MOST: usize = 25;
/// How long an idle connection is kept; Go's.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// How much of a text that is no answer is told.
pub(super) const TOLD_MOST: usize = 2048;

pub(super) type Https = Client<HttpsConnector<Dialer>, Full<Bytes>>;

/// Calls webhooks. Connections are kept per target, and end when this is dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    resolver: Arc<dyn Resolver>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_target: HashMap<Target, Https>,
    /// Oldest first; the same targets as in `by_target`.
    order: VecDeque<Target>,
}

impl Clients {
    /// Clients that find Services by `resolver`.
    pub(crate) fn new(resolver: Arc<dyn Resolver>) -> Self {
        Self {
            resolver,
            kept: Mutex::default(),
        }
    }

    /// Whether calls to this target can be made at all: whether its authorities make sense.
    ///
    /// # Errors
    ///
    /// A text that says why not.
    pub(crate) fn check(&self, target: &Target) -> Result<(), String> {
        self.client(target).map(drop)
    }

    /// Posts a document, and answers with the document that comes back, before `end`. The webhook is told how long it
    /// may take.
    ///
    /// Dropping the future ends the call.
    ///
    /// # Errors
    ///
    /// [`CallError`], whatever goes wrong.
    pub(crate) async fn post(&self, target: &Target, body: &Value, end: Instant) -> Result<Value, CallError> {
        let client = self.client(target).map_err(CallError::new)?;
        let url = with_timeout(&target.url(), end.saturating_duration_since(Instant::now()));
        let request = Request::post(&url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, AGENT)
            // Writing a JSON value to memory cannot fail.
            .body(Full::from(serde_json::to_vec(body).unwrap_or_default()))
            .map_err(|error| CallError::post(&url, error))?;
        let called = async {
            let response = client.request(request).await;
            let response = response.map_err(|error| CallError::post(&url, explain(&error)))?;
            read(response).await
        };
        timeout_at(end, called)
            .await
            .unwrap_or_else(|_| Err(CallError::post(&url, "context deadline exceeded")))
    }

    /// The client of that target, made when there is none yet.
    fn client(&self, target: &Target) -> Result<Https, String> {
        if let Some(client) = self.kept.lock().by_target.get(target) {
            return Ok(client.clone());
        }
        let config = tls::client_config(&target.authorities, None)?;
        let dialer = Dialer::new(target.place.clone(), self.resolver.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MOST)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((dialer, config)));
        let mut kept = self.kept.lock();
        if kept.by_target.insert(target.clone(), client.clone()).is_none() {
            kept.order.push_back(target.clone());
        }
        while kept.order.len() > MOST {
            let oldest = kept.order.pop_front();
            oldest.and_then(|target| kept.by_target.remove(&target));
        }
        Ok(client)
    }
}

/// The URL with the time left in whole seconds.
fn with_timeout(url: &str, left: Duration) -> String {
    let seconds = left.as_millis().div_ceil(1000).max(1);
    format!("{url}?timeout={seconds}s")
}

async fn read(response: Response<Incoming>) -> Result<Value, CallError> {
    let code = response.status().as_u16();
    let header = response.headers().get(CONTENT_TYPE);
    let content_type = header
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = match Limited::new(response.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the response is larger than {MAX_BODY} bytes");
            return Err(CallError::new(message));
        }
        Err(error) => {
            let message = format!(
                "unexpected error when reading response body. Please retry. Original error: {}",
                explain(&*error)
            );
            return Err(CallError::new(message));
        }
    };
    if !(200..=206).contains(&code) {
        let is_text = content_type.is_empty() || content_type.starts_with("text/");
        let told = &body[..body.len().min(TOLD_MOST)];
        let text = String::from_utf8_lossy(told);
        let text = if is_text { text.trim() } else { "unknown" };
        return Err(CallError::status(code, &body, text));
    }
    if body.is_empty() {
        let message = format!("0-length response with status code: {code} and content type: {content_type}");
        return Err(CallError::new(message));
    }
    serde_json::from_slice(&body).map_err(|_| {
        let fault = json_syntax::fault(&String::from_utf8_lossy(&body));
        CallError::new(format!("couldn't get version/kind; json parse error: {fault}"))
    })
}

//! What clients have asked for: a log between them and the server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use tokio::time::Instant;
use trimtab_apiserver_core::ApiService;

/// How many requests are kept.
const KEPT: usize = 1000;

/// One request of a client of the environment, made without a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestEntry {
    /// How long after the environment was started.
    pub at: Duration,
    /// Who asked.
    pub user: String,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The answer's code.
    pub code: u16,
}

/// The last requests. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    began: Instant,
    entries: Arc<parking_lot::Mutex<VecDeque<RequestEntry>>>,
}

/// A client's way to the server.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    server: ApiService,
    user: Arc<str>,
    requests: Requests,
}

impl fmt::Display for RequestEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            user,
            method,
            path,
            code,
        } = self;
        write!(f, "{:>10.3} s  {code} {method} {path} ({user})", at.as_secs_f64())
    }
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn of(&self, user: &str, server: ApiService) -> Noted {
        Noted {
            server,
            user: user.into(),
            requests: self.clone(),
        }
    }

    pub(crate) fn entries(&self) -> Vec<RequestEntry> {
        self.entries.lock().iter().cloned().collect()
    }

    fn note(&self, entry: RequestEntry) {
        let mut entries = self.entries.lock();
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

impl tower::Service<Request<Body>> for Noted {
    type Response = <ApiService as tower::Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut entry = RequestEntry {
            at: self.requests.began.elapsed(),
            user: self.user.to_string(),
            method: request.method().clone(),
            path: request.uri().to_string(),
            code: 0,
        };
        let (answer, requests) = (self.server.call(request), self.requests.clone());
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                entry.code = answer.status().as_u16();
            }
            requests.note(entry);
            answer
        })
    }
}

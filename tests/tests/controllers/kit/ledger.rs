//! Who has asked the server for what, and what was refused for want of a permission.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::util::BoxCloneService;
use tower::{BoxError, Layer, ServiceExt};

use super::transport::{Answer, Transport};

/// All that was asked; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    refused: Notify,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Instant,
    pub(crate) who: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What the server said to it, if it was that whoever asked may not.
    pub(crate) refused: Option<String>,
}

/// Takes note of one client's requests.
pub(crate) struct Noting {
    ledger: Ledger,
    who: String,
}

impl Ledger {
    /// Takes note of what this one asks.
    pub(crate) fn of(&self, who: impl Into<String>) -> Noting {
        Noting {
            ledger: self.clone(),
            who: who.into(),
        }
    }

    /// What was written. Leases and events are left out: they tell of time passing, and are nobody's wish.
    pub(crate) fn writes(&self) -> Vec<Entry> {
        let entries = self.0.entries.lock();
        let aside = |path: &str| path.contains("/leases") || path.contains("/events");
        let writes = entries
            .iter()
            .filter(|entry| entry.method != Method::GET && !aside(&entry.path));
        writes.cloned().collect()
    }

    /// What was refused for want of a permission, in the server's words.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let entries = self.0.entries.lock();
        let mut refusals: Vec<_> = entries.iter().filter_map(|entry| entry.refused.clone()).collect();
        refusals.sort();
        refusals.dedup();
        refusals
    }

    /// Waits until something has been refused.
    pub(crate) async fn refused(&self) {
        let mut told = std::pin::pin!(self.0.refused.notified());
        told.as_mut().enable();
        if self.refusals().is_empty() {
            told.await;
        }
    }

    fn note(&self, who: &str, request: &Request<Body>) -> usize {
        let mut entries = self.0.entries.lock();
        entries.push(Entry {
            at: Instant::now(),
            who: who.to_owned(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            refused: None,
        });
        entries.len() - 1
    }

    /// Reads a refusal, and puts it together again.
    async fn refusal(&self, entry: usize, answer: Answer) -> Result<Answer, BoxError> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        // What a namespace refuses that is being deleted, it refuses to everybody.
        if !status["message"]
            .to_string()
            .contains("because it is being terminated")
        {
            let words = status["message"].as_str().unwrap_or("no reason given").to_owned();
            self.0.entries.lock()[entry].refused = Some(words);
            self.0.refused.notify_waiters();
        }
        let body = Full::<Bytes>::from(body).map_err(|never| match never {});
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

impl Layer<Transport> for Noting {
    type Service = Transport;

    fn layer(&self, inner: Transport) -> Transport {
        let (ledger, who) = (self.ledger.clone(), self.who.clone());
        BoxCloneService::new(tower::service_fn(move |request: Request<Body>| {
            let (ledger, inner) = (ledger.clone(), inner.clone());
            let entry = ledger.note(&who, &request);
            async move {
                let answer = inner.oneshot(request).await?;
                if answer.status() == http::StatusCode::FORBIDDEN {
                    return ledger.refusal(entry, answer).await;
                }
                Ok(answer)
            }
        }))
    }
}

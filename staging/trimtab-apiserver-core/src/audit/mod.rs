//! The audit log: who did what, when, and what came of it, as far as a policy wants it written down, or sent to a webhook.
//!
//! A request that the policy is silent about costs one look at the policy; without a policy it costs nothing. What takes
//! part in a request, as admission does, adds to its events by [`annotate`].

mod event;
mod file;
mod policy;
mod record;
mod sink;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use trimtab_apimachinery_meta::names;
use trimtab_apiserver_auth::{Attributes, UserInfo};

pub use self::event::Truncation;
pub use self::file::Rotation;
pub use self::policy::{Level, Policy, PolicyError, Stage};
pub(crate) use self::record::Record;
use self::sink::Sink;
pub use self::sink::{LogConfig, Mode};
pub use self::webhook::{Batching, Throttle, WebhookConfig};
use self::webhook::{Sent, Webhook};

tokio::task_local! {
    /// What is to be said of the request that this task answers.
    static ANNOTATIONS: Annotations;
}

/// What is said of a request beside what is known of every one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations(Arc<Mutex<BTreeMap<String, String>>>);

/// Adds an annotation to the audit events of the request that this task answers, if it has any. What has been said under a
/// key stays as it is. `value` is asked for only if it is wanted.
///
/// Keys are names with a domain, as `validation.policy.admission.k8s.io/validation_failure`. What is no such key is not noted,
/// as with kube-apiserver, and is told of in the log.
pub fn annotate(key: &str, value: impl FnOnce() -> String) {
    let _ = ANNOTATIONS.try_with(|annotations| annotations.add(key, value)); // most requests have none
}

impl Annotations {
    pub(crate) fn add(&self, key: &str, value: impl FnOnce() -> String) {
        if !key.contains('/') || !names::qualified_name(key).is_empty() {
            tracing::warn!(key, "an audit annotation has a key that is none; it is not noted");
            return;
        }
        let mut annotations = self.0.lock();
        if annotations.contains_key(key) {
            tracing::debug!(key, "an audit annotation has a value already");
            return;
        }
        annotations.insert(key.to_owned(), value());
    }

    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.0.lock().clone()
    }

    /// Does something with these as the annotations of the request that this task answers.
    pub(crate) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        ANNOTATIONS.scope(self, work)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, Default)]
struct Figures {
    events: Counter,
    errors: Family<OfPlugin, Counter>,
    levels: Family<OfLevel, Counter>,
    rejected: Counter,
}

impl Figures {
    fn lost(&self, plugin: &'static str, count: usize) {
        let of = OfPlugin { plugin };
        self.errors.get_or_create(&of).inc_by(count as u64);
    }
}

/// Registers the figures of auditing; there are some, though all naught, when there is none.
pub(crate) fn register(audit: Option<&Audit>, registry: &mut Registry) {
    let registry = registry.sub_registry_with_prefix("apiserver_audit");
    let figures = audit.map(|audit| audit.figures.clone()).unwrap_or_default();
    // The encoder adds the suffix `_total`.
    registry.register("event", "Audit events that were written", figures.events);
    registry.register("error", "Audit events that were lost", figures.errors);
    registry.register("level", "Requests by how much of them is written", figures.levels);
    registry.register(
        "requests_rejected",
        "Requests refused because they could not be written down",
        figures.rejected,
    );
}

/// Writes down what a policy wants.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    log: Option<Sink>,
    webhook: Option<Webhook>,
    figures: Figures,
}

/// Who sends a request, as far as the connection tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) uri: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) address: Option<IpAddr>,
}

impl Audit {
    /// What this policy wants, to be written to a log or sent to a webhook, or both.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            log: None,
            webhook: None,
            figures: Figures::default(),
        }
    }

    /// The same, written to this log.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn with_log(mut self, log: &LogConfig) -> io::Result<Self> {
        let counted = self.figures.clone();
        self.log = Some(Sink::open(log, move |count| counted.lost("log", count))?);
        Ok(self)
    }

    /// The same, sent to this webhook.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with its kubeconfig.
    pub fn with_webhook(mut self, webhook: &WebhookConfig) -> Result<Self, String> {
        self.webhook = Some(Webhook::open(webhook, self.figures.clone())?);
        Ok(self)
    }

    /// Begins to send what is to be sent. The task ends after [`Audit::close`], when all has been sent.
    pub(crate) fn start(&self) -> Option<JoinHandle<()>> {
        self.webhook.as_ref()?.start()
    }

    /// Takes nothing more to send.
    pub(crate) fn close(&self) {
        self.webhook.iter().for_each(Webhook::close);
    }

    /// Begins the record of a request, if the policy wants one.
    ///
    /// # Errors
    ///
    /// When it cannot be written or sent, and must be.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        audit_id: &str,
        user: &UserInfo,
        request: &Attributes,
        origin: Origin<'_>,
        end: Instant,
    ) -> io::Result<Option<Record>> {
        let verdict = self.policy.judge(user, request);
        let level = verdict.level;
        let of = OfLevel {
            level: level.as_str(),
        };
        self.figures.levels.get_or_create(&of).inc();
        if level == Level::None {
            return Ok(None);
        }
        let record = Record::new(self.clone(), verdict, audit_id, user, request, origin);
        let mut received = record.received();
        if let Ok(Some(sent)) = &mut received {
            let sent = timeout_at(end, sent).await;
            if !matches!(sent, Ok(Ok(()))) && self.is_strict() {
                received = Err(io::Error::other("an audit event has not been sent"));
            }
        }
        if let Err(error) = received {
            self.figures.rejected.inc();
            record.forget();
            return Err(error);
        }
        Ok(Some(record))
    }

    /// Whether requests are refused whose beginning cannot be sent.
    fn is_strict(&self) -> bool {
        self.webhook.as_ref().map(|webhook| webhook.mode) == Some(Mode::BlockingStrict)
    }

    /// Writes an event. With `first`, requests may have to wait until it has been sent: this answers what for.
    ///
    /// # Errors
    ///
    /// When it is the first, cannot be written, and must be.
    fn write(&self, event: &event::Event, first: bool) -> io::Result<Option<Sent>> {
        self.figures.events.inc();
        let mut refused = Ok(None);
        if let Some(webhook) = &self.webhook
            && let Some(line) = self.line(event, webhook.truncation)
        {
            let wait = first && webhook.mode != Mode::Batch;
            match webhook.write(line, wait) {
                Ok(sent) => refused = Ok(sent),
                Err(error) => {
                    tracing::error!(%error, "an audit event cannot be sent");
                    self.figures.lost("buffered", 1);
                    if first && webhook.mode == Mode::BlockingStrict {
                        refused = Err(error);
                    }
                }
            }
        }
        if let Some(log) = &self.log
            && let Some(line) = self.line(event, log.truncation)
            && let Err(error) = log.write(line)
        {
            tracing::error!(%error, "an audit event cannot be written");
            self.figures.lost("log", 1);
            if first && log.is_strict() {
                return Err(error);
            }
        }
        refused
    }

    /// An event as it is written where events may be as long as this says; `None` if it is too long.
    fn line(&self, event: &event::Event, truncation: Option<Truncation>) -> Option<Vec<u8>> {
        let Some(truncation) = truncation else {
            return Some(event.line());
        };
        let line = event.line_within(truncation.max_event);
        if line.is_none() {
            tracing::error!("an audit event is too long even without what was sent and answered");
            self.figures.lost("truncate", 1);
        }
        line
    }
}

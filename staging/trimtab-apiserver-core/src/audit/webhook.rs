//! Events that are sent to another server: they wait in a buffer of bounded size, and a task sends them in batches, each
//! several times if that fails. When the server stops, what waits is sent first.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Figures, Mode, Truncation};
use crate::webhook::{self, CallError, Endpoint};

/// How often a batch is sent at most; that of kube-apiserver's webhooks.
const ATTEMPTS: u32 = 5;
/// How much longer each pause between attempts is than the one before; kube-apiserver's.
const FACTOR: f64 = 1.5;
/// So many batches are on their way at once. kube-apiserver has no limit, and may have any number of them in memory.
const MOST_AT_ONCE: usize = 16;

/// Where events are sent, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// A kubeconfig that names the server.
    pub config_file: PathBuf,
    /// When events are sent. By `Blocking` a request waits until its beginning has been sent, and what comes of it is sent
    /// at once; by `BlockingStrict` it is refused if that fails.
    pub mode: Mode,
    /// How events are collected by `Batch`.
    pub batch: Batching,
    /// How long they may be; `None` for as long as they are.
    pub truncation: Option<Truncation>,
    /// How long to wait before a batch is sent for the second time; 10 seconds in kube-apiserver.
    pub initial_backoff: Duration,
}

/// How events are collected.
#[derive(Clone, Debug, PartialEq)]
pub struct Batching {
    /// Events that may wait to be sent; more are lost.
    pub buffer: usize,
    /// Events in a batch, at most.
    pub most: usize,
    /// How long an event waits for others.
    pub wait: Duration,
    /// How many batches may be sent; `None` for as many as there are.
    pub throttle: Option<Throttle>,
}

/// How many batches may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// In a second, on average.
    pub per_second: f32,
    /// At once, after a time without.
    pub burst: u32,
}

impl Default for Batching {
    /// As kube-apiserver's webhook.
    fn default() -> Self {
        Self {
            buffer: 10_000,
            most: 400,
            wait: Duration::from_secs(30),
            throttle: Some(Throttle {
                per_second: 10.0,
                burst: 15,
            }),
        }
    }
}

/// Takes events to be sent.
pub(super) struct Webhook {
    pub(super) mode: Mode,
    pub(super) truncation: Option<Truncation>,
    events: mpsc::Sender<Waiting>,
    closing: CancellationToken,
    /// Until it is started.
    sender: Mutex<Option<Sender>>,
}

/// An event that waits to be sent.
struct Waiting {
    line: Vec<u8>,
    /// Who waits to hear that it has been sent.
    sent: Option<oneshot::Sender<()>>,
}

/// What is told when an event has been sent; an error if it never will be.
pub(super) type Sent = oneshot::Receiver<()>;

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

// === impl Webhook ===

impl Webhook {
    /// Reads whom to send to.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with the kubeconfig.
    pub(super) fn open(config: &WebhookConfig, figures: Figures) -> Result<Self, String> {
        let endpoint = Endpoint::read(&config.config_file)?;
        let (events, waiting) = mpsc::channel(config.batch.buffer.max(1));
        let closing = CancellationToken::new();
        let batch = match config.mode {
            Mode::Batch => config.batch.clone(),
            Mode::Blocking | Mode::BlockingStrict => Batching {
                most: 1,
                throttle: None,
                ..config.batch.clone()
            },
        };
        let longest = config
            .truncation
            .map_or(usize::MAX, |truncation| truncation.max_batch);
        let sender = Sender {
            batch,
            longest,
            waiting,
            left: None,
            closing: closing.clone(),
            call: Call {
                endpoint,
                initial_backoff: config.initial_backoff,
                figures,
            },
        };
        Ok(Self {
            mode: config.mode,
            truncation: config.truncation,
            events,
            closing,
            sender: Mutex::new(Some(sender)),
        })
    }

    /// Has an event sent. If somebody is to wait for that, this answers what to wait for.
    ///
    /// # Errors
    ///
    /// When too many wait already, or no more are taken: it is lost.
    pub(super) fn write(&self, line: Vec<u8>, wait: bool) -> io::Result<Option<Sent>> {
        let (sent, told) = match wait {
            true => {
                let (sent, told) = oneshot::channel();
                (Some(sent), Some(told))
            }
            false => (None, None),
        };
        let given = self.events.try_send(Waiting { line, sent });
        given.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => io::Error::other("audit buffer queue blocked"),
            mpsc::error::TrySendError::Closed(_) => io::Error::other("audit backend shut down"),
        })?;
        Ok(told)
    }

    /// Begins to send. The task ends after [`Webhook::close`], when all has been sent.
    pub(super) fn start(&self) -> Option<JoinHandle<()>> {
        let sender = self.sender.lock().take()?;
        Some(tokio::spawn(sender.run()))
    }

    /// Takes no more events.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }
}

/// Sends events.
struct Sender {
    batch: Batching,
    /// How long a batch gets, in bytes.
    longest: usize,
    waiting: mpsc::Receiver<Waiting>,
    /// An event that the last batch had no room for.
    left: Option<Waiting>,
    closing: CancellationToken,
    call: Call,
}

impl Sender {
    async fn run(mut self) {
        let mut bucket = self.batch.throttle.map(Bucket::new);
        let mut underway = JoinSet::new();
        while let Some(batch) = self.collect().await {
            if let Some(bucket) = &mut bucket {
                bucket.take().await;
            }
            while underway.len() >= MOST_AT_ONCE {
                underway.join_next().await;
            }
            underway.spawn(self.call.clone().send(batch));
        }
        while underway.join_next().await.is_some() {}
    }

    /// The next batch; `None` at the end.
    async fn collect(&mut self) -> Option<Vec<Waiting>> {
        let first = match self.left.take() {
            Some(left) => left,
            None => self.next().await?,
        };
        let mut length = first.line.len();
        let mut batch = vec![first];
        let end = Instant::now() + self.batch.wait;
        while batch.len() < self.batch.most
            && let Ok(Some(more)) = timeout_at(end, self.next()).await
        {
            length = length.saturating_add(more.line.len());
            if length > self.longest {
                self.left = Some(more);
                break;
            }
            batch.push(more);
        }
        Some(batch)
    }

    /// The next event; `None` when there will be none any more.
    async fn next(&mut self) -> Option<Waiting> {
        tokio::select! {
            biased;
            next = self.waiting.recv() => return next,
            () = self.closing.cancelled() => {}
        }
        // What is there already is handed out still.
        self.waiting.close();
        self.waiting.recv().await
    }
}

/// How a batch is sent.
#[derive(Clone)]
struct Call {
    endpoint: Endpoint,
    initial_backoff: Duration,
    figures: Figures,
}

impl Call {
    async fn send(self, batch: Vec<Waiting>) {
        let list = list(&batch);
        let mut pause = self.initial_backoff;
        let mut failed = CallError::none();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(pause).await;
                pause = pause.mul_f64(FACTOR);
            }
            let end = Instant::now() + webhook::LONGEST;
            match self.endpoint.post(list.clone(), end).await {
                Ok(()) => {
                    for sent in batch.into_iter().filter_map(|event| event.sent) {
                        let _ = sent.send(()); // who has gone away need not know
                    }
                    return;
                }
                Err(error) => failed = error,
            }
        }
        tracing::error!(error = %failed, events = batch.len(), "audit events cannot be sent");
        self.figures.lost("webhook", batch.len());
    }
}

/// `EventList` of audit.k8s.io/v1.
fn list(batch: &[Waiting]) -> Bytes {
    let length: usize = batch.iter().map(|event| event.line.len() + 1).sum();
    let mut list = Vec::with_capacity(length + 96);
    list.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (i, event) in batch.iter().enumerate() {
        if i > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event.line.trim_ascii_end());
    }
    list.extend_from_slice(b"]}");
    list.into()
}

/// A bucket of tokens, one for each batch.
#[derive(Debug)]
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(throttle: Throttle) -> Self {
        Self {
            throttle,
            tokens: throttle.burst.into(),
            at: Instant::now(),
        }
    }

    /// Takes a token when there is one.
    async fn take(&mut self) {
        let rate = f64::from(self.throttle.per_second).max(f64::MIN_POSITIVE);
        let now = Instant::now();
        let filled = self.tokens + (now - self.at).as_secs_f64() * rate;
        (self.tokens, self.at) = (filled.min(self.throttle.burst.into()) - 1.0, now);
        if self.tokens < 0.0 {
            let wait = Duration::try_from_secs_f64(-self.tokens / rate).unwrap_or(Duration::MAX);
            // One that takes for ever is as good as none.
            sleep_until(now.checked_add(wait).unwrap_or(now)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_batches_are_let_through_as_there_are_tokens() {
        let mut bucket = Bucket::new(Throttle {
            per_second: 2.0,
            burst: 3,
        });
        let start = Instant::now();
        let mut at = Vec::new();
        for i in 0..6 {
            if i == 5 {
                sleep(Duration::from_secs(60)).await;
            }
            bucket.take().await;
            at.push((Instant::now() - start).as_millis());
        }
        assert_eq!(at, [0, 0, 0, 500, 1000, 61_000]);
    }
}

//! The task that writes events: one at a time, trying again when the server cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, Error};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::series::{Key, Memory, QUIET, Request};
use super::{Counters, QUEUE, Record, Recorder, Reporter};

/// How often a write is tried when the server cannot be reached. client-go's figure.
const TRIES: u32 = 12;
/// The wait between two tries. client-go's figure.
const BETWEEN_TRIES: Duration = Duration::from_secs(10);
/// The server takes no longer names of instances.
const INSTANCE_BYTES: usize = 128;

/// Owns the task that writes events. Dropping it stops the task; what was not written is lost.
#[derive(Debug)]
#[must_use = "dropping it stops the writing of events"]
pub struct EventWriter {
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl EventWriter {
    /// Starts to write events in the name of `controller`, such as `example.com/website-controller`, and of others by
    /// [`Recorder::reporting_as`]. `instance` tells replicas apart, usually by host name. Needs a tokio runtime.
    pub fn start(
        client: Client,
        controller: impl Into<String>,
        instance: impl Into<String>,
    ) -> (Recorder, Self) {
        let (queue, records) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let reporter = Reporter {
            controller: controller.into(),
            instance: instance.into().chars().take(INSTANCE_BYTES).collect(),
        };
        let counters = Arc::<Counters>::default();
        let recorder = Recorder {
            reporter: Arc::new(reporter),
            queue,
            counters: Arc::clone(&counters),
        };
        let writing = Writing {
            client,
            memory: Memory::new(),
            counters,
        };
        let writer = Self {
            task: tokio::spawn(writing.run(records, stopped)),
            stop: Some(stop),
        };
        (recorder, writer)
    }

    /// Writes what waits, counts of series included, and stops. Takes no more records from now on. False: `deadline`
    /// passed first, and the rest is lost.
    pub async fn shut_down(mut self, deadline: Duration) -> bool {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // an error says that the task has ended, which the next line sees too
        }
        timeout(deadline, &mut self.task).await.is_ok()
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task has.
struct Writing {
    client: Client,
    memory: Memory,
    counters: Arc<Counters>,
}

impl Writing {
    async fn run(mut self, mut records: mpsc::Receiver<Record>, stopped: oneshot::Receiver<()>) {
        let mut housekeeping = interval_at(Instant::now() + QUIET, QUIET);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = Some(stopped);
        loop {
            let requests = tokio::select! {
                biased;
                // `close` lets what is queued still be received, then `None`.
                () = wait(&mut stopped) => {
                    records.close();
                    Vec::new()
                }
                record = records.recv() => match record {
                    Some(record) => self.memory.observe(record, Instant::now(), &self.counters),
                    None => break,
                },
                _ = housekeeping.tick() => self.memory.due(Instant::now()),
            };
            self.send_all(requests).await;
        }
        let rest = self.memory.rest();
        self.send_all(rest).await;
    }

    async fn send_all(&mut self, requests: Vec<(Key, Request)>) {
        for (key, request) in requests {
            if !self.send(request).await {
                Counters::count(&self.counters.failed);
                self.memory.forget(&key);
            }
        }
    }

    /// Writes one event; tries again only when the server did not answer. False: it is given up.
    async fn send(&self, request: Request) -> bool {
        for attempt in 1..=TRIES {
            match write(&self.client, &request).await {
                Ok(()) => {
                    Counters::count(&self.counters.written);
                    return true;
                }
                Err(Error::Api(status)) if is_expected(&status) => return true,
                Err(Error::Api(status)) => {
                    tracing::warn!(%status, "the server refused an event");
                    return false;
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "an event could not be written");
                    sleep(BETWEEN_TRIES.mul_f64(if attempt == 1 { fastrand::f64() } else { 1.0 })).await;
                }
            }
        }
        tracing::warn!("gave up writing an event: the server does not answer");
        false
    }
}

/// Waits for the order to stop, once; an owner that is gone gives none.
async fn wait(stopped: &mut Option<oneshot::Receiver<()>>) {
    match stopped {
        Some(order) => {
            let ordered = order.await;
            *stopped = None;
            if ordered.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// An earlier answer was lost, or the event's namespace is being deleted and takes nothing new, or has gone.
fn is_expected(status: &Status) -> bool {
    let details = status.details.as_ref();
    if status.is_not_found() && details.is_some_and(|details| details.kind == "namespaces") {
        return true;
    }
    let causes = details.into_iter().flat_map(|details| &details.causes);
    let terminating = causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating");
    // Servers before 1.16 do not give the cause.
    status.is_already_exists() || terminating || status.message.contains("being terminated")
}

async fn write(client: &Client, request: &Request) -> Result<(), Error> {
    let (Request::Create(event) | Request::Patch(event)) = request;
    let api: Api<Event> = Api::namespaced(
        client.clone(),
        event.metadata.namespace.as_deref().unwrap_or("default"),
    );
    if let Request::Patch(event) = request {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Strategic(serde_json::json!({ "series": event.series }));
        match api.patch(name, &PatchParams::default(), &patch).await {
            Err(Error::Api(status)) if status.is_not_found() => {} // it has expired: write it anew
            result => return result.map(drop),
        }
    }
    api.create(&PostParams::default(), event).await.map(drop)
}

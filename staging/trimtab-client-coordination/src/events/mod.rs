//! Recording events (`events.k8s.io/v1`): what happened to an object, for people who ask.
//!
//! A [`Recorder`] takes a note and returns at once; a task that its [`EventWriter`] owns writes it. The queue between
//! them is bounded: what does not fit is dropped and counted, since a record is never worth delaying the work that it
//! tells of.
//!
//! Notes are correlated as client-go does, so that a controller that goes wrong does not flood the cluster:
//!
//! - The same note of the same object again is the same event, with a count.
//! - From the tenth different message on, notes of one object with the same severity, reason and action become one event,
//!   "(combined from similar events)", with a count, until none comes for ten minutes.
//! - Of one object and severity, 25 events and first repetitions are written at once, and after that one in five minutes. What
//!   goes beyond that is not written; counts of what was written before go on.
//!
//! Each of these memories has 4096 entries and forgets what was not used for longest.

mod correlate;
mod lru;
mod series;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use tokio::sync::mpsc;

use crate::clock::Clock;

pub use writer::EventWriter;

/// How many notes wait to be written at most. client-go's figure.
pub const QUEUE: usize = 1000;

/// Whether an event is only told, or should worry somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// All went as it should.
    Normal,
    /// Somebody may have to look.
    Warning,
}

/// What happened, without the object to which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How grave it is.
    pub severity: Severity,
    /// Why, in one CamelCase word for machines; at most 128 bytes.
    pub reason: String,
    /// What was done or tried, in one CamelCase word for machines; at most 128 bytes.
    pub action: String,
    /// For people; longer than 1024 bytes is cut.
    pub message: String,
}

/// Takes notes of what happens to objects, in the name of a controller. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    reporter: Arc<Reporter>,
    queue: mpsc::Sender<Record>,
    counters: Arc<Counters>,
}

/// What became of notes and events, for metrics. Counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Notes that were not taken: the queue was full, or the writer had stopped.
    pub dropped: u64,
    /// Notes that were taken and not written, since there were too many of their object.
    pub filtered: u64,
    /// Notes that were written, or counted, as one with similar ones.
    pub combined: u64,
    /// Requests that the server has answered: new events, and counts of old ones.
    pub written: u64,
    /// Events and counts that were given up: the server refused them, or did not answer for long. Not among them are those of
    /// namespaces that are being deleted.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    dropped: AtomicU64,
    filtered: AtomicU64,
    combined: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
}

/// In whose name events are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reporter {
    controller: String,
    instance: String,
}

/// A note on its way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    reporter: Arc<Reporter>,
    regarding: ObjectReference,
    note: Note,
    at: jiff::Timestamp,
}

// === impl Note ===

impl Note {
    /// All went as it should.
    pub fn normal(reason: impl Into<String>, action: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Normal,
            reason: reason.into(),
            action: action.into(),
            message: message.into(),
        }
    }

    /// Somebody may have to look.
    pub fn warning(reason: impl Into<String>, action: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::normal(reason, action, message)
        }
    }
}

// === impl Recorder ===

impl Recorder {
    /// The same queue, for notes in the name of another `controller` of this instance. What is counted together to keep
    /// floods off is counted for each of them.
    #[must_use]
    pub fn reporting_as(&self, controller: impl Into<String>) -> Self {
        let reporter = Reporter {
            controller: controller.into(),
            instance: self.reporter.instance.clone(),
        };
        Self {
            reporter: Arc::new(reporter),
            ..self.clone()
        }
    }

    /// Notes what happened to `object`. Never waits. False: the queue is full or the writer has stopped, and the note
    /// is dropped.
    pub fn record<K>(&self, object: &K, note: Note) -> bool
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.record_for(object.object_ref(&K::DynamicType::default()), note)
    }

    /// Notes what happened to the object that `regarding` names. See [`Recorder::record`].
    pub fn record_for(&self, regarding: ObjectReference, note: Note) -> bool {
        let record = Record {
            reporter: self.reporter.clone(),
            regarding,
            note,
            at: Clock::System.now(),
        };
        let taken = self.queue.try_send(record).is_ok();
        if !taken {
            Counters::count(&self.counters.dropped);
        }
        taken
    }

    /// How many notes were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.counts().dropped
    }

    /// What has become of notes and events so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            dropped: of(&self.counters.dropped),
            filtered: of(&self.counters.filtered),
            combined: of(&self.counters.combined),
            written: of(&self.counters.written),
            failed: of(&self.counters.failed),
        }
    }
}

// === impl Counters ===

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

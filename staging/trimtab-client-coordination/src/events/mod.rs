//! Recording events (`events.k8s.io/v1`): what happened to an object, for people who ask.
//!
//! A [`Recorder`] takes a note and returns at once; a task that its [`EventWriter`] owns writes it. The queue between
//! them is bounded: what does not fit is dropped and counted, since a record is never worth delaying the work that it
//! tells of. Repetitions of an event become one event with a count.

mod series;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use tokio::sync::mpsc;

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

/// Takes notes of what happens to objects. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// A note on its way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Record {
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
            regarding,
            note,
            at: jiff::Timestamp::now(),
        };
        let taken = self.queue.try_send(record).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// How many notes were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;

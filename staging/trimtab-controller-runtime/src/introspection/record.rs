//! What is recorded of a turn: what led to it, what it wrote, how it ended.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use trimtab_client_workqueue::{Reasons, Work};

use super::wire;

/// What led to a turn, and when it began on a wall clock. Without more it is a first attempt of priority 0, of which neither the
/// reasons nor the wait are known.
#[derive(Clone, Debug)]
pub struct Occasion {
    pub(super) at: Timestamp,
    pub(super) reasons: Vec<Box<str>>,
    pub(super) omitted: u32,
    pub(super) priority: i32,
    pub(super) attempt: u32,
    pub(super) triggered: Option<Instant>,
    pub(super) queued: Option<Instant>,
}

/// A write of a turn: a request, or one that was not needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Write {
    /// What was to be done.
    pub verb: Verb,
    /// The kind of the object.
    pub kind: Cow<'static, str>,
    /// The object's key, `namespace/name` or `name`.
    pub key: Box<str>,
    /// The resource version that the server answered with; for a write that was not needed, the one in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<Box<str>>,
    /// What came of it.
    #[serde(flatten)]
    pub result: WriteResult,
}

/// What a write does, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verb {
    /// A create.
    Create,
    /// An update of the whole object.
    Update,
    /// A patch of any form but an apply.
    Patch,
    /// A server-side apply.
    Apply,
    /// A deletion.
    Delete,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "message", rename_all = "camelCase")]
#[non_exhaustive]
pub enum WriteResult {
    /// The server took it.
    Written,
    /// It would have changed nothing, so no request was made.
    Unchanged,
    /// The server refused it or did not answer; says why.
    Refused(Box<str>),
}

/// What became of a turn's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum StatusWrite {
    /// The turn said nothing about the status.
    #[default]
    None,
    /// The status was as wished already.
    Unchanged,
    /// It was written.
    Written,
    /// It could not be written.
    Refused,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Outcome {
    /// All is as it should be.
    Success,
    /// All is as it should be, and is to be looked at again.
    RequeueAfter {
        /// When, counted from the end of the turn.
        #[serde(rename = "againInSeconds", serialize_with = "wire::seconds")]
        delay: Duration,
    },
    /// The object had changed since it was read.
    Conflict {
        /// When the key is tried again, counted from the end of the turn.
        #[serde(rename = "againInSeconds", serialize_with = "wire::seconds")]
        delay: Duration,
    },
    /// The reconciler failed.
    Error {
        /// What it said.
        message: String,
        /// When the key is tried again, counted from the end of the turn.
        #[serde(rename = "againInSeconds", serialize_with = "wire::seconds")]
        delay: Duration,
    },
    /// The reconciler failed in a way that only a change mends.
    Terminal {
        /// What it said.
        message: String,
    },
    /// The reconciler panicked.
    Panic {
        /// What the panic said.
        message: String,
        /// When the key is tried again, counted from the end of the turn.
        #[serde(rename = "againInSeconds", serialize_with = "wire::seconds")]
        delay: Duration,
    },
    /// The reconciler took longer than it may.
    TimedOut {
        /// How long it may take.
        #[serde(rename = "limitSeconds", serialize_with = "wire::seconds")]
        limit: Duration,
        /// When the key is tried again, counted from the end of the turn.
        #[serde(rename = "againInSeconds", serialize_with = "wire::seconds")]
        delay: Duration,
    },
    /// It was not let end, as at the end of a shutdown's deadline.
    CutOff,
}

// === impl Occasion ===

impl Occasion {
    /// A turn that begins now, which on a wall clock is `at`.
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            reasons: Vec::new(),
            omitted: 0,
            priority: 0,
            attempt: 1,
            triggered: None,
            queued: None,
        }
    }

    /// A turn of a key that a queue has just handed out: its reasons, its priority, its attempt and how long it was ready.
    pub fn of<K: Clone + Eq + Hash>(work: &Work<K>, at: Timestamp) -> Self {
        let occasion = Self::new(at)
            .reasons(work.reasons())
            .priority(work.priority())
            .attempt(work.attempt());
        match Instant::now().checked_sub(work.waited()) {
            Some(queued) => occasion.queued(queued),
            None => occasion,
        }
    }

    /// Adds the reasons that a queue has merged.
    #[must_use]
    pub fn reasons(mut self, reasons: &Reasons) -> Self {
        self.reasons.extend(reasons.iter().map(Into::into));
        self.omitted = self.omitted.saturating_add(reasons.omitted());
        self
    }

    /// Adds a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Box<str>>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// With which priority the key waited. The default is 0.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    /// Which attempt this is: 1, and one more for each failure since the last success. The default is 1.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// When the first of the triggers came that are answered by this turn.
    #[must_use]
    pub fn triggered(mut self, when: Instant) -> Self {
        self.triggered = Some(when);
        self
    }

    /// When the key became ready. From then on it waited for a worker.
    #[must_use]
    pub fn queued(mut self, when: Instant) -> Self {
        self.queued = Some(when);
        self
    }
}

// === impl Write ===

impl Write {
    /// A write that the server took.
    pub fn new(verb: Verb, kind: impl Into<Cow<'static, str>>, key: &(impl fmt::Display + ?Sized)) -> Self {
        Self {
            verb,
            kind: kind.into(),
            key: key.to_string().into(),
            resource_version: None,
            result: WriteResult::Written,
        }
    }

    /// With the resource version that the object has now.
    #[must_use]
    pub fn version(mut self, version: impl Into<Box<str>>) -> Self {
        self.resource_version = Some(version.into());
        self
    }

    /// No request was made, since it would have changed nothing.
    #[must_use]
    pub fn unchanged(mut self) -> Self {
        self.result = WriteResult::Unchanged;
        self
    }

    /// The server refused it, or did not answer.
    #[must_use]
    pub fn refused(mut self, why: &(impl fmt::Display + ?Sized)) -> Self {
        self.result = WriteResult::Refused(why.to_string().into());
        self
    }

    /// Bytes that it takes beside its own.
    pub(super) fn heap(&self) -> usize {
        let kind = match &self.kind {
            Cow::Borrowed(_) => 0,
            Cow::Owned(kind) => kind.capacity(),
        };
        let message = match &self.result {
            WriteResult::Refused(message) => message.len(),
            WriteResult::Written | WriteResult::Unchanged => 0,
        };
        kind + self.key.len() + self.resource_version.as_ref().map_or(0, |version| version.len()) + message
    }

    /// Cuts its texts to this many bytes each.
    pub(super) fn shorten(&mut self, bytes: usize) {
        shorten_box(&mut self.key, bytes);
        if let Cow::Owned(kind) = &mut self.kind {
            shorten(kind, bytes);
        }
        if let Some(version) = &mut self.resource_version {
            shorten_box(version, bytes);
        }
        if let WriteResult::Refused(message) = &mut self.result {
            shorten_box(message, bytes);
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the turn did not bring about what it was to: its key is among the failing ones until a turn ends well.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Success | Self::RequeueAfter { .. } | Self::CutOff => false,
            Self::Conflict { .. }
            | Self::Error { .. }
            | Self::Terminal { .. }
            | Self::Panic { .. }
            | Self::TimedOut { .. } => true,
        }
    }

    pub(super) fn message(&mut self) -> Option<&mut String> {
        match self {
            Self::Error { message, .. } | Self::Terminal { message } | Self::Panic { message, .. } => {
                Some(message)
            }
            _ => None,
        }
    }
}

/// Cuts a text to so many bytes, and says so by an ellipsis.
pub(super) fn shorten(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text.shrink_to_fit();
}

pub(super) fn shorten_box(text: &mut Box<str>, bytes: usize) {
    if text.len() > bytes {
        let mut long = std::mem::take(text).into_string();
        shorten(&mut long, bytes);
        *text = long.into();
    }
}

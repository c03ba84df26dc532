//! Which events repeat: what was written lately, so that a repetition becomes a count.
//!
//! The first repetition is written at once, so that people see it; later ones are counted and written when the series
//! ends or is refreshed.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

use super::{Record, Severity};

/// A series that was quiet for this long is over. client-go's figure.
pub(super) const QUIET: Duration = Duration::from_secs(6 * 60);
/// A series that goes on is written this often. client-go's figure.
pub(super) const REFRESH: Duration = Duration::from_secs(30 * 60);
/// How many distinct events are remembered at most.
const REMEMBERED: usize = 4096;
/// The server takes no longer notes.
const MESSAGE_BYTES: usize = 1024;

/// Who writes.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub(super) controller: String,
    pub(super) instance: String,
}

/// Two notes with the same of these are one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    severity: Severity,
    reason: String,
    action: String,
    regarding: [Option<String>; 5],
}

#[derive(Debug)]
struct Series {
    event: Event,
    last: Instant,
    written: Instant,
    /// Whether the count has grown since the event was written.
    unwritten: bool,
}

/// What the writer has to do.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Create(Event),
    Patch(Event),
}

/// The events that may still be repeated.
#[derive(Debug)]
pub(super) struct Memory {
    reporter: Reporter,
    known: HashMap<Key, Series>,
}

impl Memory {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            known: HashMap::new(),
        }
    }

    /// Takes a record in and says what is to be written for it, if anything.
    pub(super) fn observe(&mut self, record: Record, now: Instant) -> Option<(Key, Request)> {
        let key = Key::of(&record);
        if let Some(series) = self.known.get_mut(&key) {
            series.last = now;
            let first = series.event.series.is_none();
            let count = series
                .event
                .series
                .as_ref()
                .map_or(2, |s| s.count.saturating_add(1));
            series.event.series = Some(EventSeries {
                count,
                last_observed_time: MicroTime(record.at),
            });
            series.unwritten = !first;
            return first.then(|| (key, Request::Patch(series.event.clone())));
        }
        if self.known.len() >= REMEMBERED {
            let oldest = self
                .known
                .iter()
                .min_by_key(|(_, series)| series.last)
                .map(|(key, _)| key.clone());
            oldest.and_then(|key| self.known.remove(&key));
        }
        let event = self.event(record);
        let series = Series {
            event: event.clone(),
            last: now,
            written: now,
            unwritten: false,
        };
        self.known.insert(key.clone(), series);
        Some((key, Request::Create(event)))
    }

    /// Forgets an event that could not be written, so that its next repetition is written anew.
    pub(super) fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// The series to be written now: those that have ended, which are forgotten, and those not written for long.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Key, Request)> {
        let mut due = Vec::new();
        self.known.retain(|key, series| {
            let over = now.saturating_duration_since(series.last) >= QUIET;
            let stale = now.saturating_duration_since(series.written) >= REFRESH;
            if series.unwritten && (over || stale) {
                (series.written, series.unwritten) = (now, false);
                due.push((key.clone(), Request::Patch(series.event.clone())));
            }
            !over
        });
        due
    }

    /// All counts that are not written yet.
    pub(super) fn rest(&mut self) -> Vec<(Key, Request)> {
        let rest = std::mem::take(&mut self.known);
        rest.into_iter()
            .filter(|(_, series)| series.unwritten)
            .map(|(key, series)| (key, Request::Patch(series.event)))
            .collect()
    }

    fn event(&self, record: Record) -> Event {
        let Record { regarding, note, at } = record;
        let namespace = regarding.namespace.clone().filter(|ns| !ns.is_empty());
        let name = regarding.name.as_deref().unwrap_or_default();
        let severity = match note.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", at.as_nanosecond())),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            action: Some(note.action),
            note: Some(cut(note.message)),
            reason: Some(note.reason),
            regarding: Some(regarding),
            reporting_controller: Some(self.reporter.controller.clone()),
            reporting_instance: Some(self.reporter.instance.clone()),
            type_: Some(severity.to_owned()),
            ..Event::default()
        }
    }
}

impl Key {
    fn of(record: &Record) -> Self {
        let ObjectReference {
            api_version,
            kind,
            namespace,
            name,
            uid,
            ..
        } = record.regarding.clone();
        Self {
            severity: record.note.severity,
            reason: record.note.reason.clone(),
            action: record.note.action.clone(),
            regarding: [api_version, kind, namespace, name, uid],
        }
    }
}

/// Cuts a text to what the server takes, between characters.
fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

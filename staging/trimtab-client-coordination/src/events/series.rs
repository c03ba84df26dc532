//! Which events repeat: what was written lately, so that a repetition becomes a count.
//!
//! The first repetition is written at once, so that people see it; later ones are counted and written when the series
//! ends or is refreshed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;
use trimtab_apimachinery_meta::names::dns1123_subdomain;
use uuid::Uuid;

use super::correlate::{Correlator, Kin, REMEMBERED};
use super::lru::Lru;
use super::{Counters, Record, Severity};

/// A series that was quiet for this long is over. client-go's figure.
pub(super) const QUIET: Duration = Duration::from_secs(6 * 60);
/// A series that goes on is written this often. client-go's figure.
pub(super) const REFRESH: Duration = Duration::from_secs(30 * 60);
/// The server takes no longer notes.
const MESSAGE_BYTES: usize = 1024;
/// How an event begins that stands for many. client-go's words.
const COMBINED: &str = "(combined from similar events): ";

/// Two notes with the same of these are one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kin: Kin,
    /// The text and the field that it is about, as a hash; none for what is combined.
    text: Option<u64>,
}

/// An event that was written, as the note that it is of: a third of what it takes as an event.
#[derive(Debug)]
struct Series {
    name: String,
    record: Record,
    repeated: Option<EventSeries>,
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
    hashes: RandomState,
    correlator: Correlator,
    known: Lru<Key, Series>,
    /// The time in the name of the last event, in nanoseconds: no two have the same.
    named: i128,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            hashes: RandomState::new(),
            correlator: Correlator::new(),
            known: Lru::new(REMEMBERED),
            named: i128::MIN,
        }
    }

    /// Takes a record in and says what is to be written for it, if anything.
    pub(super) fn observe(
        &mut self,
        mut record: Record,
        now: Instant,
        counters: &Counters,
    ) -> Vec<(Key, Request)> {
        let kin = Kin::of(&record);
        let field = &record.regarding.field_path;
        let text = self.hashes.hash_one((field, &record.note.message));
        let combined = self.correlator.combines(&kin, text, now);
        if combined {
            record.note.message.insert_str(0, COMBINED);
        }
        let key = Key {
            kin,
            text: (!combined).then_some(text),
        };
        if let Some(series) = self.known.get_mut(&key) {
            if combined {
                Counters::count(&counters.combined);
            }
            let first = series.repeat(record.at, now);
            // The count waits until the series ends if there is no token for it.
            if first && self.correlator.allows(&key.kin.subject, now) {
                series.unwritten = false;
                return vec![(key, Request::Patch(series.event()))];
            }
            return Vec::new();
        }
        if !self.correlator.allows(&key.kin.subject, now) {
            Counters::count(&counters.filtered);
            return Vec::new();
        }
        if combined {
            Counters::count(&counters.combined);
        }
        record.note.message = cut(record.note.message);
        let series = Series {
            name: self.name(record.regarding.name.as_deref().unwrap_or_default(), record.at),
            record,
            repeated: None,
            last: now,
            written: now,
            unwritten: false,
        };
        let event = series.event();
        let gone = self.known.insert(key.clone(), series);
        let gone = gone.filter(|(_, series)| series.unwritten);
        let of_gone = gone.map(|(key, series)| (key, Request::Patch(series.event())));
        let mut requests = Vec::from_iter(of_gone);
        requests.push((key, Request::Create(event)));
        requests
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
                due.push((key.clone(), Request::Patch(series.event())));
            }
            !over
        });
        due
    }

    /// All counts that are not written yet.
    pub(super) fn rest(&mut self) -> Vec<(Key, Request)> {
        let rest = self.known.take().filter(|(_, series)| series.unwritten);
        rest.map(|(key, series)| (key, Request::Patch(series.event())))
            .collect()
    }

    /// A name as client-go gives it: that of the object and the time, or a random one where that would be none.
    fn name(&mut self, of: &str, at: Timestamp) -> String {
        self.named = at.as_nanosecond().max(self.named + 1);
        let name = format!("{of}.{:x}", self.named);
        match dns1123_subdomain(&name).is_empty() {
            true => name,
            false => Uuid::new_v4().to_string(),
        }
    }
}

impl Series {
    fn event(&self) -> Event {
        let Record {
            reporter,
            regarding,
            note,
            at,
        } = &self.record;
        let namespace = regarding.namespace.clone().filter(|ns| !ns.is_empty());
        let severity = match note.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(*at)),
            action: Some(note.action.clone()),
            note: Some(note.message.clone()),
            reason: Some(note.reason.clone()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(reporter.controller.clone()),
            reporting_instance: Some(reporter.instance.clone()),
            series: self.repeated.clone(),
            type_: Some(severity.to_owned()),
            ..Event::default()
        }
    }

    /// Counts a repetition. Whether it is the first one.
    fn repeat(&mut self, at: Timestamp, now: Instant) -> bool {
        self.last = now;
        self.unwritten = true;
        let before = self.repeated.as_ref().map(|series| series.count);
        self.repeated = Some(EventSeries {
            count: before.map_or(2, |count| count.saturating_add(1)),
            last_observed_time: MicroTime(at),
        });
        before.is_none()
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

//! Which notes are too many: similar ones become one event, and an object that is told of too often is told of less.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::lru::Lru;
use super::{Record, Reporter, Severity};

/// From so many different texts on, notes that are alike otherwise are combined. client-go's figure.
const SIMILAR: usize = 10;
/// For how long after the last one notes are alike. client-go's figure.
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// So many requests about one object and severity are made at once. client-go's figure.
const BURST: f64 = 25.0;
/// After that, one in this time. client-go's figure.
const REFILL: Duration = Duration::from_secs(300);
/// How many entries each memory has at most. client-go's figure.
pub(super) const REMEMBERED: usize = 4096;

/// What a note is of, and whose: notes of the same are counted together against floods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    reporter: Arc<Reporter>,
    severity: Severity,
    regarding: [Option<String>; 5],
}

/// What notes have in common that are alike, whatever their texts say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kin {
    pub(super) subject: Subject,
    reason: String,
    action: String,
}

/// Remembers what was noted lately.
#[derive(Debug)]
pub(super) struct Correlator {
    kin: Lru<Kin, Texts>,
    buckets: Lru<Subject, Bucket>,
}

/// The different texts of notes that are alike, as hashes.
#[derive(Debug)]
struct Texts {
    hashes: Vec<u64>,
    last: Instant,
}

/// Tokens for requests.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Kin {
    pub(super) fn of(record: &Record) -> Self {
        let ObjectReference {
            api_version,
            kind,
            namespace,
            name,
            uid,
            ..
        } = record.regarding.clone();
        Self {
            subject: Subject {
                reporter: record.reporter.clone(),
                severity: record.note.severity,
                regarding: [api_version, kind, namespace, name, uid],
            },
            reason: record.note.reason.clone(),
            action: record.note.action.clone(),
        }
    }
}

impl Correlator {
    pub(super) fn new() -> Self {
        Self {
            kin: Lru::new(REMEMBERED),
            buckets: Lru::new(REMEMBERED),
        }
    }

    /// Takes note of a text. Whether there have been so many different ones that this one is to be combined with others.
    pub(super) fn combines(&mut self, kin: &Kin, text: u64, now: Instant) -> bool {
        let new = || Texts {
            hashes: Vec::new(),
            last: now,
        };
        self.kin.update(kin, new, |texts| {
            if now.saturating_duration_since(texts.last) > SIMILAR_WITHIN {
                texts.hashes.clear();
            }
            texts.last = now;
            let known = texts.hashes.contains(&text);
            let many = texts.hashes.len() + 1 >= SIMILAR;
            if !known && !many {
                texts.hashes.push(text);
            }
            !known && many
        })
    }

    /// Takes a token for a request about this object. False: there is none.
    pub(super) fn allows(&mut self, subject: &Subject, now: Instant) -> bool {
        let full = || Bucket {
            tokens: BURST,
            at: now,
        };
        self.buckets.update(subject, full, |bucket| {
            let passed = now.saturating_duration_since(bucket.at);
            bucket.tokens = (bucket.tokens + passed.div_duration_f64(REFILL)).min(BURST);
            bucket.at = now;
            let allowed = bucket.tokens >= 1.0;
            if allowed {
                bucket.tokens -= 1.0;
            }
            allowed
        })
    }
}

//! What a reflector has done and what it struggles with, as numbers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A reflector's counters and its last trouble, at one moment. Counters begin at 0 with the reflector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Lists that were read page by page.
    pub paged_lists: u64,
    /// Lists that were streamed.
    pub streamed_lists: u64,
    /// Lists after the first, because the version that a watch was to begin at had expired.
    pub relists_expired: u64,
    /// Lists after the first, because the server did not know the version that a watch was to begin at.
    pub relists_unknown: u64,
    /// Lists after the first, because of any other failure that leaves the server's state in doubt.
    pub relists_failed: u64,
    /// Watch requests that were answered.
    pub watches: u64,
    /// Additions, modifications and deletions that were received after a list.
    pub events: u64,
    /// Bookmarks that were received after a list.
    pub bookmarks: u64,
    /// Objects that could not be decoded, counted again at each of their changes.
    pub undecodable: u64,
    /// Failures of any kind. Each was followed by another try.
    pub failures: u64,
    /// What failed last, if nothing has succeeded since.
    pub trouble: Option<String>,
    /// Bytes of lists and watches that were received.
    pub bytes: u64,
    /// How long ago the server last said anything; before it has, how long ago the reflector began. What happened longer ago
    /// than this is in the store.
    pub silent_for: Duration,
    /// How long that should be at most.
    pub silence_expected: Duration,
}

/// Reads a reflector's status while it runs.
#[derive(Clone, Debug, Default)]
pub struct StatusHandle(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    status: Status,
    /// At first, when the reflector began.
    heard: Option<Instant>,
}

impl Status {
    /// Lists after the first, because a watch could not be resumed.
    pub fn relists(&self) -> u64 {
        self.relists_expired + self.relists_unknown + self.relists_failed
    }
}

impl StatusHandle {
    /// The status now.
    pub fn snapshot(&self) -> Status {
        let inner = self.0.lock();
        let mut status = inner.status.clone();
        status.silent_for = inner.heard.map(|heard| heard.elapsed()).unwrap_or_default();
        status
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().status);
    }

    /// The reflector begins, and should hear from the server at least this often.
    pub(super) fn begin(&self, silence_expected: Duration) {
        let mut inner = self.0.lock();
        inner.heard = Some(Instant::now());
        inner.status.silence_expected = silence_expected;
    }

    /// The server has said so many bytes.
    pub(super) fn heard(&self, bytes: usize) {
        let mut inner = self.0.lock();
        inner.heard = Some(Instant::now());
        inner.status.bytes += bytes as u64;
    }
}

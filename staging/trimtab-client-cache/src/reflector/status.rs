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
    /// Lists after the first, because a watch could not be resumed.
    pub relists: u64,
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
    /// How long ago the server last said anything; `None` before it has.
    pub silent_for: Option<Duration>,
}

/// Reads a reflector's status while it runs.
#[derive(Clone, Debug, Default)]
pub struct StatusHandle(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    status: Status,
    heard: Option<Instant>,
}

impl StatusHandle {
    /// The status now.
    pub fn snapshot(&self) -> Status {
        let inner = self.0.lock();
        let mut status = inner.status.clone();
        status.silent_for = inner.heard.map(|heard| heard.elapsed());
        status
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().status);
    }

    pub(super) fn heard(&self) {
        self.0.lock().heard = Some(Instant::now());
    }
}

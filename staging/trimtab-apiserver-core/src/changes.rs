//! Changes that many may wait for, woken in the order in which they wait: `watch` of tokio wakes by chance, and what happens by
//! chance does not happen again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How often something has changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    times: AtomicU64,
    told: Notify,
}

/// Waits for changes from one moment on.
#[derive(Clone, Debug)]
pub struct Changes {
    changed: Changed,
    seen: u64,
}

impl Changed {
    /// It has changed; to be told once whoever looks can see it.
    pub(crate) fn tell(&self) {
        self.0.times.fetch_add(1, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }

    /// Tells of changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            seen: self.0.times.load(Ordering::SeqCst),
            changed: self.clone(),
        }
    }
}

impl Changes {
    /// Waits until something has changed since this returned last, however often. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let told = self.changed.0.told.notified();
            let times = self.changed.0.times.load(Ordering::SeqCst);
            if times != self.seen {
                self.seen = times;
                return;
            }
            told.await;
        }
    }
}

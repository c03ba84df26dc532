//! Whether a connection has anything to do: requests that are being answered, to the ends of their bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::http::Body;
use crate::http::carrying::Carrying;

/// The requests of a connection.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    open: AtomicUsize,
    /// When the last one ended, in milliseconds after the beginning.
    last: AtomicU64,
}

/// One request; it is open until this is dropped.
#[derive(Debug)]
pub(super) struct Open(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            open: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }))
    }

    pub(super) fn open(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Waits until no request has been open for so long, and up to as long again.
    pub(super) async fn idle_for(&self, long: Duration) {
        loop {
            let now = Instant::now();
            let last = self.0.began + Duration::from_millis(self.0.last.load(Ordering::Relaxed));
            let is_open = self.0.open.load(Ordering::Relaxed) > 0;
            let due = if is_open { now + long } else { last + long };
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Open {
    /// An answer's body, with the request that it ends.
    pub(super) fn with(self, body: Body) -> Carrying<Self> {
        Carrying::new(body, self)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Inner { began, open, last } = &*self.0.0;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        last.store(millis, Ordering::Relaxed);
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_request_has_ended_a_while_ago() {
        let seconds = Duration::from_secs;
        let activity = Activity::new();
        let began = Instant::now();
        activity.idle_for(seconds(90)).await;
        assert_eq!(began.elapsed(), seconds(90));
        let watch = activity.open();
        let requests = async {
            sleep(seconds(500)).await;
            drop(activity.open());
            sleep(seconds(10)).await;
            drop(watch);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = activity.idle_for(seconds(90)) => {}
            () = requests => {}
        }
        let idle = began.elapsed() - seconds(90 + 510);
        assert!((seconds(90)..=seconds(180)).contains(&idle), "{idle:?}");
    }
}

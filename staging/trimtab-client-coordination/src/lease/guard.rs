//! How long this process may act in a lease's name, and work that is not done beyond that.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// For how long this process may act on a lease. Clones are the same.
///
/// Once it is over it stays so: a renewal whose answer comes late cannot bring it back, since somebody else may hold the
/// lease by then.
#[derive(Clone, Debug)]
pub(crate) struct Validity {
    /// When the last renewal that succeeded was sent; none when all is over.
    renewed: Arc<Mutex<Option<Instant>>>,
    lasts: Duration,
}

impl Validity {
    /// Counts from when the request was sent by which the lease was acquired.
    pub(crate) fn new(renewed: Instant, lasts: Duration) -> Self {
        Self {
            renewed: Arc::new(Mutex::new(Some(renewed))),
            lasts,
        }
    }

    /// When the last renewal was sent, if all is not over.
    pub(crate) fn renewed(&self) -> Option<Instant> {
        *self.renewed.lock()
    }

    /// When it ends unless it is renewed; none if it was ended.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.renewed().map(|renewed| renewed + self.lasts)
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// A renewal that was sent at `sent` has succeeded. False: it comes too late.
    pub(crate) fn renew(&self, sent: Instant) -> bool {
        let mut renewed = self.renewed.lock();
        let valid = renewed.is_some_and(|renewed| Instant::now() < renewed + self.lasts);
        *renewed = valid.then_some(sent);
        valid
    }

    /// Nothing may be done any more.
    pub(crate) fn end(&self) {
        *self.renewed.lock() = None;
    }

    /// Returns when the lease was not renewed for so long, or all is over.
    pub(crate) async fn overdue(&self, after: Duration) {
        while let Some(renewed) = self.renewed() {
            let at = renewed + after.min(self.lasts);
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }

    /// Does `work` as long as this is valid. None: it ended first, and the work was dropped where it was. The clock is read
    /// before each step of the work, so that a process that was stopped and goes on later does nothing in between.
    pub(crate) async fn guard<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let mut alarm = pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|cx| {
            loop {
                let now = Instant::now();
                let Some(until) = self.until().filter(|until| now < *until) else {
                    return Poll::Ready(None);
                };
                if let Poll::Ready(output) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                // The end moves with each renewal; the alarm is set again when it goes off.
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                alarm.as_mut().reset(until);
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

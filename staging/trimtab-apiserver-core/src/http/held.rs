//! Answers that go on after they have begun: what holds a seat until the client has the whole of it, and what holds one
//! only until it has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::carrying::Carrying;
use super::respond::Body;
use crate::flow::Permit;

/// A permit that is given back when the answer no longer needs it, when it is dropped, and after some time even if the
/// client takes nothing of it.
#[derive(Debug)]
struct Lease {
    permit: Arc<Mutex<Option<Permit>>>,
    timer: JoinHandle<()>,
}

impl Lease {
    fn new(permit: Permit, until: Instant) -> Self {
        let permit = Arc::new(Mutex::new(Some(permit)));
        let held = permit.clone();
        let timer = tokio::spawn(async move {
            sleep_until(until).await;
            held.lock().take();
        });
        Self { permit, timer }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.timer.abort();
        self.permit.lock().take();
    }
}

/// The same body, with a permit until its end, or `until` at most.
pub(super) fn to_the_end(body: Body, permit: Permit, until: Instant) -> Body {
    let lease = permit.holds().then(|| Lease::new(permit, until));
    Carrying::new(body, lease).boxed_unsync()
}

/// The same events, with a permit until there are none at hand for the first time, or `until` at most: then a watch has
/// begun.
pub(super) fn to_the_beginning<S: Stream + Unpin>(
    events: S,
    permit: Permit,
    until: Instant,
) -> impl Stream<Item = S::Item> {
    Beginning {
        events,
        lease: permit.holds().then(|| Lease::new(permit, until)),
    }
}

struct Beginning<S> {
    events: S,
    lease: Option<Lease>,
}

impl<S: Stream + Unpin> Stream for Beginning<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let polled = self.events.poll_next_unpin(cx);
        if matches!(polled, Poll::Pending | Poll::Ready(None)) {
            self.lease = None;
        }
        polled
    }
}

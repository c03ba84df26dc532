//! The body of an answer on its way back: it goes on until its time is over, if it has an end, or until this server stops.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use trimtab_apiserver_core::extensions::Body;

/// The same answer, whose body ends in the middle at `deadline`; or, if it has none, at its end when the server stops.
pub(super) fn until(
    response: Response<Incoming>,
    deadline: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
    stop: CancellationToken,
) -> Response<Body> {
    let end = match deadline {
        Some(deadline) => End::Late(Box::pin(sleep_until(deadline))),
        None => End::Stop(Box::pin(stop.cancelled_owned())),
    };
    response.map(|body| {
        let bounded = Bounded { body, end, place };
        bounded.boxed_unsync()
    })
}

/// What ends a body from this side.
#[derive(Debug)]
enum End {
    Late(Pin<Box<Sleep>>),
    Stop(Pin<Box<WaitForCancellationFutureOwned>>),
}

#[derive(Debug)]
struct Bounded {
    body: Incoming,
    end: End,
    /// Given back at the end.
    place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut self.end {
                End::Late(late) => late.as_mut().poll(cx).map(|()| {
                    let why = "the answer of the server behind an APIService took too long";
                    Some(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
                }),
                End::Stop(stop) => stop.as_mut().poll(cx).map(|()| None),
            },
        };
        if polled.is_ready() {
            self.place = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

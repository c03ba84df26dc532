//! A body with something that is dropped at its end, or when the client goes away before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::respond::Body;

/// The same body, which carries something.
#[derive(Debug)]
pub(crate) struct Carrying<T> {
    body: Body,
    carried: Option<T>,
}

impl<T> Carrying<T> {
    pub(crate) fn new(body: Body, carried: T) -> Self {
        Self {
            body,
            carried: Some(carried),
        }
    }
}

impl<T: Unpin> hyper::body::Body for Carrying<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.carried = None;
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

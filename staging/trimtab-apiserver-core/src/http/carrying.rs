//! A body with something that is dropped when the body is: at its end, or when the client goes away before.

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
    _carried: T,
}

impl<T> Carrying<T> {
    pub(crate) fn new(body: Body, carried: T) -> Self {
        Self {
            body,
            _carried: carried,
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
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

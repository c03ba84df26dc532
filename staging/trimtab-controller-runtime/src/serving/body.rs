//! Requests and responses as routes see them, and the bodies of responses: whole, or a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

/// A request with its whole body.
pub type Request = http::Request<Bytes>;

/// What a route answers.
pub type Response = http::Response<Body>;

/// The body of a response.
pub struct Body {
    content: Content,
    /// Kept until the body has been sent or given up.
    guard: Option<Box<dyn Send>>,
}

enum Content {
    Whole(Bytes),
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

/// A text for people or machines, UTF-8. `code` must be a status code: others become 500.
pub fn text(code: u16, text: impl Into<String>) -> Response {
    whole(code, "text/plain; charset=utf-8", Bytes::from(text.into()))
}

/// A JSON document, encoded already. `code` must be a status code: others become 500.
pub fn json(code: u16, document: impl Into<Bytes>) -> Response {
    whole(code, "application/json", document.into())
}

fn whole(code: u16, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

// === impl Body ===

impl Body {
    /// A body that is sent piece by piece, as the pieces come. An error cuts the connection off. When the listener is
    /// told to stop the stream ends, so that nobody has to wait for one that is endless.
    pub fn stream(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self {
            content: Content::Stream(pieces.boxed()),
            guard: None,
        }
    }

    /// The whole body; waits for the end of a stream.
    ///
    /// # Errors
    /// The stream's.
    pub async fn bytes(self) -> io::Result<Bytes> {
        Ok(self.collect().await?.to_bytes())
    }

    /// Ends a stream at the stop, and keeps `guard` until the body has been sent.
    pub(super) fn sent(self, stop: &CancellationToken, guard: Box<dyn Send>) -> Self {
        let content = match self.content {
            Content::Stream(pieces) => {
                Content::Stream(pieces.take_until(stop.clone().cancelled_owned()).boxed())
            }
            whole @ Content::Whole(_) => whole,
        };
        Self {
            content,
            guard: Some(guard),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(whole: T) -> Self {
        Self {
            content: Content::Whole(whole.into()),
            guard: None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(pieces) => pieces
                .poll_next_unpin(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Body");
        if let Content::Whole(bytes) = &self.content {
            shown.field("bytes", &bytes.len());
        }
        shown.field("guarded", &self.guard.is_some()).finish()
    }
}

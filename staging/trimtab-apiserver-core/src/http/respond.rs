//! Answers on the wire: encoded, compressed when large, with the headers that clients look at.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt as _};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY,
};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::negotiate::Encoding;
use super::pretty::Pretty;
use super::protobuf;
use crate::api::{self, Pieces, WatchEvent};

/// The body of every answer. An error ends it in the middle, and the client learns that it is not whole.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers shorter than this are not compressed, as with kube-apiserver.
const COMPRESS_FROM: usize = 128 * 1024;

/// Warnings that are longer together, in characters, are cut; kube-apiserver's `truncateAtTotalRunes`.
const MOST_WARNED: usize = 4 * 1024;
/// To so many characters each; kube-apiserver's `truncateItemRunes`.
const MOST_OF_LONG: usize = 256;

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub(crate) encoding: Encoding,
    pub(crate) pretty: bool,
    /// Whether the client reads gzip.
    pub(crate) gzip: bool,
}

impl Style {
    /// The same, for documents that are JSON whatever else is accepted.
    pub(crate) fn json(self) -> Self {
        Self {
            encoding: Encoding::Json,
            ..self
        }
    }
}

/// An answer of a value.
pub(crate) fn value(code: u16, value: &Value, style: Style) -> Response<Body> {
    let (content_type, bytes) = match style.encoding {
        Encoding::Json if style.pretty => (
            "application/json",
            serde_json::to_vec_pretty(value).unwrap_or_default(),
        ),
        Encoding::Json => {
            let mut bytes = serde_json::to_vec(value).unwrap_or_default();
            bytes.push(b'\n');
            ("application/json", bytes)
        }
        Encoding::Yaml => ("application/yaml", super::yaml::to_yaml(value).into_bytes()),
        Encoding::Protobuf => match protobuf::answer(value) {
            Ok(bytes) => (protobuf::MEDIA_TYPE, bytes),
            Err(refusal) => return error(&refusal, style.json()),
        },
    };
    encoded(code, content_type, bytes.into(), style.gzip)
}

/// A document in JSON that people read, whatever is accepted.
pub(crate) fn document(value: &Value) -> Response<Body> {
    let json = serde_json::to_vec_pretty(value).unwrap_or_default();
    encoded(200, "application/json", json.into(), false)
}

/// An answer of bytes that are encoded already.
pub(crate) fn encoded(code: u16, content_type: &str, bytes: Bytes, gzip: bool) -> Response<Body> {
    let compressed = (gzip && bytes.len() >= COMPRESS_FROM)
        .then(|| compress(&bytes))
        .flatten();
    let is_compressed = compressed.is_some();
    let mut response = Response::new(full(compressed.map_or(bytes, Bytes::from)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, CONTENT_TYPE, content_type);
    if is_compressed {
        set(&mut response, CONTENT_ENCODING, "gzip");
        set(&mut response, VARY, "Accept-Encoding");
    }
    response
}

/// An answer of plain text, as health checks and unknown paths have it.
pub fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    let mut response = encoded(code, "text/plain; charset=utf-8", Bytes::from(text.into()), false);
    set(
        &mut response,
        HeaderName::from_static("x-content-type-options"),
        "nosniff",
    );
    response
}

/// 429, as kube-apiserver words it.
pub(crate) fn too_many_requests(retry_after: u64) -> Response<Body> {
    let mut response = text(429, "Too many requests, please try again later.\n");
    set(&mut response, RETRY_AFTER, &retry_after.to_string());
    response
}

/// 404 for paths that lead nowhere.
pub(crate) fn page_not_found() -> Response<Body> {
    text(404, "404 page not found\n")
}

/// An answer that refuses.
pub(crate) fn error(error: &ApiError, style: Style) -> Response<Body> {
    let mut response = value(error.code, &status_value(error), style);
    if let Some(after) = error.retry_after {
        let seconds = after.as_secs_f64().ceil().max(1.0).to_string();
        set(&mut response, RETRY_AFTER, &seconds);
    }
    response
}

/// The `Status` of an error, with the members that kube-apiserver writes for its reason.
pub(crate) fn status_value(error: &ApiError) -> Value {
    let mut status = serde_json::to_value(error.to_status()).unwrap_or_default();
    status["kind"] = "Status".into();
    status["apiVersion"] = "v1".into();
    let plain = matches!(
        error.reason,
        StatusReason::Unknown
            | StatusReason::BadRequest
            | StatusReason::Unauthorized
            | StatusReason::Expired
            | StatusReason::RequestEntityTooLarge
    ) || (error.reason == StatusReason::UnsupportedMediaType
        && !error.message.starts_with("415"))
        || (error.reason == StatusReason::NotAcceptable && !error.message.starts_with("406"));
    let empty = status["details"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty);
    if plain
        && empty
        && let Some(object) = status.as_object_mut()
    {
        object.remove("details");
    }
    status
}

/// An answer of JSON that is written as it is sent. In protobuf its bytes are in memory as a whole, since their length comes
/// first; as YAML it is made a value first.
pub(crate) fn pieces(code: u16, mut json: Pieces, style: Style) -> Result<Response<Body>, ApiError> {
    match style.encoding {
        Encoding::Json => {}
        Encoding::Yaml => return Ok(value(code, &api::read(json)?, style)),
        Encoding::Protobuf => {
            return Ok(match protobuf::pieces(json) {
                Ok(bytes) => encoded(code, protobuf::MEDIA_TYPE, bytes.into(), style.gzip),
                Err(refusal) => error(&refusal, style.json()),
            });
        }
    }
    if style.pretty {
        json = Box::new(Pretty::new(json));
    }
    // What is short is sent whole, with its length.
    let mut begun: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let is_whole = loop {
        match json.next() {
            None => break true,
            Some(piece) => begun.push(piece?),
        }
        length += begun.last().map_or(0, Bytes::len);
        if length >= COMPRESS_FROM {
            break false;
        }
    };
    if is_whole {
        let bytes = match begun.len() {
            1 => begun.remove(0),
            _ => begun.concat().into(),
        };
        return Ok(encoded(code, "application/json", bytes, style.gzip));
    }
    let all = begun.into_iter().map(Ok).chain(json);
    let body = if style.gzip {
        stream(Compressed::new(all))
    } else {
        stream(all)
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, CONTENT_TYPE, "application/json");
    if style.gzip {
        set(&mut response, CONTENT_ENCODING, "gzip");
        set(&mut response, VARY, "Accept-Encoding");
    }
    Ok(response)
}

fn stream(pieces: impl Iterator<Item = Result<Bytes, ApiError>> + Send + 'static) -> Body {
    let frames = pieces.map(|piece| match piece {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(error) => {
            tracing::error!(%error, "an answer ends before its time");
            Err(io::Error::other(error))
        }
    });
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// Pieces as one gzip stream.
struct Compressed<I> {
    pieces: I,
    /// `None` at the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Compressed<I> {
    fn new(pieces: I) -> Self {
        Self {
            pieces,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl<I: Iterator<Item = Result<Bytes, ApiError>>> Iterator for Compressed<I> {
    type Item = Result<Bytes, ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        // What has been compressed may not show before more has been.
        loop {
            let encoder = self.encoder.as_mut()?;
            let out = match self.pieces.next() {
                Some(Ok(piece)) => encoder
                    .write_all(&piece)
                    .map(|()| std::mem::take(encoder.get_mut())),
                Some(Err(error)) => {
                    self.encoder = None;
                    return Some(Err(error));
                }
                None => self.encoder.take()?.finish(),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                out => return Some(out.map(Bytes::from).map_err(ApiError::internal)),
            }
        }
    }
}

/// A stream of watch events: one JSON object a line, or frames of protobuf.
pub(crate) fn watch(
    events: impl Stream<Item = WatchEvent> + Send + 'static,
    encoding: Encoding,
) -> Response<Body> {
    let in_protobuf = encoding == Encoding::Protobuf;
    let body = if in_protobuf {
        let frames = events.map(|event| Ok(Frame::data(protobuf::frame(&event.json).into())));
        StreamBody::new(frames).boxed_unsync()
    } else {
        let lines = Together::new(events.map(|event| event.json).boxed());
        StreamBody::new(lines.map(|lines| Ok(Frame::data(lines)))).boxed_unsync()
    };
    let mut response = Response::new(body);
    let content_type = if in_protobuf {
        protobuf::WATCH_MEDIA_TYPE
    } else {
        "application/json"
    };
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

/// Lines that are there at the same time, in one piece: each piece has its price on the wire. A line that is alone is
/// not copied.
struct Together<S> {
    /// `None` at the end.
    lines: Option<S>,
}

impl<S> Together<S> {
    /// A piece is about this long at most, in bytes.
    const MOST: usize = 32 * 1024;

    fn new(lines: S) -> Self {
        Self { lines: Some(lines) }
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Together<S> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(lines) = &mut self.lines else {
            return Poll::Ready(None);
        };
        let Some(first) = ready!(lines.poll_next_unpin(cx)) else {
            self.lines = None;
            return Poll::Ready(None);
        };
        let mut all = Vec::new();
        while first.len() + all.len() < Self::MOST {
            match lines.poll_next_unpin(cx) {
                Poll::Ready(Some(line)) => {
                    if all.is_empty() {
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&line);
                }
                Poll::Ready(None) => {
                    self.lines = None;
                    break;
                }
                // Who asks again has to look again: it may have been woken since, and is not woken twice.
                Poll::Pending => break,
            }
        }
        let alone = all.is_empty();
        Poll::Ready(Some(if alone { first } else { all.into() }))
    }
}

/// Adds what every answer has.
pub(crate) fn finish(response: &mut Response<Body>, warnings: &[String], audit_id: &str) {
    if !response.headers().contains_key(CACHE_CONTROL) {
        set(response, CACHE_CONTROL, "no-cache, private");
    }
    if let Ok(mut id) = HeaderValue::from_str(audit_id) {
        // No secret, but never the same again: HTTP/2 is not to remember it in place of what comes again.
        id.set_sensitive(true);
        response
            .headers_mut()
            .insert(HeaderName::from_static("audit-id"), id);
    }
    for warning in told(warnings) {
        let text = format!("299 - {}", quoted(warning));
        if let Ok(text) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, text);
        }
    }
}

/// The same answer to a request that asks for its head alone.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

/// Warnings as they are told: each once, since who is called twice says the same twice; and if they are long together,
/// the beginnings of the first of them.
fn told(warnings: &[String]) -> Vec<&str> {
    let mut known = HashSet::new();
    let mut all: Vec<&str> = warnings.iter().map(String::as_str).collect();
    all.retain(|warning| known.insert(*warning));
    let length: usize = all.iter().map(|warning| warning.chars().count()).sum();
    if length <= MOST_WARNED {
        return all;
    }
    let mut left = MOST_WARNED;
    let mut some = Vec::new();
    for warning in all {
        if left == 0 {
            break;
        }
        let end = warning
            .char_indices()
            .nth(MOST_OF_LONG)
            .map_or(warning.len(), |(at, _)| at);
        left = left.saturating_sub(warning[..end].chars().count());
        some.push(&warning[..end]);
    }
    some
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A body of these bytes.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Sets a header, unless its value cannot be one.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    // Level 1, as kube-apiserver: the network is rarely the narrow place.
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use futures::channel::mpsc;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn lines_that_are_there_come_together_and_none_is_overlooked() {
        let (lines, arriving) = mpsc::unbounded::<Bytes>();
        let say = |line: &'static str| lines.unbounded_send(line.into()).expect("is read");
        let mut together = Together::new(arriving);
        let (one, other) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let wakers = [Waker::from(one.clone()), Waker::from(other.clone())];
        let mut look = |by: usize| together.poll_next_unpin(&mut Context::from_waker(&wakers[by]));
        let some = |text: &'static str| Poll::Ready(Some(Bytes::from(text)));

        say("a");
        say("b");
        assert_eq!(look(0), some("ab"));
        assert_eq!(look(0), Poll::Pending);
        say("c");
        assert_eq!(
            one.0.load(Ordering::Relaxed),
            1,
            "who has been told to wait is woken"
        );
        assert_eq!(look(0), some("c"));
        say("d");
        assert_eq!(one.0.load(Ordering::Relaxed), 2, "also if it has not asked again");
        assert_eq!(look(0), some("d"), "it is woken once, and looks once");
        say("e");
        assert_eq!(look(1), some("e"));
        drop(lines);
        assert_eq!(other.0.load(Ordering::Relaxed), 1, "the end wakes, too");
        assert_eq!(look(1), Poll::Ready(None));
        assert_eq!(look(1), Poll::Ready(None));
    }
}

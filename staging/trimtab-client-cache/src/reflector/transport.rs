//! Requests to the server and the lines of its answers.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use form_urlencoded::Serializer;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use tokio::time::{Instant, Sleep, sleep_until};
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::failure::Failure;
use crate::selection::Selection;

const JSON: &str = "application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The most bytes of an answer that is an error.
const MOST_OF_AN_ERROR: usize = 1 << 20;
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// Where the objects are, and in which form they are wanted.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) path: String,
    pub(super) metadata_only: bool,
    pub(super) bookmarks: bool,
    pub(super) selection: Selection,
}

impl Endpoint {
    /// One page of a list; all of it if `limit` is 0.
    pub(super) fn list(&self, limit: u32, continue_token: &str) -> Result<Request<Body>, Failure> {
        let mut query = self.query();
        if limit > 0 {
            query.append_pair("limit", &limit.to_string());
        }
        if !continue_token.is_empty() {
            query.append_pair("continue", continue_token);
        }
        self.get(query, if self.metadata_only { METADATA_LIST } else { JSON })
    }

    /// A watch from `resource_version` on.
    pub(super) fn watch(&self, resource_version: &str, timeout: Duration) -> Result<Request<Body>, Failure> {
        self.get(self.watch_query(resource_version, timeout), self.object_form())
    }

    /// A watch that begins with all objects, as they are at `resource_version` or later; now, if that is empty.
    pub(super) fn streamed_list(
        &self,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<Request<Body>, Failure> {
        let mut query = self.watch_query(resource_version, timeout);
        query.append_pair("sendInitialEvents", "true");
        query.append_pair("resourceVersionMatch", "NotOlderThan");
        self.get(query, self.object_form())
    }

    fn object_form(&self) -> &'static str {
        if self.metadata_only { METADATA } else { JSON }
    }

    fn watch_query(&self, resource_version: &str, timeout: Duration) -> Serializer<'static, String> {
        let mut query = self.query();
        query.append_pair("watch", "true");
        if self.bookmarks {
            query.append_pair("allowWatchBookmarks", "true");
        }
        query.append_pair("timeoutSeconds", &timeout.as_secs().to_string());
        if !resource_version.is_empty() {
            query.append_pair("resourceVersion", resource_version);
        }
        query
    }

    fn query(&self) -> Serializer<'static, String> {
        let mut query = Serializer::new(String::new());
        if !self.selection.labels.is_empty() {
            query.append_pair("labelSelector", &self.selection.labels);
        }
        if !self.selection.fields.is_empty() {
            query.append_pair("fieldSelector", &self.selection.fields);
        }
        if !self.selection.shard.is_empty() {
            query.append_pair("shardSelector", &self.selection.shard);
        }
        query
    }

    /// Fails on a selection that gives no valid path, such as a namespace with a space in it.
    fn get(&self, mut query: Serializer<'static, String>, accept: &str) -> Result<Request<Body>, Failure> {
        Request::get(format!("{}?{}", self.path, query.finish()))
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .map_err(|error| Failure::Unaskable(format!("{:?}: {error}", self.path)))
    }
}

/// Sends a request and waits for the head of a successful answer.
pub(super) async fn send(
    client: &Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, Failure> {
    let answered = tokio::time::timeout(patience, client.send(request)).await;
    let response = answered
        .map_err(|_| Failure::Silent(patience))?
        .map_err(|error| Failure::Connection(with_sources(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = read_all(body, patience).await?;
    let mut error = match serde_json::from_slice::<Status>(&body) {
        Ok(status) => ApiError::from_status(&status),
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(1024)])
                .trim()
                .to_owned();
            ApiError::new(head.status.as_u16(), StatusReason::Unknown, text)
        }
    };
    error.code = head.status.as_u16();
    let retry_after = head
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    if let Some(seconds) = retry_after.and_then(|text| text.parse().ok()) {
        error.retry_after = Some(Duration::from_secs(seconds));
    }
    Err(Failure::Refused(error))
}

/// Reads a whole body whose parts come no further apart than `patience`. Of a longer one than anybody would send here only
/// the beginning is read.
async fn read_all(body: Body, patience: Duration) -> Result<Bytes, Failure> {
    let (mut chunks, mut all) = (Chunks::new(body), BytesMut::new());
    while all.len() < MOST_OF_AN_ERROR
        && let Some(chunk) = chunks.next(patience).await?
    {
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// The parts of a body as they arrive.
#[derive(Debug)]
pub(super) struct Chunks {
    body: Body,
    /// Goes off when one's patience ends or sooner. While parts arrive it is left alone, and set again only when it has gone
    /// off too soon: to set it for each part would cost as much as to read a small one.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Chunks {
    pub(super) fn new(body: Body) -> Self {
        Self { body, alarm: None }
    }

    /// The next part that is not empty; `None` at the end. Fails if nothing arrives for as long as `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let (body, alarm) = (&mut self.body, &mut self.alarm);
            let mut end = None;
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut body.frame()).poll(cx) {
                    return Poll::Ready(Ok(frame));
                }
                let end = *end.get_or_insert_with(|| Instant::now().checked_add(patience));
                // Without an end it is as good as for ever.
                let Some(end) = end else { return Poll::Pending };
                ready!(gone_off(alarm, end, cx));
                Poll::Ready(Err(Failure::Silent(patience)))
            });
            match frame.await? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return Err(Failure::Connection(with_sources(&error))),
                None => return Ok(None),
            }
        }
    }
}

/// Waits until `end`, with an alarm that may be set to another time.
fn gone_off(alarm: &mut Option<Pin<Box<Sleep>>>, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
    if alarm.deadline() > end {
        alarm.as_mut().reset(end);
    }
    loop {
        ready!(alarm.as_mut().poll(cx));
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        alarm.as_mut().reset(end);
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// The lines of a body as they arrive. A line without an end, left by a connection that broke, is dropped.
#[derive(Debug)]
pub(super) struct Lines {
    chunks: Chunks,
    /// What has arrived last and is not handed out yet.
    chunk: Bytes,
    /// The beginning of a line that came in earlier chunks.
    begun: BytesMut,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            chunks: Chunks::new(body),
            chunk: Bytes::new(),
            begun: BytesMut::new(),
        }
    }

    /// The next line that is not empty; `None` at the end. Fails if nothing arrives for as long as `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.chunk) {
                let line = if self.begun.is_empty() {
                    self.chunk.split_to(end)
                } else {
                    self.begun.extend_from_slice(&self.chunk[..end]);
                    self.chunk.advance(end);
                    self.begun.split().freeze()
                };
                self.chunk.advance(1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.begun.extend_from_slice(&self.chunk);
            match self.chunks.next(patience).await? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, future, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    /// What a server answers that writes a part after each of these pauses, in seconds, and then nothing.
    async fn parts_after(pauses: &'static [u64]) -> Body {
        let service = tower::service_fn(move |_: Request<Body>| {
            let parts = stream::iter(pauses).then(|pause| async move {
                tokio::time::sleep(Duration::from_secs(*pause)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part")))
            });
            let body = StreamBody::new(parts.chain(stream::pending()).boxed());
            future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        let request = Request::get("/").body(Body::empty()).unwrap();
        let client = Client::new(service, "default");
        let answer = send(&client, request, Duration::from_secs(1)).await.unwrap();
        answer.into_body()
    }

    /// However long all of it takes, and whatever the patience was before.
    #[tokio::test(start_paused = true)]
    async fn silence_lasts_from_the_last_part_on() {
        let cases: [(&[u64], &[u64], u64); 5] = [
            (&[], &[], 10),
            (&[9, 9, 9, 9], &[10, 10, 10, 10], 10),
            (&[50, 3, 3], &[60, 5, 60], 4),
            (&[3, 50, 3], &[5, 60, 5], 100),
            (&[0, 0], &[10, 10], 10),
        ];
        for (pauses, patiences, last) in cases {
            let mut chunks = Chunks::new(parts_after(pauses).await);
            for patience in patiences {
                let part = chunks.next(Duration::from_secs(*patience)).await.unwrap();
                assert_eq!(part.as_deref(), Some(&b"part"[..]), "{pauses:?}");
            }
            let (begun, last) = (Instant::now(), Duration::from_secs(last));
            let silent = chunks.next(last).await;
            assert!(
                matches!(silent, Err(Failure::Silent(patience)) if patience == last),
                "{silent:?}"
            );
            // The timer counts milliseconds.
            let waited = begun.elapsed();
            assert!(
                waited >= last && waited <= last + Duration::from_millis(2),
                "{pauses:?}: {waited:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_for_other_work_is_not_the_servers_silence() {
        let mut chunks = Chunks::new(parts_after(&[1, 4]).await);
        let patience = Duration::from_secs(5);
        chunks.next(patience).await.unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(chunks.next(patience).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_may_be_endless() {
        let mut chunks = Chunks::new(parts_after(&[1_000_000]).await);
        assert!(chunks.next(Duration::MAX).await.is_ok());
    }
}

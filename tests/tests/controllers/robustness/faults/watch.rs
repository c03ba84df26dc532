//! What becomes of a watch on its way: it lags, is cut, repeats itself, falls silent.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream;
use http::Response;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::time::sleep;
use tower::BoxError;

use super::{Faults, failure};
use crate::kit::transport::Answer;

/// A watch, as it arrives after what happens to its events on the way.
pub(super) fn disturbed(faults: Faults, answer: Answer) -> Answer {
    let (head, body) = answer.into_parts();
    let watch = Watch {
        faults,
        body: Some(body),
        read: BytesMut::new(),
        again: None,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((event.map(Frame::data), watch))
    });
    Response::from_parts(head, StreamBody::new(events).boxed_unsync())
}

/// What becomes of one event of a watch.
enum Telling {
    Told,
    /// It comes later, and what follows after it.
    Late(Duration),
    Twice,
    /// The watch ends before it.
    Cut,
    /// The connection breaks before it.
    Broken,
    /// The server has forgotten what the watch needs.
    Expired,
    /// Nothing is told any more, and nothing says so.
    Silence,
}

impl Faults {
    fn telling(&self) -> Telling {
        let state = &mut *self.0.lock();
        if !state.watches {
            return Telling::Told;
        }
        match state.rng.u16(..200) {
            0..14 => Telling::Late(Duration::from_millis(state.rng.u64(50..8000))),
            14..26 => Telling::Twice,
            26..34 => Telling::Cut,
            34..38 => Telling::Broken,
            38..42 => Telling::Expired,
            42 => Telling::Silence,
            _ => Telling::Told,
        }
    }
}

struct Watch {
    faults: Faults,
    /// Until it has ended.
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    read: BytesMut,
    again: Option<Bytes>,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if let Some(again) = self.again.take() {
            return Some(Ok(again));
        }
        let line = match self.line().await? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        match self.faults.telling() {
            Telling::Told => {}
            Telling::Late(by) => sleep(by).await,
            Telling::Twice => self.again = Some(line.clone()),
            Telling::Cut => {
                self.end();
                return None;
            }
            Telling::Broken => {
                self.end();
                return Some(Err("the connection was reset".into()));
            }
            Telling::Expired => {
                self.end();
                let error = failure(410, "Expired", "too old resource version", None);
                return Some(Ok(
                    format!("{}\n", json!({"type": "ERROR", "object": error})).into()
                ));
            }
            Telling::Silence => std::future::pending().await,
        }
        Some(Ok(line))
    }

    /// Nothing more comes, not even what has been read: several lines may come at once.
    fn end(&mut self) {
        self.body = None;
        self.read.clear();
    }

    /// The next line, with its end.
    async fn line(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Some(Ok(self.read.split_to(end + 1).freeze()));
            }
            match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => self
                    .read
                    .extend_from_slice(frame.into_data().unwrap_or_default().chunk()),
                Some(Err(error)) => return Some(Err(error)),
                None => self.body = None,
            }
        }
    }
}

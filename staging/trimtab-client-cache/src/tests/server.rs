//! A fake API server of one resource: lists in pages, streams lists, watches, and fails on demand.
//!
//! It keeps to what kube-apiserver promises: whatever it fails with, no event is left out of a watch.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::Client;
use kube::client::Body;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use trimtab_apimachinery_meta::LabelSelector;

use super::stream::{Connection, Wire};
use super::world::World;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Nothing does.
    Fine,
    /// The connection is refused.
    Refused,
    /// Not a byte is answered.
    Mute,
    /// An answer with this code, and the seconds after which to try again.
    Code(u16, Option<u64>),
    /// 410, as an answer.
    Expired,
    /// 410 as an event, after what there is to tell.
    ExpiredEvent,
    /// 504, as an answer: the version is one that the server has not reached. Told by a cause, or, as by servers before
    /// 1.18.5, in the message alone.
    TooLarge { by_cause: bool },
    /// An ERROR event with this code, after what there is to tell; in place of a streamed list.
    ErrorEvent(u16),
    /// A line that is no event, after what there is to tell.
    Garbled,
    /// The watch begins with what was told before: the changes of so many versions, without the last of them.
    Again(u64),
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// The body ends, as if it were complete, after so many bytes.
    Short(usize),
    /// Nothing comes after the head, and the stream stays open.
    Hung,
    /// The stream ends at once.
    Closed,
    /// The list is what it was so many versions ago.
    Stale(u64),
    /// The streamed list begins as it was so many versions ago, and goes on with what happened since.
    Growing(u64),
}

/// Clones are the same server.
#[derive(Clone)]
pub(super) struct Server(pub(super) Arc<Shared>);

pub(super) struct Shared {
    state: Mutex<State>,
    /// Says that something changed for those who watch.
    pub(super) changed: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) list_faults: VecDeque<Fault>,
    pub(super) watch_faults: VecDeque<Fault>,
    /// How each request was meant and its query, in the order of arrival.
    pub(super) requests: Vec<(Kind, BTreeMap<String, String>)>,
    /// The forms of answer that were asked for, in the same order.
    pub(super) accepts: Vec<String>,
    /// Open watches end when this changes: in the middle of a line.
    pub(super) cuts: u64,
    /// Watches that are open.
    pub(super) watching: usize,
    pub(super) absent: bool,
    pub(super) refuses_streamed_lists: bool,
    /// Ignores `sendInitialEvents`, as servers before 1.27.
    pub(super) ignores_streamed_lists: bool,
    /// Says that its lists are the shard that was asked for.
    pub(super) shards: bool,
    /// Deleted while a request is told that its version has expired.
    pub(super) deleted_on_expiry: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    StreamedList,
    Watch,
}

impl Server {
    pub(super) fn new() -> Self {
        let state = State {
            world: World::new(),
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::default(),
        }))
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Changes the server; who watches looks again after that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.0.state.lock());
        self.0.changed.send_modify(|()| ());
        result
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Creates or changes a config map; gives its version.
    pub(super) fn put(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let object = self.change(|state| state.world.put(name, json!({"metadata": {"labels": labels}})));
        object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }

    pub(super) fn put_all<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.put(name, &[]);
        }
    }

    pub(super) fn delete(&self, name: &str) {
        self.change(|state| state.world.delete(name));
    }

    pub(super) fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Forgets all events so far, and breaks the watches that are open.
    pub(super) fn compact(&self) {
        self.change(|state| state.world.compacted = state.world.version);
    }

    pub(super) fn fail_lists(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().list_faults.extend(faults);
    }

    pub(super) fn fail_watches(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().watch_faults.extend(faults);
    }

    /// How many requests of the kind there were.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|(other, _)| *other == kind)
            .count()
    }

    fn answer(&self, request: &Request<Body>) -> Result<Answer, io::Error> {
        let query = request.uri().query().unwrap_or_default();
        let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let state = &mut *self.state();
        let has = |name: &str| query.get(name).is_some_and(|value| value == "true");
        let kind = match (has("watch"), has("sendInitialEvents")) {
            (true, true) => Kind::StreamedList,
            (true, false) => Kind::Watch,
            _ => Kind::List,
        };
        state.requests.push((kind, query.clone()));
        let accept = request
            .headers()
            .get("accept")
            .and_then(|value| value.to_str().ok());
        state.accepts.push(accept.unwrap_or_default().to_owned());
        let faults = match kind {
            Kind::Watch => &mut state.watch_faults,
            _ => &mut state.list_faults,
        };
        let fault = faults.pop_front();
        match fault {
            Some(Fault::Refused) => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            Some(Fault::Mute) => return Ok(Answer::Never),
            Some(Fault::Code(code, after)) => return Ok(refusal(code, "InternalError", "injected", after)),
            Some(Fault::TooLarge { by_cause }) => {
                return Ok(too_large(state.world.version + 1, state.world.version, by_cause));
            }
            Some(Fault::Expired) => {
                state.deleted_on_expiry.and_then(|name| state.world.delete(name));
                return Ok(expired());
            }
            _ => {}
        }
        if state.absent || !request.uri().path().ends_with("configmaps") {
            return Ok(refusal(
                404,
                "NotFound",
                "the server could not find the requested resource",
                None,
            ));
        }
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let path = request.uri().path();
        let elsewhere = path.contains("/namespaces/") && !path.contains("/namespaces/default/");
        // All objects are in one namespace.
        let labels = if elsewhere {
            "nowhere=here"
        } else {
            text("labelSelector")
        };
        let Ok(selector) = LabelSelector::parse(labels) else {
            return Ok(refusal(400, "BadRequest", "unable to parse requirement", None));
        };
        if kind == Kind::List {
            let limit = text("limit").parse().unwrap_or(usize::MAX);
            let shard = Some(text("shardSelector")).filter(|shard| state.shards && !shard.is_empty());
            return Ok(list(
                &state.world,
                &selector,
                limit,
                text("continue"),
                shard,
                fault,
            ));
        }
        if kind == Kind::StreamedList && state.refuses_streamed_lists {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return Ok(refusal(422, "Invalid", why, None));
        }
        let wanted: u64 = text("resourceVersion").parse().unwrap_or(0);
        if wanted > state.world.version {
            return Ok(too_large(wanted, state.world.version, true));
        }
        let streamed = kind == Kind::StreamedList && !state.ignores_streamed_lists;
        if wanted < state.world.compacted && !streamed {
            return Ok(expired());
        }
        let (tx, rx) = mpsc::unbounded_channel();
        let timeout = Duration::from_secs(
            text("timeoutSeconds")
                .parse()
                .expect("a watch says how long it may last"),
        );
        let connection = Connection {
            server: self.clone(),
            cuts: state.cuts,
            selector,
            fault,
            wire: Wire::new(tx, fault),
            position: wanted,
        };
        state.watching += 1;
        tokio::spawn(connection.serve(streamed, timeout));
        Ok(Answer::Stream(rx))
    }
}

enum Answer {
    Never,
    Whole(u16, Value, Option<u64>, Option<Fault>),
    Stream(mpsc::UnboundedReceiver<io::Result<Bytes>>),
}

fn refusal(code: u16, reason: &str, message: &str, retry_after: Option<u64>) -> Answer {
    Answer::Whole(code, status(code, reason, message), retry_after, None)
}

fn expired() -> Answer {
    refusal(410, "Expired", "too old resource version", None)
}

fn too_large(wanted: u64, current: u64, by_cause: bool) -> Answer {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let mut body = status(504, "Timeout", &message);
    if by_cause {
        body["message"] = json!("Timeout: the server has not come that far");
        body["details"] = json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": message}]});
    }
    Answer::Whole(504, body, None, None)
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

/// One page. A continue token is the version of the first page and how many items were given.
fn list(
    world: &World,
    selector: &LabelSelector,
    limit: usize,
    token: &str,
    shard: Option<&str>,
    fault: Option<Fault>,
) -> Answer {
    let (mut version, mut skipped) = (world.version, 0);
    if let Some((of_first, given)) = token.split_once(':') {
        (version, skipped) = (of_first.parse().unwrap(), given.parse().unwrap());
        if version < world.compacted {
            return expired();
        }
    }
    if let Some(Fault::Stale(by)) = fault
        && token.is_empty()
    {
        version = version.saturating_sub(by).max(1);
    }
    let mut items: Vec<Value> = world
        .objects_at(version, selector)
        .into_values()
        .skip(skipped)
        .collect();
    let mut meta = json!({"resourceVersion": version.to_string()});
    if let Some(shard) = shard {
        meta["shardInfo"] = json!({"selector": shard});
    }
    if items.len() > limit {
        items.truncate(limit);
        meta["continue"] = json!(format!("{version}:{}", skipped + limit));
    }
    let body = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": items});
    Answer::Whole(200, body, None, fault)
}

impl tower::Service<Request<Body>> for Server {
    type Response = Response<StreamBody<stream::BoxStream<'static, io::Result<Frame<Bytes>>>>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.answer(&request);
        async move {
            let mut head = Response::builder();
            let chunks = match answer? {
                Answer::Never => std::future::pending().await,
                Answer::Stream(rx) => rx,
                Answer::Whole(code, body, retry_after, fault) => {
                    head = head.status(StatusCode::from_u16(code).unwrap());
                    if let Some(seconds) = retry_after {
                        head = head.header("Retry-After", seconds);
                    }
                    let (tx, rx) = mpsc::unbounded_channel();
                    let mut wire = Wire::new(tx, fault);
                    if fault == Some(Fault::Hung) {
                        tokio::spawn(wire.hang());
                    } else {
                        wire.send(body.to_string().as_bytes());
                    }
                    rx
                }
            };
            let frames = stream::unfold(chunks, |mut chunks| async {
                let chunk = chunks.recv().await?;
                Some((chunk.map(Frame::data), chunks))
            });
            Ok(head.body(StreamBody::new(frames.boxed())).unwrap())
        }
        .boxed()
    }
}

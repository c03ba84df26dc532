//! What becomes of the events of one watch on their way to the process.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::stream;
use http::Response;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use crate::journal::What;
use crate::plan::Trouble;
use crate::point::{is_aside, stable_name};
use crate::wire::{Answer, WHILE, Wire, failure};

/// Says that a list that is a watch has come to its end.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// A watch, as it arrives.
pub(crate) fn disturbed(wire: Wire, resource: &str, listing: bool, answer: Answer) -> Answer {
    let (head, body) = answer.into_parts();
    let watch = Watch {
        resource: resource.to_owned(),
        opened: Instant::now(),
        wire,
        body: Some(body),
        read: BytesMut::new(),
        listing,
        ready: VecDeque::new(),
        withheld: None,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let dead = watch.wire.dead.clone();
        let event = match dead.run_until_cancelled_owned(watch.next()).await {
            Some(event) => event?,
            None => std::future::pending().await,
        };
        Some((event.map(Frame::data), watch))
    });
    Response::from_parts(head, StreamBody::new(events).boxed_unsync())
}

struct Watch {
    wire: Wire,
    resource: String,
    opened: Instant,
    /// Until it has ended.
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    read: BytesMut,
    /// Whether it is still the list that it begins with.
    listing: bool,
    /// What is told next.
    ready: VecDeque<Bytes>,
    /// Until when nothing is told, and what is to be told then: one event for each object, in the order of the last ones. What is
    /// told is in the order of versions also then.
    withheld: Option<(Instant, Vec<Event>)>,
}

/// An event about an object.
#[derive(Clone, Debug)]
struct Event {
    verb: &'static str,
    target: String,
    object: Value,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            let line = tokio::select! {
                biased;
                line = line(&mut self.body, &mut self.read) => line,
                () = until(self.withheld.as_ref().map(|(until, _)| *until)) => {
                    self.release();
                    continue;
                }
            };
            let line = match line {
                Some(Ok(line)) => line,
                // Before the end comes what was before it.
                _ if self.withheld.is_some() => {
                    self.release();
                    continue;
                }
                Some(Err(error)) => return Some(Err(error)),
                None => return None,
            };
            match self.event(&line) {
                // A bookmark would say that nothing is withheld.
                None if self.withheld.is_some() => {}
                // A bookmark, an error, or a part of a list.
                None => return Some(Ok(line)),
                Some(event) => self.tell(event).await?,
            }
        }
    }

    /// The line as an event after the list, if it is one.
    fn event(&mut self, line: &[u8]) -> Option<Event> {
        let mut line: Value = serde_json::from_slice(line).ok()?;
        let object = line["object"].take();
        let verb = match line["type"].as_str()? {
            "ADDED" => "added",
            "MODIFIED" => "modified",
            "DELETED" => "deleted",
            "BOOKMARK" if object["metadata"]["annotations"][END_OF_LIST] == "true" => {
                self.listing = false;
                return None;
            }
            _ => return None,
        };
        if self.listing || is_aside(&self.resource) {
            return None;
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let name = stable_name(&object);
        let steps = [self.resource.as_str(), namespace, &name];
        let steps: Vec<&str> = steps.into_iter().filter(|step| !step.is_empty()).collect();
        Some(Event {
            verb,
            target: steps.join("/"),
            object,
        })
    }

    /// Tells the process of it, or does what the plan says. None: the watch is over.
    async fn tell(&mut self, event: Event) -> Option<()> {
        let wire = self.wire.clone();
        wire.may_tell(self.opened).await;
        if self.withheld.is_some() {
            self.withhold(event);
            return Some(());
        }
        let (point, trouble) = wire.shared.fault(wire.process, event.verb, &event.target);
        match trouble {
            Some(Trouble::Skip) => {
                self.end();
                let error = failure(410, "Expired", "too old resource version");
                let line = format!("{}\n", json!({"type": "ERROR", "object": error}));
                self.ready.push_back(line.into());
                return Some(());
            }
            Some(Trouble::Cut) => {
                self.end();
                return None;
            }
            Some(Trouble::Hold) => {
                wire.shared.note(wire.process, What::Unseen(point));
                self.withhold(event);
                return Some(());
            }
            Some(Trouble::Down) => {
                wire.replace(WHILE, None);
                std::future::pending::<()>().await;
            }
            Some(Trouble::Lag) => {
                wire.shared.lag();
                wire.may_tell(self.opened).await;
            }
            _ => {}
        }
        wire.shared.note(wire.process, What::Saw(point));
        self.ready.push_back(event.line());
        Some(())
    }

    /// Keeps the event for later, in place of the one of the same object.
    fn withhold(&mut self, event: Event) {
        let until = Instant::now() + WHILE;
        let (_, events) = self.withheld.get_or_insert_with(|| (until, Vec::new()));
        let Some(at) = events.iter().position(|other| other.key() == event.key()) else {
            events.push(event);
            return;
        };
        let before = events.remove(at);
        let verb = match (before.verb, event.verb) {
            ("added", "deleted") => return, // it never was
            ("added", _) => "added",
            ("deleted", _) => "modified",
            (_, verb) => verb,
        };
        events.push(Event { verb, ..event });
    }

    /// Tells what has been withheld.
    fn release(&mut self) {
        let (_, events) = self.withheld.take().unwrap_or((self.opened, Vec::new()));
        for event in events {
            let (point, _) = self
                .wire
                .shared
                .fault(self.wire.process, event.verb, &event.target);
            self.wire.shared.note(self.wire.process, What::Saw(point));
            self.ready.push_back(event.line());
        }
    }

    /// Nothing more comes, not even what has been read.
    fn end(&mut self) {
        self.body = None;
        self.read.clear();
        self.withheld = None;
    }
}

impl Event {
    fn line(&self) -> Bytes {
        let line = json!({"type": self.verb.to_uppercase(), "object": self.object});
        format!("{line}\n").into()
    }

    fn key(&self) -> (&str, &str) {
        let text = |field: &str| self.object["metadata"][field].as_str().unwrap_or_default();
        (text("namespace"), text("name"))
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next line, with its end. None: there are no more. Cancel safe.
async fn line(
    body: &mut Option<UnsyncBoxBody<Bytes, BoxError>>,
    read: &mut BytesMut,
) -> Option<Result<Bytes, BoxError>> {
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            return Some(Ok(read.split_to(end + 1).freeze()));
        }
        match body.as_mut()?.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(frame.into_data().unwrap_or_default().chunk()),
            Some(Err(error)) => return Some(Err(error)),
            None => *body = None,
        }
    }
}

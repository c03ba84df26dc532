//! The open watches of the fake API server.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use trimtab_apimachinery_meta::LabelSelector;

use super::server::{Fault, Server, status};

/// How often a watch says where it is when nothing happens.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// Writes a body in small pieces, until it is complete or a fault cuts it.
pub(super) struct Wire {
    chunks: UnboundedSender<io::Result<Bytes>>,
    fault: Option<Fault>,
    /// How many bytes may still be written.
    left: usize,
}

pub(super) struct Connection {
    pub(super) server: Server,
    pub(super) cuts: u64,
    pub(super) selector: LabelSelector,
    pub(super) fault: Option<Fault>,
    pub(super) wire: Wire,
    /// The version up to which everything has been told.
    pub(super) position: u64,
}

impl Wire {
    pub(super) fn new(chunks: UnboundedSender<io::Result<Bytes>>, fault: Option<Fault>) -> Self {
        let left = match fault {
            Some(Fault::Cut(bytes) | Fault::Short(bytes)) => bytes,
            _ => usize::MAX,
        };
        Self { chunks, fault, left }
    }

    /// Whether the other side may expect more.
    pub(super) fn send(&mut self, text: &[u8]) -> bool {
        let text = &text[..text.len().min(self.left)];
        self.left -= text.len();
        for piece in text.chunks(97) {
            if self.chunks.send(Ok(Bytes::copy_from_slice(piece))).is_err() {
                return false;
            }
        }
        if self.left == 0 && matches!(self.fault, Some(Fault::Cut(_))) {
            self.cut();
        }
        self.left > 0
    }

    /// Sends nothing and stays open, as a server that has died without a word.
    pub(super) async fn hang(self) {
        self.chunks.closed().await;
    }

    /// Unlike items of a list, objects of events say what they are.
    fn line(&mut self, kind: &str, object: &Value) -> bool {
        let mut object = object.clone();
        if object["kind"].is_null() {
            object["kind"] = json!("ConfigMap");
            object["apiVersion"] = json!("v1");
        }
        self.send(format!("{}\n", json!({"type": kind, "object": object})).as_bytes())
    }

    fn cut(&mut self) {
        let _ = self.chunks.send(Err(io::ErrorKind::ConnectionReset.into()));
    }
}

impl Connection {
    pub(super) async fn serve(mut self, streamed: bool, timeout: Duration) {
        self.run(streamed, timeout).await;
        self.server.state().watching -= 1;
    }

    async fn run(&mut self, streamed: bool, timeout: Duration) {
        let end = Instant::now() + timeout;
        let mut changed = self.server.0.changed.subscribe();
        if self.fault == Some(Fault::Hung) {
            return self.wire.chunks.closed().await;
        }
        if let Some(Fault::ErrorEvent(code)) = self.fault
            && streamed
        {
            self.wire
                .line("ERROR", &status(code, "InternalError", "injected"));
            return;
        }
        if self.fault == Some(Fault::Closed) || (streamed && !self.initial_events()) {
            return;
        }
        if !self.old_events() {
            return;
        }
        // Whoever waits for the list sees just the list.
        tokio::time::sleep(Duration::from_millis(1)).await;
        loop {
            if !self.tell() {
                return;
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = self.wire.chunks.closed() => return,
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep(BOOKMARKS) => {
                    if !self.bookmark(&json!({})) {
                        return;
                    }
                }
            }
        }
    }

    fn initial_events(&mut self) -> bool {
        let (version, events) = {
            let world = &self.server.state().world;
            let (stale, growing) = match self.fault {
                Some(Fault::Stale(by)) => (by, false),
                Some(Fault::Growing(by)) => (by, true),
                _ => (0, false),
            };
            let version = world.version.saturating_sub(stale).max(1);
            let first = world.objects_at(version, &self.selector).into_values();
            let mut events: Vec<_> = first.map(|object| ("ADDED", object)).collect();
            if growing {
                events.extend(world.since(version, &self.selector));
            }
            (if growing { world.version } else { version }, events)
        };
        for (kind, object) in &events {
            if !self.wire.line(kind, object) {
                return false;
            }
        }
        self.position = version;
        self.bookmark(&json!({"k8s.io/initial-events-end": "true"}))
    }

    /// Tells again what it should not.
    fn old_events(&mut self) -> bool {
        let Some(Fault::Again(by)) = self.fault else {
            return true;
        };
        let mut old = {
            let world = &self.server.state().world;
            let from = self.position.saturating_sub(by).max(world.compacted);
            world.since(from, &self.selector)
        };
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::parse);
        old.retain(|(_, object)| {
            version(object).is_some_and(|at| at.is_ok_and(|at: u64| at <= self.position))
        });
        old.pop();
        old.iter().all(|(kind, object)| self.wire.line(kind, object))
    }

    /// Tells what happened since; whether the watch goes on.
    fn tell(&mut self) -> bool {
        let (events, now, cut, expired) = {
            let state = self.server.state();
            (
                state.world.since(self.position, &self.selector),
                state.world.version,
                state.cuts != self.cuts,
                state.world.compacted > self.position,
            )
        };
        for (kind, object) in events {
            if cut {
                let half = json!({"type": kind, "object": object}).to_string();
                self.wire.send(&half.as_bytes()[..half.len() / 2]);
                break;
            }
            if expired {
                break;
            }
            if !self.wire.line(kind, &object) {
                return false;
            }
        }
        self.position = now;
        let code = match self.fault {
            _ if cut => {
                self.wire.cut();
                return false;
            }
            Some(Fault::Garbled) => {
                self.wire.send(b"{\"type\":\"ADDED\",\"object\":{\"kind\":\n");
                return false;
            }
            Some(Fault::ErrorEvent(code)) => code,
            Some(Fault::ExpiredEvent) => 410,
            _ if expired => 410,
            _ => return true,
        };
        let reason = if code == 410 { "Expired" } else { "InternalError" };
        self.wire.line("ERROR", &status(code, reason, "injected"));
        false
    }

    fn bookmark(&mut self, annotations: &Value) -> bool {
        let object = json!({
            "metadata": {
                "resourceVersion": self.position.to_string(),
                "creationTimestamp": null,
                "annotations": annotations,
            },
        });
        self.wire.line("BOOKMARK", &object)
    }
}

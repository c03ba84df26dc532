//! One change of one object, as those see it who watch: decoded and encoded once for all of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{Event, EventKind, KeyValue, Revision};

use crate::registry::codec::Codec;
use crate::registry::item::{Item, Renderer};

/// How a watcher sees a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Added,
    Modified,
    Deleted,
}

impl Sight {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change of an object.
#[derive(Debug)]
pub(crate) struct Change {
    /// When it happened; what is shown of it has this resource version.
    pub(crate) revision: Revision,
    /// The object's key.
    pub(crate) key: Bytes,
    /// The object after it, unless it is gone.
    pub(crate) now: Option<Arc<Item>>,
    /// The object before it, unless it was not there.
    pub(crate) before: Option<Arc<Item>>,
    /// As it is seen in each version that somebody watches: one, as a rule.
    seen: Mutex<Vec<Arc<Seen>>>,
}

/// A change as it comes from the store, before it is known whether the object before it is at hand.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) revision: Revision,
    pub(super) key: Bytes,
    pub(super) now: Option<Arc<Item>>,
    pub(super) before: Option<KeyValue>,
}

impl From<Event> for Arrived {
    fn from(event: Event) -> Self {
        Self {
            revision: event.kv.mod_revision,
            key: event.kv.key.clone(),
            now: (event.kind == EventKind::Put).then(|| Arc::new(Item::new(event.kv))),
            before: event.prev,
        }
    }
}

/// A change in one served version.
#[derive(Debug)]
pub(crate) struct Seen {
    codec: Codec,
    renderer: Renderer,
    now: OnceCell<Value>,
    before: OnceCell<Value>,
    lines: [OnceLock<Bytes>; 3],
    /// The same of the metadata alone.
    partial: [OnceLock<Bytes>; 3],
}

impl Change {
    /// A change by which an object became another.
    pub(crate) fn new(
        revision: Revision,
        key: Bytes,
        now: Option<Arc<Item>>,
        before: Option<Arc<Item>>,
    ) -> Self {
        Self {
            revision,
            key,
            now,
            before,
            seen: Mutex::default(),
        }
    }

    /// What a store's watch tells of.
    pub(crate) fn from_event(event: Event) -> Self {
        let arrived = Arrived::from(event);
        let before = arrived.before.map(|kv| Arc::new(Item::new(kv)));
        Self::new(arrived.revision, arrived.key, arrived.now, before)
    }

    /// The object that is shown of it.
    fn shown(&self, sight: Sight) -> Option<&Item> {
        let item = if sight == Sight::Deleted {
            &self.before
        } else {
            &self.now
        };
        item.as_deref()
    }

    /// How many bytes of objects it holds.
    pub(crate) fn size(&self) -> usize {
        let size = |item: &Option<Arc<Item>>| item.as_ref().map_or(0, |item| item.value.len());
        size(&self.now) + size(&self.before)
    }

    /// The change in the version that the codec is of, shared with others who watch that.
    pub(crate) fn seen_by(&self, codec: &Codec) -> Arc<Seen> {
        let mut seen = self.seen.lock();
        if let Some(seen) = seen.iter().find(|s| s.codec.is_same(codec)) {
            return seen.clone();
        }
        let new = Arc::new(Seen {
            codec: codec.clone(),
            renderer: Renderer::new(&codec.resource),
            now: OnceCell::new(),
            before: OnceCell::new(),
            lines: Default::default(),
            partial: Default::default(),
        });
        seen.push(new.clone());
        new
    }
}

impl Seen {
    /// The object after the change.
    pub(crate) async fn now(&self, change: &Change) -> Result<Option<&Value>, ApiError> {
        self.decoded(&self.now, change.now.as_ref(), change.revision)
            .await
    }

    /// The object before the change, at the revision of the change: what is shown of one that has gone.
    pub(crate) async fn before(&self, change: &Change) -> Result<Option<&Value>, ApiError> {
        self.decoded(&self.before, change.before.as_ref(), change.revision)
            .await
    }

    /// What the bytes are, found out once. Who comes second waits for who came first.
    async fn decoded<'c>(
        &'c self,
        cell: &'c OnceCell<Value>,
        item: Option<&Arc<Item>>,
        revision: Revision,
    ) -> Result<Option<&'c Value>, ApiError> {
        let Some(item) = item else {
            return Ok(None);
        };
        cell.get_or_try_init(|| self.codec.decode(item, revision))
            .await
            .map(Some)
    }

    /// The whole object as a line of a watch.
    pub(crate) async fn line(&self, change: &Change, sight: Sight) -> Result<Bytes, ApiError> {
        let cell = &self.lines[sight as usize];
        if let Some(line) = cell.get() {
            return Ok(line.clone());
        }
        let item = change
            .shown(sight)
            .filter(|item| self.codec.serves_bytes_of(item));
        let rendered = item.and_then(|item| line(&self.renderer, sight.as_str(), item, change.revision));
        let line = match rendered {
            Some(line) => line,
            None if sight == Sight::Deleted => {
                encode(sight.as_str(), self.before(change).await?.unwrap_or(&Value::Null))
            }
            None => encode(sight.as_str(), self.now(change).await?.unwrap_or(&Value::Null)),
        };
        Ok(cell.get_or_init(|| line).clone())
    }

    /// The object's metadata as a line of a watch, if its bytes are enough for that.
    pub(crate) fn partial_line(&self, change: &Change, sight: Sight) -> Option<Bytes> {
        let cell = &self.partial[sight as usize];
        if let Some(line) = cell.get() {
            return Some(line.clone());
        }
        let item = change
            .shown(sight)
            .filter(|item| self.codec.serves_bytes_of(item))?;
        let line = partial_line(sight.as_str(), item, change.revision)?;
        Some(cell.get_or_init(|| line).clone())
    }
}

/// A line of a watch with the metadata of a stored object, if its bytes are enough for that.
pub(crate) fn partial_line(kind: &str, item: &Item, version: Revision) -> Option<Bytes> {
    let mut line = begin(kind, 1024);
    Renderer::partial(item, version, &mut line).then(|| end(line))
}

/// A line of a watch with a stored object, if its bytes are enough for that.
pub(crate) fn line(renderer: &Renderer, kind: &str, item: &Item, version: Revision) -> Option<Bytes> {
    let mut line = begin(kind, item.value.len() + 128);
    renderer.object(item, version, &mut line).then(|| end(line))
}

/// A line of a watch.
pub(crate) fn encode(kind: &str, object: &Value) -> Bytes {
    let mut line = begin(kind, 128);
    // Writing a JSON value to memory cannot fail.
    let _ = serde_json::to_writer(&mut line, object);
    end(line)
}

fn begin(kind: &str, room: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(room);
    for part in ["{\"type\":\"", kind, "\",\"object\":"] {
        line.extend_from_slice(part.as_bytes());
    }
    line
}

fn end(mut line: Vec<u8>) -> Bytes {
    line.extend_from_slice(b"}\n");
    line.into()
}

//! Changes as watchers see them, decoded and encoded once for all that look at the same change.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{Event, EventKind, Revision};

use super::codec::Codec;

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

/// One change of one object, as objects of one served version.
#[derive(Debug)]
pub(crate) struct Change {
    codec: Codec,
    event: Event,
    now: OnceCell<Value>,
    before: OnceCell<Value>,
    encoded: [OnceLock<Bytes>; 3],
}

impl Change {
    fn new(codec: Codec, event: Event) -> Self {
        Self {
            codec,
            event,
            now: OnceCell::new(),
            before: OnceCell::new(),
            encoded: Default::default(),
        }
    }

    /// Whether the object was there before.
    pub(crate) fn existed(&self) -> bool {
        self.event.prev.is_some()
    }

    /// Whether the object is there now.
    pub(crate) fn exists(&self) -> bool {
        self.event.kind == EventKind::Put
    }

    /// The object after the change.
    pub(crate) async fn now(&self) -> Result<Option<&Value>, ApiError> {
        if !self.exists() {
            return Ok(None);
        }
        self.decoded(&self.now, &self.event.kv.value).await.map(Some)
    }

    /// The object before the change, at the revision of the change: what is shown of one that has gone.
    pub(crate) async fn before(&self) -> Result<Option<&Value>, ApiError> {
        match &self.event.prev {
            Some(prev) => self.decoded(&self.before, &prev.value).await.map(Some),
            None => Ok(None),
        }
    }

    /// What the bytes are, found out once. Who comes second waits for who came first.
    async fn decoded<'c>(&'c self, cell: &'c OnceCell<Value>, bytes: &[u8]) -> Result<&'c Value, ApiError> {
        cell.get_or_try_init(|| self.codec.decode(bytes, self.event.kv.mod_revision))
            .await
    }

    /// The whole object as a line of a watch.
    pub(crate) async fn line(&self, sight: Sight) -> Result<Bytes, ApiError> {
        let cell = &self.encoded[sight as usize];
        if let Some(line) = cell.get() {
            return Ok(line.clone());
        }
        let object = if sight == Sight::Deleted {
            self.before().await?
        } else {
            self.now().await?
        };
        let line = encode(sight.as_str(), object.unwrap_or(&Value::Null));
        Ok(cell.get_or_init(|| line).clone())
    }
}

/// A line of a watch.
pub(crate) fn encode(kind: &str, object: &Value) -> Bytes {
    let mut json = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    // Writing a JSON value to memory cannot fail.
    let _ = serde_json::to_writer(&mut json, object);
    json.extend_from_slice(b"}\n");
    Bytes::from(json)
}

/// The last changes that watchers have looked at.
#[derive(Debug, Default)]
pub(crate) struct RecentChanges {
    inner: Mutex<Recent>,
}

/// The address of the resource (whose entries keep it alive), the revision, the key.
type Id = (usize, Revision, Bytes);

#[derive(Debug, Default)]
struct Recent {
    by_id: HashMap<Id, Arc<Change>>,
    /// Oldest first; the same ids as in `by_id`.
    order: VecDeque<Id>,
    bytes: usize,
}

impl RecentChanges {
    /// At most this many changes are kept …
    const MOST: usize = 1024;
    /// … and about this many bytes of them.
    const MOST_BYTES: usize = 16 << 20;

    /// The change of this event, shared with others who watch the same resource.
    pub(crate) fn get(&self, codec: Codec, event: Event) -> Arc<Change> {
        let id = (
            Arc::as_ptr(&codec.resource) as usize,
            event.kv.mod_revision,
            event.kv.key.clone(),
        );
        let size = event.kv.value.len() + event.prev.as_ref().map_or(0, |kv| kv.value.len());
        let mut recent = self.inner.lock();
        if let Some(change) = recent.by_id.get(&id) {
            return change.clone();
        }
        let change = Arc::new(Change::new(codec, event));
        recent.by_id.insert(id.clone(), change.clone());
        recent.order.push_back(id);
        recent.bytes += size;
        while recent.order.len() > Self::MOST || (recent.bytes > Self::MOST_BYTES && recent.order.len() > 1) {
            let Some(oldest) = recent.order.pop_front() else {
                break;
            };
            if let Some(change) = recent.by_id.remove(&oldest) {
                let event = &change.event;
                let size = event.kv.value.len() + event.prev.as_ref().map_or(0, |kv| kv.value.len());
                recent.bytes -= size;
            }
        }
        change
    }
}

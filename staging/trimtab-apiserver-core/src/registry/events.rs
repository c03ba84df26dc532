//! Changes as watchers see them, decoded and encoded once for all that look at the same change.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Event, EventKind, Revision};

use super::storage;

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
    resource: Arc<Resource>,
    event: Event,
    now: OnceLock<Option<Value>>,
    before: OnceLock<Option<Value>>,
    encoded: [OnceLock<Bytes>; 3],
}

impl Change {
    fn new(resource: Arc<Resource>, event: Event) -> Self {
        Self {
            resource,
            event,
            now: OnceLock::new(),
            before: OnceLock::new(),
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
    pub(crate) fn now(&self) -> Result<Option<&Value>, ApiError> {
        if !self.exists() {
            return Ok(None);
        }
        self.decoded(&self.now, &self.event.kv.value)
    }

    /// The object before the change, at the revision of the change: what is shown of one that has gone.
    pub(crate) fn before(&self) -> Result<Option<&Value>, ApiError> {
        match &self.event.prev {
            Some(prev) => self.decoded(&self.before, &prev.value),
            None => Ok(None),
        }
    }

    fn decoded<'c>(
        &'c self,
        cell: &'c OnceLock<Option<Value>>,
        bytes: &[u8],
    ) -> Result<Option<&'c Value>, ApiError> {
        if cell.get().is_none() {
            let object = storage::decode(&self.resource, bytes, self.event.kv.mod_revision)?;
            // Somebody else may have been faster, with the same.
            let _ = cell.set(Some(object));
        }
        Ok(cell.get().and_then(Option::as_ref))
    }

    /// The whole object as a line of a watch.
    pub(crate) fn line(&self, sight: Sight) -> Result<Bytes, ApiError> {
        let cell = &self.encoded[sight as usize];
        if let Some(line) = cell.get() {
            return Ok(line.clone());
        }
        let object = if sight == Sight::Deleted {
            self.before()?
        } else {
            self.now()?
        };
        let line = encode(sight.as_str(), object.unwrap_or(&Value::Null));
        Ok(cell.get_or_init(|| line).clone())
    }
}

/// A line of a watch, without its newline.
pub(crate) fn encode(kind: &str, object: &Value) -> Bytes {
    let mut json = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    // Writing a JSON value to memory cannot fail.
    let _ = serde_json::to_writer(&mut json, object);
    json.push(b'}');
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
    pub(crate) fn get(&self, resource: &Arc<Resource>, event: Event) -> Arc<Change> {
        let id = (
            Arc::as_ptr(resource) as usize,
            event.kv.mod_revision,
            event.kv.key.clone(),
        );
        let size = event.kv.value.len() + event.prev.as_ref().map_or(0, |kv| kv.value.len());
        let mut recent = self.inner.lock();
        if let Some(change) = recent.by_id.get(&id) {
            return change.clone();
        }
        let change = Arc::new(Change::new(resource.clone(), event));
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

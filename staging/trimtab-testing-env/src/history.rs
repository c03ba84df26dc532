//! What the server has committed: every change in its order, and what is there at each moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use kube::Resource;
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trimtab_apiserver_storage::{self as storage, EventKind, Store, WatchRequest, WatchStream};

/// Where objects are in the store.
const ROOT: &str = "/registry/";

/// One committed change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its place in the order of all; the object's resource version afterwards.
    pub revision: u64,
    /// How long after the environment began to start it was seen.
    pub at: Duration,
    /// Where the store keeps the object, as `configmaps/default/a`.
    pub key: String,
    /// The stored object, in JSON; none: it is gone.
    pub value: Option<Bytes>,
}

/// Every change since the environment began, the first objects of every cluster among them. Clones are the same.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    began: Instant,
    written: Mutex<Written>,
    count: watch::Sender<usize>,
}

struct Written {
    changes: Vec<Change>,
    /// What comes after them. It is read when somebody asks, so that who has written sees the write.
    stream: WatchStream,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    objects: BTreeMap<String, Value>,
}

/// Writes the history down; ends with its owner.
#[derive(Debug)]
pub(crate) struct Recorder(JoinHandle<()>);

// === impl Change ===

impl Change {
    /// The object afterwards. None: it is gone, or it is none: what the server keeps beside objects.
    pub fn object(&self) -> Option<Value> {
        let mut object: Value = serde_json::from_slice(self.value.as_ref()?).ok()?;
        object.get("kind")?;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        Some(object)
    }
}

// === impl History ===

impl History {
    /// Begins with the store's next change.
    pub(crate) async fn record(store: &dyn Store) -> storage::Result<(Self, Recorder)> {
        let request = WatchRequest::prefix(ROOT).from(store.revision().await? + 1);
        let (stream, mut wakes) = (store.watch(request.clone()).await?, store.watch(request).await?);
        let history = Self(Arc::new(Inner {
            began: Instant::now(),
            written: Mutex::new(Written {
                changes: Vec::new(),
                stream,
            }),
            count: watch::Sender::new(0),
        }));
        let recorded = history.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(_)) = wakes.next().await {
                let count = recorded.written().changes.len();
                recorded.0.count.send_replace(count);
            }
        });
        Ok((history, Recorder(task)))
    }

    /// What has been committed by now.
    fn written(&self) -> MutexGuard<'_, Written> {
        let mut written = self.0.written.lock();
        while let Some(Some(Ok(batch))) = written.stream.next().now_or_never() {
            let at = self.0.began.elapsed();
            written
                .changes
                .extend(batch.events.into_iter().map(|event| Change {
                    revision: event.kv.mod_revision,
                    at,
                    key: String::from_utf8_lossy(&event.kv.key[ROOT.len()..]).into_owned(),
                    value: (event.kind == EventKind::Put).then_some(event.kv.value),
                }));
        }
        written
    }

    /// How many changes there have been.
    pub fn len(&self) -> usize {
        self.written().changes.len()
    }

    /// Whether there have been none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes but for the first `skip`.
    pub fn since(&self, skip: usize) -> Vec<Change> {
        self.written().changes.iter().skip(skip).cloned().collect()
    }

    /// Waits until there have been more than `count`. Cancel safe.
    pub async fn longer_than(&self, count: usize) {
        // It fails when nobody records any more; then there will be no more.
        if self
            .0
            .count
            .subscribe()
            .wait_for(|now| *now > count)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// What there is now.
    pub fn world(&self) -> World {
        let mut world = World::default();
        for change in self.written().changes.iter() {
            world.apply(change);
        }
        world
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl World ===

impl World {
    /// Makes one change; the object before it, if it was there.
    pub fn apply(&mut self, change: &Change) -> Option<Value> {
        match change.object() {
            Some(object) => self.objects.insert(change.key.clone(), object),
            None => self.objects.remove(&change.key),
        }
    }

    /// All objects, by where the store keeps them.
    pub fn objects(&self) -> &BTreeMap<String, Value> {
        &self.objects
    }

    /// The objects of a type, those that cannot be read as such left out.
    pub fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.values::<K>()
            .filter_map(|object| K::deserialize(object).ok())
            .collect()
    }

    /// How many objects of a type there are.
    pub fn count<K: Resource<DynamicType = ()>>(&self) -> usize {
        self.values::<K>().count()
    }

    /// The object of a type and a name in a namespace; one that has no namespace has an empty one.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let text =
            |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let mut of_type = self.values::<K>();
        let found =
            of_type.find(|object| text(object, "name") == name && text(object, "namespace") == namespace)?;
        K::deserialize(found).ok()
    }

    fn values<K: Resource<DynamicType = ()>>(&self) -> impl Iterator<Item = &Value> {
        let (kind, group) = (K::kind(&()), K::group(&()));
        self.objects.values().filter(move |object| {
            let api_version = object["apiVersion"].as_str().unwrap_or_default();
            let of_group = api_version.split_once('/').map_or("", |(group, _)| group);
            object["kind"] == *kind && of_group == group
        })
    }
}

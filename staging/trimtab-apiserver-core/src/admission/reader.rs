//! What admission may read of other objects: one, or all of a namespace, always the latest.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{KeyValue, RangeRequest, Revision, Store};

use crate::registry::codec::Codec;
use crate::registry::{ResourceTable, keys, storage};

/// Reads objects by group and resource, in whichever version is served first. A resource that is not served has no
/// objects.
#[async_trait]
pub trait Reader: fmt::Debug + Send + Sync {
    /// One object; `namespace` is empty for cluster-scoped resources.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError>;

    /// All objects of a namespace, or of the cluster when it is empty, in the order of their names.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, ApiError>;
}

/// Reads from the registry's own store.
#[derive(Debug)]
pub struct StoreReader {
    store: Arc<dyn Store>,
    resources: Arc<ResourceTable>,
    /// Objects as they were decoded last, by key, with their revisions: the same few are read for every request.
    recent: Mutex<HashMap<Bytes, (Revision, Value)>>,
}

/// How many decoded objects are kept; beyond, all are let go.
const RECENT: usize = 1024;

impl StoreReader {
    /// A reader of what `store` has of `resources`.
    pub fn new(store: Arc<dyn Store>, resources: Arc<ResourceTable>) -> Self {
        Self {
            store,
            resources,
            recent: Mutex::default(),
        }
    }

    /// How objects of a resource are stored; `None` when it is not served.
    fn codec(&self, group: &str, plural: &str) -> Option<Codec> {
        let resources = self.resources.snapshot();
        let resource = resources.any_version(group, plural)?.clone();
        Some(Codec::new(&resources, resource, None))
    }

    /// Reads objects, decoding only those that have changed since they were read last.
    async fn read(&self, codec: &Codec, range: RangeRequest) -> Result<Vec<Value>, ApiError> {
        let kvs = self.store.range(range).await.map_err(|e| storage::error(&e))?.kvs;
        if codec.resource.custom {
            // What they become depends on their definition too.
            let all = codec.decode_all(kvs).await?;
            return Ok(all.into_iter().map(|stored| stored.object).collect());
        }
        kvs.into_iter().map(|kv| self.recent(codec, kv)).collect()
    }

    fn recent(&self, codec: &Codec, kv: KeyValue) -> Result<Value, ApiError> {
        let known = |recent: &HashMap<Bytes, (Revision, Value)>| {
            let (revision, object) = recent.get(&kv.key)?;
            (*revision == kv.mod_revision).then(|| object.clone())
        };
        if let Some(object) = known(&self.recent.lock()) {
            return Ok(object);
        }
        let key = kv.key.clone();
        let stored = storage::stored(&codec.resource, kv)?;
        let mut recent = self.recent.lock();
        if recent.len() >= RECENT {
            recent.clear();
        }
        recent.insert(key, (stored.revision, stored.object.clone()));
        Ok(stored.object)
    }
}

#[async_trait]
impl Reader for StoreReader {
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let Some(codec) = self.codec(group, plural) else {
            return Ok(None);
        };
        let key = keys::object_key(&codec.resource, namespace, name);
        let found = self.read(&codec, RangeRequest::key(key)).await?;
        Ok(found.into_iter().next())
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let Some(codec) = self.codec(group, plural) else {
            return Ok(Vec::new());
        };
        let range = RangeRequest::prefix(keys::collection_prefix(&codec.resource, namespace));
        self.read(&codec, range).await
    }
}

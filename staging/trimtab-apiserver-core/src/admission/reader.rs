//! What admission may read of other objects: one, or all of a namespace, as the store has them.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::{Error, KeyValue, RangeRequest, Revision, Store};

use crate::registry::codec::Codec;
use crate::registry::followed::{Followed, Objects};
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

    /// A namespace, perhaps without its managed fields. Cheaper than [`Reader::get`] where namespaces are followed.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn namespace(&self, name: &str) -> Result<Option<Arc<Value>>, ApiError> {
        Ok(self.get("", "namespaces", "", name).await?.map(Arc::new))
    }
}

/// Reads from the registry's own store.
#[derive(Debug)]
pub struct StoreReader {
    store: Arc<dyn Store>,
    resources: Arc<ResourceTable>,
    /// Objects as they were decoded last, by key, with their revisions: the same few are read for every request.
    recent: Mutex<HashMap<Bytes, (Revision, Value)>>,
    /// The namespaces, which nearly every write asks for.
    namespaces: Option<Arc<Followed<Objects>>>,
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
            namespaces: None,
        }
    }

    /// The same reader, which answers for namespaces without reading the store, and what keeps it up to date while nobody
    /// asks: it never ends, and does nothing unless it is polled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn following(mut self) -> Result<(Self, impl Future<Output = ()> + use<>), Error> {
        let prefix = format!("{}namespaces/", keys::ROOT);
        let namespaces: Arc<Followed<Objects>> = Followed::load(self.store.clone(), vec![prefix]).await?;
        self.namespaces = Some(namespaces.clone());
        Ok((self, namespaces.follow()))
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

    async fn namespace(&self, name: &str) -> Result<Option<Arc<Value>>, ApiError> {
        let known = self
            .namespaces
            .as_ref()
            .and_then(|followed| followed.look(|all| all.get(name)));
        if known.is_some() {
            return Ok(known);
        }
        // One that another server has just made may not be known yet.
        Ok(self.get("", "namespaces", "", name).await?.map(Arc::new))
    }
}

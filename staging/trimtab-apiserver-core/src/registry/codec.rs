//! Objects in and out of the store, in the version that a request is about.
//!
//! Most kinds are stored as they are served, or can be turned into that by a function; that is `storage`. The objects of
//! a custom resource whose definition names a webhook for it are converted by a [`Converter`], which takes time and may
//! fail. Whoever reads or writes objects of any kind does it through a [`Codec`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{KeyValue, Op, RangeRequest, Revision, Store};

use super::item::Item;
use super::storage::Stored;
use super::{Resources, meta, storage};

/// Turns objects of one version of a custom resource into those of another.
#[async_trait]
pub(crate) trait Converter: fmt::Debug + Send + Sync {
    /// Fills in what an object lacks by the version that it says it is of, and drops what that does not know.
    fn complete(&self, object: &mut Value);

    /// The objects in that version, in the same order. Those that are of it already are left as they are.
    ///
    /// # Errors
    ///
    /// When one of them cannot be converted, or not by `deadline`.
    async fn convert(
        &self,
        objects: Vec<Value>,
        api_version: &str,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, ApiError>;
}

/// How objects of one served version of a resource are stored.
#[derive(Clone, Debug)]
pub(crate) struct Codec {
    pub(crate) resource: Arc<Resource>,
    converter: Option<Arc<dyn Converter>>,
    /// When what is read or written has to be there.
    deadline: Option<Instant>,
}

/// An object that has been written.
#[derive(Debug)]
pub(crate) enum Written {
    /// As it is served.
    Value(Value),
    /// As it is stored.
    Stored(Item),
}

impl Written {
    /// The object as it is served.
    ///
    /// # Errors
    ///
    /// When what is stored cannot be decoded.
    pub(crate) fn value(self, codec: &Codec) -> Result<Value, ApiError> {
        match self {
            Self::Value(object) => Ok(object),
            Self::Stored(item) => codec.decode_alone(&item, item.revision),
        }
    }
}

impl Codec {
    /// The codec of a resource; `resources` knows who converts its objects.
    pub(crate) fn new(resources: &Resources, resource: Arc<Resource>, deadline: Option<Instant>) -> Self {
        Self {
            converter: resources.converter(&resource),
            resource,
            deadline,
        }
    }

    /// Whether objects are stored in a version from which they have to be converted by others.
    fn converts(&self) -> bool {
        let stored = self.resource.strategy.stored_api_version();
        self.converter.is_some() && stored.is_some_and(|stored| stored != self.resource.api_version())
    }

    /// Whether objects may have to be converted by others; then [`Codec::decode_alone`] does not do.
    pub(crate) fn asks_others(&self) -> bool {
        self.converter.is_some()
    }

    /// Whether it is of the same version of the same resource.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resource, &other.resource)
    }

    /// Whether an object is served as it is stored, but for what the path and the store say of it.
    ///
    /// Objects of built-in kinds are, if they are stored in their own version. Those of custom resources are if their
    /// schema has nothing to fill in and to drop, which is found out once for each.
    pub(crate) fn serves_bytes_of(&self, item: &Item) -> bool {
        if self.asks_others() || self.resource.conversion.is_some() || !item.is_usual() {
            return false;
        }
        if !self.resource.custom {
            return true;
        }
        if let Some(changes) = item.changes_in(&self.resource) {
            return !changes;
        }
        // As it would be stored if it were written as it is read.
        let again = self
            .decode_alone(item, item.revision)
            .map(|object| storage::encode(&self.resource, &object));
        let changes = again.map_or(true, |again| again != item.value);
        item.note_changes_in(&self.resource, changes);
        !changes
    }

    /// Reads one object that nobody else has to convert; `revision` becomes its resource version.
    pub(crate) fn decode_alone(&self, item: &Item, revision: Revision) -> Result<Value, ApiError> {
        storage::decode(&self.resource, &item.key, &item.value, revision)
    }

    /// Reads one object; `revision` becomes its resource version.
    pub(crate) async fn decode(&self, item: &Item, revision: Revision) -> Result<Value, ApiError> {
        match &self.converter {
            None => self.decode_alone(item, revision),
            Some(converter) => self.converted(&**converter, &item.value, revision).await,
        }
    }

    async fn converted(
        &self,
        converter: &dyn Converter,
        bytes: &[u8],
        revision: Revision,
    ) -> Result<Value, ApiError> {
        let object = self.complete(converter, bytes)?;
        let api_version = self.resource.api_version();
        let converted = converter
            .convert(vec![object], &api_version, self.deadline)
            .await?;
        let mut object = converted.into_iter().next().unwrap_or_default();
        meta::set(&mut object, "resourceVersion", revision.to_string());
        Ok(object)
    }

    /// Reads objects, in their order. Those that have to be converted are converted all at once.
    pub(crate) async fn decode_all(&self, kvs: Vec<KeyValue>) -> Result<Vec<Stored>, ApiError> {
        let Some(converter) = &self.converter else {
            return kvs
                .into_iter()
                .map(|kv| storage::stored(&self.resource, kv))
                .collect();
        };
        let objects: Result<Vec<Value>, ApiError> = kvs
            .iter()
            .map(|kv| self.complete(&**converter, &kv.value))
            .collect();
        let api_version = self.resource.api_version();
        let converted = converter.convert(objects?, &api_version, self.deadline).await?;
        let stored = converted.into_iter().zip(kvs).map(|(mut object, kv)| {
            meta::set(&mut object, "resourceVersion", kv.mod_revision.to_string());
            Stored {
                object,
                bytes: kv.value,
                revision: kv.mod_revision,
            }
        });
        Ok(stored.collect())
    }

    /// An object as it is stored, complete by the version that it is stored in.
    fn complete(&self, converter: &dyn Converter, bytes: &[u8]) -> Result<Value, ApiError> {
        let mut object = storage::parse(&self.resource, bytes)?;
        converter.complete(&mut object);
        Ok(object)
    }

    /// The stored form of an object.
    pub(crate) async fn encode(&self, object: &Value) -> Result<Bytes, ApiError> {
        let stored = self.resource.strategy.stored_api_version();
        let (Some(converter), Some(stored), true) = (&self.converter, stored, self.converts()) else {
            return Ok(storage::encode(&self.resource, object));
        };
        let mut bare = object.clone();
        meta::set(&mut bare, "resourceVersion", "");
        let converted = converter.convert(vec![bare], stored, self.deadline).await?;
        let object = converted.first().unwrap_or(object);
        Ok(storage::encode(&self.resource, object))
    }

    /// What stores an object, and its stored form.
    pub(crate) async fn put(&self, key: &str, object: &Value) -> Result<(Op, Bytes), ApiError> {
        let value = self.encode(object).await?;
        let op = Op::Put {
            key: key.to_owned().into(),
            value: value.clone(),
            ttl: self.resource.strategy.ttl_seconds(object),
        };
        Ok((op, value))
    }

    /// An object that has been stored like this, as it will be read: there and back, it may have become another.
    pub(crate) async fn restored(
        &self,
        mut object: Value,
        stored: &[u8],
        revision: Option<Revision>,
    ) -> Result<Value, ApiError> {
        if let Some(converter) = self.converter.as_deref().filter(|_| self.converts()) {
            let version = meta::text(&object, "resourceVersion").to_owned();
            object = self
                .converted(converter, stored, revision.unwrap_or_default())
                .await?;
            meta::set(&mut object, "resourceVersion", version);
        }
        if let Some(revision) = revision {
            meta::set(&mut object, "resourceVersion", revision.to_string());
        }
        Ok(object)
    }

    /// An object that has been written like this, as it is answered: by what is stored, if that is enough.
    pub(crate) async fn written(
        &self,
        object: Value,
        key: String,
        stored: Bytes,
        revision: Revision,
    ) -> Result<Written, ApiError> {
        if !self.resource.custom && self.resource.conversion.is_none() {
            return Ok(Written::Stored(Item::new(KeyValue {
                key: key.into(),
                value: stored,
                // Nobody asks.
                create_revision: revision,
                mod_revision: revision,
            })));
        }
        self.restored(object, &stored, Some(revision))
            .await
            .map(Written::Value)
    }

    /// Reads one object from the store.
    pub(crate) async fn get(&self, store: &dyn Store, key: &str) -> Result<Option<Stored>, ApiError> {
        let range = store.range(RangeRequest::key(key.to_owned())).await;
        let kvs = range.map_err(|e| storage::error(&e))?.kvs;
        Ok(self.decode_all(kvs).await?.into_iter().next())
    }
}

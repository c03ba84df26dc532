//! Reading collections: filtered, in pages, at a revision.

use std::ops::Bound;

use bytes::Bytes;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Error, RangeRequest, Revision, Store, contract::prefix_end};

use super::codec::Codec;
use super::continue_token::ContinueToken;
use super::keys;
use super::list_options::{ListOptions, ReadAt};
use super::view::Filter;
use super::{Answer, Call, Registry, shape, storage};
use crate::api::ApiResponse;

/// How many objects are read at a time while looking for those that match.
const CHUNK: usize = 500;

/// One page of a collection.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The objects, in the order of their keys, with kind and resource version.
    pub(crate) objects: Vec<Value>,
    /// The revision that was read.
    pub(crate) revision: Revision,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<ContinueToken>,
    /// How many come after this page, where that is known.
    pub(crate) remaining: Option<usize>,
}

impl Call<'_> {
    /// GET of a collection.
    pub(super) async fn list(&mut self) -> Result<Answer, ApiError> {
        let options = ListOptions::read(&self.request, &self.resource, false)?;
        let page = self.page(&options).await?;
        let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
        shaper.check(true)?;
        let value = shaper.list(page);
        Ok(Answer::Whole(ApiResponse::Value {
            code: 200,
            value,
            warnings: Vec::new(),
        }))
    }

    /// Reads the page that the options ask for.
    pub(super) async fn page(&self, options: &ListOptions) -> Result<Page, ApiError> {
        let prefix = self.prefix(options);
        let filter = Filter::new(
            self.resource.clone(),
            options.labels.clone(),
            options.fields.clone(),
        );
        let revision = match &options.token {
            Some(token) => token.revision(),
            None => self.revision_to_read(options.read_at).await?,
        };
        let result = read_page(self.store(), &self.codec, &prefix, &filter, options, revision).await;
        result.map_err(|e| match (e, &options.token) {
            (ReadError::Store(Error::Compacted { .. }), Some(token)) => expired_token(token.clone()),
            (ReadError::Store(e), _) => storage::error(&e),
            (ReadError::Api(e), _) => e,
        })
    }

    /// The collection's keys; only the one object's, if the selector names it.
    pub(super) fn prefix(&self, options: &ListOptions) -> Prefix {
        let namespace = match self.namespace.as_str() {
            "" if self.resource.namespaced() => {
                options.fields.required("metadata.namespace").unwrap_or_default()
            }
            namespace => namespace,
        };
        let collection = keys::collection_prefix(&self.resource, &self.namespace);
        let names_one = !self.resource.namespaced() || !namespace.is_empty();
        let selected = match options.fields.required("metadata.name") {
            Some(name) if names_one => Some(keys::object_key(&self.resource, namespace, name)),
            _ => None,
        };
        Prefix { collection, selected }
    }

    async fn revision_to_read(&self, read_at: ReadAt) -> Result<Option<Revision>, ApiError> {
        match read_at {
            ReadAt::Latest => Ok(None),
            ReadAt::Exactly(revision) => Ok(Some(revision)),
            ReadAt::NotOlderThan(revision) => {
                let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
                if revision > current {
                    return Err(storage::too_large(revision, current));
                }
                Ok(None)
            }
        }
    }
}

impl Registry {
    /// All objects of a resource, in a namespace or (when that is empty) in all of them, that match the labels; for
    /// the server's own use.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list_objects(
        &self,
        resource: &std::sync::Arc<Resource>,
        namespace: &str,
        labels: &trimtab_apimachinery_meta::LabelSelector,
    ) -> Result<Vec<Value>, ApiError> {
        let prefix = keys::collection_prefix(resource, namespace);
        let response = self
            .store
            .range(RangeRequest::prefix(prefix))
            .await
            .map_err(|e| storage::error(&e))?;
        let codec = Codec::new(&self.resources.snapshot(), resource.clone(), None);
        let all = codec.decode_all(response.kvs).await?;
        let objects = all.into_iter().map(|stored| stored.object);
        Ok(objects
            .filter(|object| labels.matches(&object["metadata"]["labels"]))
            .collect())
    }

    /// One object, if it is there; for the server's own use.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn get_object(
        &self,
        resource: &std::sync::Arc<Resource>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let key = keys::object_key(resource, namespace, name);
        let codec = Codec::new(&self.resources.snapshot(), resource.clone(), None);
        let stored = codec.get(&*self.store, &key).await?;
        Ok(stored.map(|stored| stored.object))
    }
}

/// The keys of a collection.
pub(super) struct Prefix {
    collection: String,
    /// The key of the one object that the selector names, if it names one.
    selected: Option<String>,
}

impl Prefix {
    /// The first key, and the end.
    pub(super) fn range(&self) -> (Bytes, Bound<Bytes>) {
        match &self.selected {
            Some(key) => (
                Bytes::from(key.clone()),
                Bound::Included(Bytes::from(key.clone())),
            ),
            None => (
                Bytes::from(self.collection.clone()),
                prefix_end(self.collection.as_bytes()),
            ),
        }
    }
}

enum ReadError {
    Store(Error),
    Api(ApiError),
}

/// 410 with a token that goes on anyway, from the same place in a later state.
fn expired_token(token: ContinueToken) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.continue_token = token.inconsistent().encode();
    error
}

async fn read_page(
    store: &dyn Store,
    codec: &Codec,
    prefix: &Prefix,
    filter: &Filter,
    options: &ListOptions,
    mut revision: Option<Revision>,
) -> Result<Page, ReadError> {
    let (mut start, end) = prefix.range();
    if let Some(token) = &options.token {
        start = start.max(format!("{}{}", prefix.collection, token.start()).into());
    }
    let limit = options.limit;
    let mut objects = Vec::new();
    loop {
        let ask = if limit == 0 {
            0
        } else if filter.is_open() {
            limit
        } else {
            limit.max(CHUNK)
        };
        let request = RangeRequest {
            start: start.clone(),
            end: end.clone(),
            revision,
            limit: ask,
            count_only: false,
        };
        let response = store.range(request).await.map_err(ReadError::Store)?;
        let (count, more) = (response.count, response.more);
        // Later chunks are read as of the first.
        revision = Some(response.revision);
        let chunk = response.kvs.len();
        let keys: Vec<Bytes> = response.kvs.iter().map(|kv| kv.key.clone()).collect();
        let decoded = codec.decode_all(response.kvs).await.map_err(ReadError::Api)?;
        for (i, (key, stored)) in keys.iter().zip(decoded).enumerate() {
            let object = stored.object;
            start = after(key);
            if !filter.matches(&object) {
                continue;
            }
            objects.push(object);
            if limit > 0 && objects.len() == limit {
                let left = count - (i + 1);
                let next = (left > 0).then(|| next_token(response.revision, &start, &prefix.collection));
                let remaining = (left > 0 && filter.is_open()).then_some(left);
                return Ok(Page {
                    objects,
                    revision: response.revision,
                    next,
                    remaining,
                });
            }
        }
        if !more || chunk == 0 {
            return Ok(Page {
                objects,
                revision: response.revision,
                next: None,
                remaining: None,
            });
        }
    }
}

fn after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn next_token(revision: Revision, start: &Bytes, collection: &str) -> ContinueToken {
    let relative = start.get(collection.len()..).unwrap_or_default();
    ContinueToken::new(revision, String::from_utf8_lossy(relative))
}

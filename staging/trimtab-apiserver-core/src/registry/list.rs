//! Reading collections: filtered, in pages, at a revision.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{Error, KeyValue, RangeRequest, Revision, Store, contract::prefix_end};

use super::cache::{ListedBy, Snapshot};
use super::codec::Codec;
use super::continue_token::ContinueToken;
use super::item::Item;
use super::keys;
use super::list_options::{ListOptions, ReadAt};
use super::listing::Listing;
use super::view::Filter;
use super::{Answer, Call, Registry, meta, shape, storage};
use crate::api::ApiResponse;

/// How many objects are read at a time while looking for those that match.
const CHUNK: usize = 500;
/// How many objects are decoded before others get a turn.
const DECODE_AT_ONCE: usize = 100;

/// One page of a collection: of objects that have been decoded, with kind and resource version, or of stored ones.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    /// The objects, in the order of their keys.
    pub(crate) objects: Vec<T>,
    /// The revision that was read.
    pub(crate) revision: Revision,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<ContinueToken>,
    /// How many come after this page, where that is known.
    pub(crate) remaining: Option<usize>,
}

/// A page that has been read.
pub(super) enum Found {
    Values(Page<Value>),
    Stored(Page<Arc<Item>>),
}

impl Found {
    /// The names of the objects.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Values(page) => page.objects.iter().map(|o| meta::name(o).to_owned()).collect(),
            Self::Stored(page) => {
                let names = page.objects.iter().map(|item| keys::name(&item.key));
                names.map(|name| name.into_owned()).collect()
            }
        }
    }

    /// The page as a list.
    pub(super) fn answer(self, shaper: shape::Shaper, codec: &Codec) -> Answer {
        match self {
            Self::Values(page) => Answer::Plain(200, shaper.list(page)),
            Self::Stored(page) => Answer::Whole(ApiResponse::Encoded {
                code: 200,
                json: Box::new(Listing::new(page, shaper, codec.clone())),
                warnings: Vec::new(),
            }),
        }
    }
}

impl Call<'_> {
    /// GET of a collection.
    pub(super) async fn list(&mut self) -> Result<Answer, ApiError> {
        let options = ListOptions::read(&self.request, &self.resource, false)?;
        let found = self.find(&options).await?;
        let shaper = shape::Shaper::new(&self.resource, &self.request, self.now);
        shaper.check(true)?;
        Ok(found.answer(shaper, &self.codec))
    }

    /// Reads the page that the options ask for, decoded only where others have to convert its objects.
    pub(super) async fn find(&self, options: &ListOptions) -> Result<Found, ApiError> {
        if self.codec.asks_others() {
            return Ok(Found::Values(self.page(options).await?));
        }
        Ok(Found::Stored(self.stored_page(options).await?))
    }

    /// Reads the page that the options ask for, of objects that are not decoded but can be. Not for objects that
    /// others have to convert.
    pub(super) async fn stored_page(&self, options: &ListOptions) -> Result<Page<Arc<Item>>, ApiError> {
        let filter = self.filter(options);
        let codec = &self.codec;
        let sift = ByBytes { codec, filter };
        match self.cached(options).await? {
            Some(snapshot) => {
                let fetched = snapshot.items.len();
                let page = sift
                    .page(options, snapshot, &self.prefix(options).collection)
                    .await;
                let returned = page.as_ref().map_or(0, |page| page.objects.len());
                self.listed(ListedBy::Cache, fetched, returned);
                page
            }
            None => self.read_page(options, &sift).await,
        }
    }

    /// What the cache holds of the collection, if the list may be answered from that, and it is there.
    async fn cached(&self, options: &ListOptions) -> Result<Option<Snapshot>, ApiError> {
        let cache = self.registry.caches.of(&self.resource);
        if !cache.ready().await {
            return Ok(None);
        }
        let at = match (&options.token, options.read_at) {
            (Some(token), _) => token.revision(),
            (None, ReadAt::Exactly(revision)) => Some(revision),
            (None, _) => None,
        };
        match (at, options.version, options.read_at) {
            // It is there or it is not. Of another state any will do.
            (Some(_), ..) | (None, Some(0), _) => {}
            (None, _, ReadAt::NotOlderThan(revision)) => self.wait_for(revision).await?,
            _ => {
                let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
                if !cache.reach(self.store(), current).await {
                    return Ok(None);
                }
            }
        }
        let prefix = self.prefix(options);
        let (start, end) = prefix.range();
        let start = prefix.start_after(options.token.as_ref(), start);
        let limit = if options.is_open() { options.limit } else { 0 };
        let snapshot = cache.snapshot(&start, &end, limit, at);
        Ok(snapshot.filter(|snapshot| match options.read_at {
            // The store may be there where the cache is not.
            ReadAt::NotOlderThan(revision) => snapshot.revision >= revision,
            _ => true,
        }))
    }

    /// Waits until the state is no older than this revision.
    ///
    /// # Errors
    ///
    /// 504 when it still is after a while.
    pub(super) async fn wait_for(&self, revision: Revision) -> Result<(), ApiError> {
        let cache = self.registry.caches.of(&self.resource);
        if cache.ready().await && cache.reach(self.store(), revision).await {
            return Ok(());
        }
        let current = self.store().revision().await.map_err(|e| storage::error(&e))?;
        if revision > current {
            return Err(storage::too_large(revision, current));
        }
        Ok(())
    }

    /// Reads the page that the options ask for.
    pub(super) async fn page(&self, options: &ListOptions) -> Result<Page<Value>, ApiError> {
        let filter = self.filter(options);
        let codec = &self.codec;
        self.read_page(options, &ByValue { codec, filter }).await
    }

    /// The selectors of the options.
    pub(super) fn filter(&self, options: &ListOptions) -> Filter {
        Filter::new(
            self.resource.clone(),
            options.labels.clone(),
            options.fields.clone(),
        )
    }

    async fn read_page<S: Sift>(&self, options: &ListOptions, sift: &S) -> Result<Page<S::Object>, ApiError> {
        let prefix = self.prefix(options);
        let revision = match &options.token {
            Some(token) => token.revision(),
            None => self.revision_to_read(options.read_at).await?,
        };
        let mut fetched = 0;
        let result = read_page(self.store(), &prefix, options, revision, sift, &mut fetched).await;
        let returned = result.as_ref().map_or(0, |page| page.objects.len());
        self.listed(ListedBy::Store, fetched, returned);
        result.map_err(|e| match (e, &options.token) {
            (ReadError::Store(Error::Compacted { .. }), Some(token)) => expired_token(token.clone()),
            (ReadError::Store(e), _) => storage::error(&e),
            (ReadError::Api(e), _) => e,
        })
    }

    fn listed(&self, by: ListedBy, fetched: usize, returned: usize) {
        if let Some(cache) = self.registry.caches.existing(&self.resource) {
            cache.listed(by, fetched, returned);
        }
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
            ReadAt::NotOlderThan(revision) => self.wait_for(revision).await.map(|()| None),
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
        resource: &Arc<Resource>,
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
        resource: &Arc<Resource>,
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
    /// Where a list begins that goes on from a token.
    fn start_after(&self, token: Option<&ContinueToken>, start: Bytes) -> Bytes {
        let from = token.map(|token| Bytes::from(format!("{}{}", self.collection, token.start())));
        from.map_or(start.clone(), |from| from.max(start))
    }

    /// What a watch of it is told of: all that begins with this, or the object whose key it is.
    pub(super) fn scope(&self) -> Bytes {
        self.selected
            .clone()
            .unwrap_or_else(|| self.collection.clone())
            .into()
    }

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

/// What becomes of objects as they are read.
#[async_trait]
trait Sift: Sync {
    type Object: Send;

    /// The objects in their order; `None` for those that do not match.
    async fn sift(&self, kvs: Vec<KeyValue>) -> Result<Vec<Option<Self::Object>>, ApiError>;
}

/// Decodes them.
struct ByValue<'c> {
    codec: &'c Codec,
    filter: Filter,
}

#[async_trait]
impl Sift for ByValue<'_> {
    type Object = Value;

    async fn sift(&self, kvs: Vec<KeyValue>) -> Result<Vec<Option<Value>>, ApiError> {
        let decoded = self.codec.decode_all(kvs).await?;
        let objects = decoded.into_iter().map(|stored| stored.object);
        Ok(objects
            .map(|object| self.filter.matches(&object).then_some(object))
            .collect())
    }
}

/// Leaves them as they are stored, if nobody else has to convert them.
struct ByBytes<'c> {
    codec: &'c Codec,
    filter: Filter,
}

impl ByBytes<'_> {
    /// Whether an object matches, and whether it took long to find out.
    ///
    /// # Errors
    ///
    /// When it can never be decoded: that is an error for all, not only for those who come to it.
    fn matches(&self, item: &Item) -> Result<(bool, bool), ApiError> {
        match self.filter.matches_stored(item) {
            Some(matches) if item.is_usual() => Ok((matches, false)),
            _ => {
                let object = self.codec.decode_alone(item, item.revision)?;
                Ok((self.filter.matches(&object), true))
            }
        }
    }

    /// The page that the options ask for of what a cache holds of the collection.
    async fn page(
        &self,
        options: &ListOptions,
        snapshot: Snapshot,
        collection: &str,
    ) -> Result<Page<Arc<Item>>, ApiError> {
        let Snapshot {
            items,
            count,
            revision,
        } = snapshot;
        let mut turns = Turns::default();
        let mut page = Page {
            objects: Vec::new(),
            revision,
            next: None,
            remaining: None,
        };
        for (i, item) in items.into_iter().enumerate() {
            let (matches, took_long) = self.matches(&item)?;
            turns.take(took_long).await;
            if !matches {
                continue;
            }
            page.objects.push(item);
            if page.objects.len() == options.limit
                && let Some(last) = page.objects.last()
            {
                let (start, left) = (after(&last.key), count - (i + 1));
                (page.next, page.remaining) = rest(revision, &start, collection, left, options.is_open());
                break;
            }
        }
        Ok(page)
    }
}

/// Gives others a turn from time to time.
#[derive(Debug, Default)]
struct Turns(usize);

impl Turns {
    async fn take(&mut self, took_long: bool) {
        self.0 += usize::from(took_long);
        if self.0 >= DECODE_AT_ONCE {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Sift for ByBytes<'_> {
    type Object = Arc<Item>;

    async fn sift(&self, kvs: Vec<KeyValue>) -> Result<Vec<Option<Arc<Item>>>, ApiError> {
        let mut items = Vec::with_capacity(kvs.len());
        let mut turns = Turns::default();
        for kv in kvs {
            let item = Item::new(kv);
            let (matches, took_long) = self.matches(&item)?;
            turns.take(took_long).await;
            items.push(matches.then(|| Arc::new(item)));
        }
        Ok(items)
    }
}

async fn read_page<S: Sift>(
    store: &dyn Store,
    prefix: &Prefix,
    options: &ListOptions,
    mut revision: Option<Revision>,
    sift: &S,
    fetched: &mut usize,
) -> Result<Page<S::Object>, ReadError> {
    let (mut start, end) = prefix.range();
    start = prefix.start_after(options.token.as_ref(), start);
    let limit = options.limit;
    let is_open = options.is_open();
    let mut objects = Vec::new();
    loop {
        let ask = if limit == 0 {
            0
        } else if is_open {
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
        *fetched += chunk;
        let mut keys: Vec<Bytes> = Vec::new();
        if limit > 0 {
            keys.extend(response.kvs.iter().map(|kv| kv.key.clone()));
        }
        let sifted = sift.sift(response.kvs).await.map_err(ReadError::Api)?;
        if limit == 0 {
            objects.extend(sifted.into_iter().flatten());
        } else {
            for (i, (key, object)) in keys.iter().zip(sifted).enumerate() {
                start = after(key);
                objects.extend(object);
                if objects.len() == limit {
                    let left = count - (i + 1);
                    let (next, remaining) =
                        rest(response.revision, &start, &prefix.collection, left, is_open);
                    return Ok(Page {
                        objects,
                        revision: response.revision,
                        next,
                        remaining,
                    });
                }
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

/// What a page says of what comes after it: where the next one begins, and how many there are if that is known.
fn rest(
    revision: Revision,
    start: &Bytes,
    collection: &str,
    left: usize,
    is_open: bool,
) -> (Option<ContinueToken>, Option<usize>) {
    if left == 0 {
        return (None, None);
    }
    let relative = start.get(collection.len()..).unwrap_or_default();
    let next = ContinueToken::new(revision, String::from_utf8_lossy(relative));
    (Some(next), is_open.then_some(left))
}

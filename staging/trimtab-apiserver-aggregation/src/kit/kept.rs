//! Resources whose objects are kept in a database of somebody's own: what that has to do, and the view of it as a store.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trimtab_apiserver_storage::{
    Compare, Error, Event, EventKind, KeyValue, Op, RangeRequest, RangeResponse, Result, Revision, Store,
    Txn, TxnResponse, WatchBatch, WatchRequest, WatchStream,
};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its namespace; empty when the resource has none.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<O> {
    /// Its name.
    pub name: Name,
    /// The object, with all its metadata but the resource version.
    pub object: O,
    /// The revision that made it.
    pub created: u64,
    /// The revision that last changed it: its resource version.
    pub changed: u64,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<O> {
    /// The revision of the change; one change each.
    pub revision: u64,
    /// The object before, unless it is new.
    pub before: Option<Kept<O>>,
    /// The object after, unless it is gone.
    pub after: Option<Kept<O>>,
}

/// Changes as they happen, in their order.
pub type Changes<O> = BoxStream<'static, Result<Change<O>, StorageError>>;

/// Why a database does not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Changes so long ago are not known any more; the oldest that are begin with this revision.
    #[error("changes before revision {oldest} are not known any more")]
    Forgotten {
        /// The oldest revision whose changes are known.
        oldest: u64,
    },
    /// It cannot be asked, or does not answer.
    #[error("{0}")]
    Failed(String),
}

/// A database of objects. It counts its changes: its revision begins at 1 and is one more after each.
///
/// What a server does with it rests on this:
///
/// - **Linearizable**: what is read is never older than what was written before.
/// - **Atomic**: [`Storage::write`] compares and writes as one, whoever else writes.
/// - **Reliable**: a watch leaves out no change from its start on, and has them in their order, each once.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The objects. What a type does not know of an object is lost: it needs all of `metadata`, as `ObjectMeta` has it.
    type Object: Serialize + DeserializeOwned + Send + Sync;

    /// The revision of its last change.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    async fn revision(&self) -> Result<u64, StorageError>;

    /// One object, if it is there.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    async fn get(&self, name: &Name) -> Result<Option<Kept<Self::Object>>, StorageError>;

    /// All objects, of one namespace if one is given, and the revision of that state.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    async fn list(&self, namespace: Option<&str>) -> Result<(u64, Vec<Kept<Self::Object>>), StorageError>;

    /// Has an object be this, or be gone, if its last change is of revision `expected` (0: if it is not there); answers with the
    /// revision of the change, or `None` when it is another.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; it is as before then.
    async fn write(
        &self,
        name: &Name,
        object: Option<Self::Object>,
        expected: u64,
    ) -> Result<Option<u64>, StorageError>;

    /// All changes from revision `from` on, which may be that of the next one. It ends after an error.
    ///
    /// # Errors
    ///
    /// [`StorageError`], at once or in the stream.
    async fn watch(&self, from: u64) -> Result<Changes<Self::Object>, StorageError>;
}

/// A database as the store of one resource.
pub(super) struct View<S> {
    pub(super) storage: Arc<S>,
    /// What the keys of the resource begin with.
    pub(super) prefix: String,
    pub(super) namespaced: bool,
}

impl<S> fmt::Debug for View<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Forgotten { oldest } => Self::Compacted { oldest },
            StorageError::Failed(why) => Self::Io(why),
        }
    }
}

/// The key of an object, below what all keys of the resource begin with.
fn key(prefix: &str, namespaced: bool, name: &Name) -> Bytes {
    match namespaced {
        true => format!("{prefix}{}/{}", name.namespace, name.name).into(),
        false => format!("{prefix}{}", name.name).into(),
    }
}

fn encode<O: Serialize>(prefix: &str, namespaced: bool, kept: &Kept<O>) -> Result<KeyValue> {
    let value = serde_json::to_vec(&kept.object).map_err(|error| Error::Io(error.to_string()))?;
    Ok(KeyValue {
        key: key(prefix, namespaced, &kept.name),
        value: value.into(),
        create_revision: kept.created,
        mod_revision: kept.changed,
    })
}

fn is_within(key: &Bytes, start: &Bytes, end: &Bound<Bytes>) -> bool {
    key >= start
        && match end {
            Bound::Unbounded => true,
            Bound::Excluded(end) => key < end,
            Bound::Included(end) => key <= end,
        }
}

impl<S: Storage> View<S> {
    /// Which object a key is of.
    fn name(&self, key: &[u8]) -> Option<Name> {
        let path = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        let (namespace, name) = match self.namespaced {
            true => path.split_once('/')?,
            false => ("", path),
        };
        let whole = !name.is_empty() && !name.contains('/') && (!self.namespaced || !namespace.is_empty());
        whole.then(|| Name {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The namespace that all keys of a range are of, if they are of one.
    fn namespace<'k>(&self, start: &'k [u8], end: &Bound<Bytes>) -> Option<&'k str> {
        let path = std::str::from_utf8(start).ok()?.strip_prefix(&self.prefix)?;
        let (namespace, _) = path.split_once('/').filter(|_| self.namespaced)?;
        let all = format!("{}{namespace}/", self.prefix);
        let last = trimtab_apiserver_storage::contract::prefix_end(all.as_bytes());
        let within = match (end, last) {
            (Bound::Included(end) | Bound::Excluded(end), Bound::Excluded(last)) => end <= &last,
            _ => false,
        };
        within.then_some(namespace)
    }

    async fn read(&self, name: &Name) -> Result<Option<KeyValue>> {
        let found = self.storage.get(name).await?;
        found
            .map(|kept| encode(&self.prefix, self.namespaced, &kept))
            .transpose()
    }

    fn unfit(why: &str) -> Error {
        Error::Io(format!("a database that is the store of one resource {why}"))
    }
}

#[async_trait]
impl<S: Storage> Store for View<S> {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let RangeRequest {
            start,
            end,
            revision: asked,
            limit,
            count_only,
        } = request;
        let one = match &end {
            Bound::Included(end) if *end == start => self.name(&start),
            _ => None,
        };
        let (revision, mut kvs) = match one {
            Some(name) => {
                let revision = self.storage.revision().await?;
                (revision, self.read(&name).await?.into_iter().collect::<Vec<_>>())
            }
            None => {
                let (revision, all) = self.storage.list(self.namespace(&start, &end)).await?;
                let all = all.iter().map(|kept| encode(&self.prefix, self.namespaced, kept));
                (revision, all.collect::<Result<Vec<_>>>()?)
            }
        };
        match asked.map_or(Ordering::Equal, |asked| asked.cmp(&revision)) {
            Ordering::Equal => {}
            // Lists go on from their beginning then.
            Ordering::Less => return Err(Error::Compacted { oldest: revision }),
            Ordering::Greater => {
                return Err(Error::Future {
                    asked: asked.unwrap_or_default(),
                    current: revision,
                });
            }
        }
        kvs.retain(|kv| is_within(&kv.key, &start, &end));
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        let count = kvs.len();
        if count_only {
            kvs.clear();
        } else if limit > 0 {
            kvs.truncate(limit);
        }
        Ok(RangeResponse {
            more: !count_only && kvs.len() < count,
            kvs,
            count,
            revision,
        })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let [Compare::ModRevision(of, expected)] = txn.compare.as_slice() else {
            return Err(Self::unfit("takes one condition at a time"));
        };
        let (to, object) = match txn.success.as_slice() {
            [Op::Put { ttl: Some(_), .. }] => return Err(Self::unfit("has nothing that expires")),
            [Op::Put { key, value, .. }] => {
                let object = serde_json::from_slice(value);
                let object =
                    object.map_err(|error| Error::Io(format!("an object cannot be kept: {error}")))?;
                (key, Some(object))
            }
            [Op::Delete { key }] => (key, None),
            _ => return Err(Self::unfit("takes one change at a time")),
        };
        let name = self
            .name(to)
            .filter(|_| to == of)
            .ok_or_else(|| Self::unfit("has no such key"))?;
        // What a delete answers with is what was there.
        let before = match object {
            None => self.read(&name).await?,
            Some(_) => None,
        };
        if let Some(revision) = self.storage.write(&name, object, *expected).await? {
            return Ok(TxnResponse {
                succeeded: true,
                revision,
                kvs: vec![before],
            });
        }
        let mut kvs = Vec::new();
        for op in &txn.failure {
            let Op::Get { key } = op else {
                return Err(Self::unfit("changes nothing when its condition does not hold"));
            };
            let name = self.name(key).ok_or_else(|| Self::unfit("has no such key"))?;
            kvs.push(self.read(&name).await?);
        }
        Ok(TxnResponse {
            succeeded: false,
            revision: self.storage.revision().await?,
            kvs,
        })
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        let WatchRequest { start, end, from } = request;
        let from = match from {
            Some(from) => from,
            None => self.storage.revision().await? + 1,
        };
        let (prefix, namespaced) = (self.prefix.clone(), self.namespaced);
        let changes = self.storage.watch(from).await?;
        let batches = changes.map(move |change| {
            let Change {
                revision,
                before,
                after,
            } = change?;
            let side = |kept: Option<Kept<S::Object>>| {
                kept.map(|kept| encode(&prefix, namespaced, &kept)).transpose()
            };
            let (before, after) = (side(before)?, side(after)?);
            let kind = if after.is_some() {
                EventKind::Put
            } else {
                EventKind::Delete
            };
            let kv = after.or_else(|| {
                before.as_ref().map(|before| KeyValue {
                    key: before.key.clone(),
                    value: Bytes::new(),
                    create_revision: 0,
                    mod_revision: revision,
                })
            });
            let event = kv.filter(|kv| is_within(&kv.key, &start, &end)).map(|kv| Event {
                kind,
                kv,
                prev: before,
            });
            Ok(WatchBatch {
                events: event.into_iter().collect(),
                revision,
            })
        });
        Ok(batches.boxed())
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(self.storage.revision().await?)
    }

    async fn compact(&self, _: Revision) -> Result<()> {
        // What is forgotten is the database's own business.
        Ok(())
    }

    async fn request_progress(&self) -> Result<()> {
        // There is nothing but changes, and watches have all of them.
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

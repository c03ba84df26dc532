//! What turns have seen of the cloud, to be compared with what is there now: so that a change is found of which no event
//! told, however often it was told of and lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use trimtab::prelude::*;

use super::cloud::{Cloud, CloudError, Facts};

/// The cloud as turns have seen it; clones are the same.
#[derive(Clone)]
pub(super) struct Listing {
    cloud: Cloud,
    seen: Arc<Mutex<BTreeMap<ObjectKey, Option<Facts>>>>,
}

impl Listing {
    pub(super) fn new(cloud: Cloud) -> Self {
        Self {
            cloud,
            seen: Arc::default(),
        }
    }

    /// Looks at an object's bucket, and remembers what was seen.
    pub(super) async fn look(&self, key: &ObjectKey) -> Result<Option<Facts>, CloudError> {
        let facts = self.cloud.describe(&name(key)).await?;
        self.note(key, facts.clone());
        Ok(facts)
    }

    /// Remembers what was seen.
    pub(super) fn note(&self, key: &ObjectKey, facts: Option<Facts>) {
        self.seen.lock().insert(key.clone(), facts);
    }

    /// The object is gone, and its bucket concerns nobody.
    pub(super) fn forget(&self, key: &ObjectKey) {
        self.seen.lock().remove(key);
    }

    /// The objects whose buckets are not what was seen last.
    pub(super) async fn changed(self) -> Result<Vec<ObjectKey>, CloudError> {
        let now = self.cloud.list().await?;
        let seen = self.seen.lock();
        let changed = seen
            .iter()
            .filter(|(key, facts)| now.get(&name(key)) != facts.as_ref());
        Ok(changed.map(|(key, _)| key.clone()).collect())
    }
}

/// The name of an object's bucket: all clusters of the cloud's customers share one set of names.
pub(super) fn name(key: &ObjectKey) -> String {
    format!("{}.{}", key.namespace, key.name)
}

/// The object of a bucket of this name. A namespace has no dots in it.
pub(super) fn key(name: &str) -> Option<ObjectKey> {
    let (namespace, name) = name.split_once('.')?;
    Some(ObjectKey::namespaced(namespace, name))
}

//! Indexes: names by which objects of a store are found without looking at all of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kube::Resource;
use trimtab_apimachinery_meta::ObjectKey;

/// The built-in index by namespace.
pub const NAMESPACE: &str = "namespace";
/// The built-in index by the UIDs of an object's owners.
pub const OWNER_UID: &str = "owner-uid";

type Values<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// A named function from an object to the values that it is found by: none, one or several.
///
/// The function must be pure and must not panic. It runs while the store is locked, so it must be quick.
pub struct Index<K> {
    name: String,
    values: Values<K>,
}

/// Why an index cannot be added or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Another index has this name. An index cannot be replaced: readers may rely on it.
    #[error("index {0:?} exists already")]
    Exists(String),
    /// No index has this name.
    #[error("index {0:?} does not exist")]
    Unknown(String),
}

impl<K> Index<K> {
    /// Names an index function.
    pub fn new(name: impl Into<String>, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            values: Arc::new(values),
        }
    }

    /// The index's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<K: Resource> Index<K> {
    pub(crate) fn by_owner() -> Self {
        Self::new(OWNER_UID, |object: &K| {
            let owners = object.meta().owner_references.iter().flatten();
            owners.map(|owner| owner.uid.clone()).collect()
        })
    }
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            values: self.values.clone(),
        }
    }
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An index with what it holds: by value, the keys of the objects that have it. No value's set is empty.
pub(crate) struct Filled<K> {
    index: Index<K>,
    keys: HashMap<String, BTreeSet<Arc<ObjectKey>>>,
}

impl<K> Filled<K> {
    pub(crate) fn new(index: Index<K>) -> Self {
        Self {
            index,
            keys: HashMap::new(),
        }
    }

    pub(crate) fn keys(&self, value: &str) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.keys.get(value).into_iter().flatten()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &String> {
        self.keys.keys()
    }

    /// Takes note that the object under `key` was `old` and is `new`.
    pub(crate) fn change(&mut self, key: &Arc<ObjectKey>, old: Option<&K>, new: Option<&K>) {
        let before = old.map(&*self.index.values).unwrap_or_default();
        let after = new.map(&*self.index.values).unwrap_or_default();
        if before == after {
            return;
        }
        for value in before {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
        for value in after {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }
}

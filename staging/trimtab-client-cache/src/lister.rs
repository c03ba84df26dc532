//! Listers: reading a store by namespace and label selector.

use trimtab_apimachinery_meta::{LabelSelector, ObjectKey};

use crate::cached::Cached;
use crate::store::Store;

/// Reads a store, all of it or one namespace.
#[derive(Debug)]
pub struct Lister<K> {
    store: Store<K>,
    namespace: Option<String>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            namespace: self.namespace.clone(),
        }
    }
}

impl<K> Lister<K> {
    /// Reads all of the store.
    pub fn new(store: Store<K>) -> Self {
        Self {
            store,
            namespace: None,
        }
    }

    /// Reads one namespace of the store.
    #[must_use]
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Self {
        Self {
            store: self.store.clone(),
            namespace: Some(namespace.into()),
        }
    }

    /// The object of this name in the lister's namespace, or the cluster-scoped one if the lister reads all.
    pub fn get(&self, name: &str) -> Option<Cached<K>> {
        self.store.get(&ObjectKey {
            namespace: self.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        })
    }

    /// The objects that match, ordered by namespace and name.
    pub fn list(&self, selector: &LabelSelector) -> Vec<Cached<K>> {
        let mut found = match &self.namespace {
            Some(namespace) => self.store.list_in(namespace),
            None => self.store.list(),
        };
        found.retain(|object| matches(selector, object));
        found
    }
}

/// Whether the object's labels match. Nothing is decoded for it.
pub fn matches<K>(selector: &LabelSelector, object: &Cached<K>) -> bool {
    selector.matches_with(|name| object.label(name))
}

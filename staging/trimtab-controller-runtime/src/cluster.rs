//! Clusters: a client, and the informers that watch through it.

use std::fmt;
use std::sync::Arc;

use kube::Client;
use trimtab_client_cache::informer::{InformerFactory, Selection};

/// One of a manager's clusters. Clones are the same one. Made by [`Manager::cluster`](crate::Manager::cluster); a manager
/// has one from the beginning, its own.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    name: String,
    factory: InformerFactory,
    selection: Selection,
}

impl Cluster {
    pub(crate) fn new(name: impl Into<String>, factory: InformerFactory, selection: Selection) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            factory,
            selection,
        }))
    }

    /// Its name; empty for the manager's own.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.0.factory.client()
    }

    /// The informers on this cluster, which controllers share with whoever asks.
    pub fn informers(&self) -> &InformerFactory {
        &self.0.factory
    }

    /// What is watched of kinds that have namespaces, unless a watch says otherwise.
    pub(crate) fn selection(&self) -> &Selection {
        &self.0.selection
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.0.name).finish()
    }
}

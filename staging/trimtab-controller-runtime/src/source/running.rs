//! The sources of one controller: described before it runs, added and removed while it does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use trimtab_client_workqueue::Add;

use super::{Inlet, Source};
use crate::cluster::Cluster;
use crate::share::Share;
use crate::subject::RequestKey;
use crate::turn::Stores;

/// A running source. Dropping it ends it.
pub(crate) trait Running: Send + Sync {
    /// What it is, for people.
    fn what(&self) -> String;
    /// Whether what there was when it began is in the queue.
    fn is_synced(&self) -> bool;
    /// Waits for that.
    fn synced(&self) -> BoxFuture<'_, ()>;
    /// What it struggles with.
    fn trouble(&self) -> Option<String>;
    /// Triggers all keys again that it knows of and that are in `share`.
    fn again(&self, add: &Add, share: &Share);
}

/// One source of one controller, to be removed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

/// Where sources are started.
pub(crate) struct Place<Q> {
    pub(crate) inlet: Inlet<Q>,
    pub(crate) cluster: Cluster,
    pub(crate) stores: Arc<Stores>,
}

/// All sources of one controller. Clones are the same.
pub(crate) struct Sources<Q>(Arc<Mutex<Inner<Q>>>);

struct Inner<Q> {
    last: u64,
    waiting: BTreeMap<SourceId, Source<Q>>,
    running: BTreeMap<SourceId, Arc<dyn Running>>,
    /// Once they are started.
    place: Option<Place<Q>>,
}

impl<Q: RequestKey> Sources<Q> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            last: 0,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            place: None,
        })))
    }

    /// Adds a source, and starts it if the others are.
    pub(crate) fn add(&self, source: Source<Q>) -> SourceId {
        let inner = &mut *self.0.lock();
        inner.last += 1;
        let id = SourceId(inner.last);
        match &inner.place {
            Some(place) => {
                let running = (source.start)(place.inlet.clone(), &place.cluster, &place.stores);
                inner.running.insert(id, running.into());
            }
            None => {
                inner.waiting.insert(id, source);
            }
        }
        id
    }

    /// Removes a source; what it has triggered stays in the queue.
    pub(crate) fn remove(&self, id: SourceId) -> bool {
        let (waiting, running) = {
            let mut inner = self.0.lock();
            (inner.waiting.remove(&id), inner.running.remove(&id))
        };
        // What ends with it may take its time, or come back here.
        waiting.is_some() || running.is_some()
    }

    pub(crate) fn start(&self, place: Place<Q>) {
        let inner = &mut *self.0.lock();
        for (id, source) in std::mem::take(&mut inner.waiting) {
            let running = (source.start)(place.inlet.clone(), &place.cluster, &place.stores);
            inner.running.insert(id, running.into());
        }
        inner.place = Some(place);
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        let mut inner = self.0.lock();
        inner.place = None;
        let running = std::mem::take(&mut inner.running);
        drop(inner);
        drop(running);
    }

    pub(crate) fn running(&self) -> Vec<Arc<dyn Running>> {
        self.0.lock().running.values().cloned().collect()
    }
}

impl<Q> Clone for Sources<Q> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q> fmt::Debug for Sources<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("running", &self.0.lock().running.len())
            .finish_non_exhaustive()
    }
}

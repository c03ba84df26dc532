//! The factory: the same running informer for all who watch the same objects in the same form.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use kube::Client;
use parking_lot::Mutex;

use crate::Object;
use crate::informer::{Core, InformerStatus, SharedInformer};
use crate::reflector::Config;
use crate::selection::Selection;

/// Hands out informers. Those who ask for the same type and selection get the same one while it runs. Clones share.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    config: Config,
    running: Arc<Mutex<HashMap<Identity, Weak<dyn Running>>>>,
}

/// An informer of any kind.
trait Running: Any + Send + Sync {
    fn status(&self) -> InformerStatus;
}

impl<K: Object> Running for Core<K> {
    fn status(&self) -> InformerStatus {
        Core::status(self)
    }
}

/// What makes two informers the same.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    form: TypeId,
    path: String,
    selection: Selection,
}

impl InformerFactory {
    /// A factory of informers that watch through this client.
    pub fn new(client: Client) -> Self {
        Self::with_config(client, Config::default())
    }

    /// A factory whose informers watch by these rules.
    pub fn with_config(client: Client, config: Config) -> Self {
        Self {
            client,
            config,
            running: Arc::default(),
        }
    }

    /// The client that the informers watch through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer on these objects, started if nobody has one. It runs until its last user drops it. A kind that the
    /// server does not have yet is waited for.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn informer<K: Object>(&self, selection: Selection) -> SharedInformer<K>
    where
        K::DynamicType: Default,
    {
        self.informer_of(&K::DynamicType::default(), selection)
    }

    /// [`InformerFactory::informer`] for a kind known only at run time.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn informer_of<K: Object>(&self, kind: &K::DynamicType, selection: Selection) -> SharedInformer<K> {
        let identity = Identity {
            form: TypeId::of::<K>(),
            path: K::url_path(kind, None),
            selection: selection.clone(),
        };
        let mut running = self.running.lock();
        let known: Option<Arc<dyn Any + Send + Sync>> = running
            .get(&identity)
            .and_then(Weak::upgrade)
            .map(|core| core as _);
        if let Some(core) = known.and_then(|core| core.downcast::<Core<K>>().ok()) {
            return SharedInformer::from_core(core);
        }
        running.retain(|_, core| core.strong_count() > 0);
        let informer = SharedInformer::start(self.client.clone(), kind, selection, &self.config);
        let core: Arc<dyn Running> = informer.core().clone();
        running.insert(identity, Arc::downgrade(&core));
        informer
    }

    /// What the running informers are doing, ordered by kind.
    pub fn status(&self) -> Vec<InformerStatus> {
        let running: Vec<_> = self.running.lock().values().filter_map(Weak::upgrade).collect();
        let mut statuses: Vec<_> = running.iter().map(|core| core.status()).collect();
        statuses.sort_by(|a, b| a.kind.cmp(&b.kind));
        statuses
    }
}

impl fmt::Debug for InformerFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformerFactory")
            .field("informers", &self.running.lock().len())
            .finish_non_exhaustive()
    }
}

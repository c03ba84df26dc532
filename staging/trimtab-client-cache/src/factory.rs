//! The factory: the same running informer for all who watch the same objects in the same form.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use kube::Client;
use parking_lot::Mutex;

use crate::Object;
use crate::informer::{Core, SharedInformer};
use crate::reflector::{Config, Reflector};

/// Which objects of a kind to watch. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only objects whose labels match this selector; empty for all.
    pub labels: String,
    /// Only objects whose fields match this selector; empty for all.
    pub fields: String,
}

/// Hands out informers. Those who ask for the same type and selection get the same one while it runs. Clones share.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    config: Config,
    running: Arc<Mutex<HashMap<Identity, Weak<dyn Any + Send + Sync>>>>,
}

/// What makes two informers the same.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    form: TypeId,
    path: String,
    selection: Selection,
}

impl Selection {
    /// All objects of the kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// The objects of one namespace.
    pub fn in_namespace(namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::default()
        }
    }

    /// Of these, the objects whose labels match.
    #[must_use]
    pub fn labels(self, selector: impl Into<String>) -> Self {
        Self {
            labels: selector.into(),
            ..self
        }
    }

    /// Of these, the objects whose fields match.
    #[must_use]
    pub fn fields(self, selector: impl Into<String>) -> Self {
        Self {
            fields: selector.into(),
            ..self
        }
    }
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
        let known = running.get(&identity).and_then(Weak::upgrade);
        if let Some(core) = known.and_then(|core| core.downcast::<Core<K>>().ok()) {
            return SharedInformer::from_core(core);
        }
        running.retain(|_, core| core.strong_count() > 0);
        let reflector = Reflector::new(self.client.clone(), kind, selection, self.config.clone());
        let informer = SharedInformer::start(reflector);
        let core: Arc<dyn Any + Send + Sync> = informer.core().clone();
        running.insert(identity, Arc::downgrade(&core));
        informer
    }
}

impl fmt::Debug for InformerFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformerFactory")
            .field("informers", &self.running.lock().len())
            .finish_non_exhaustive()
    }
}

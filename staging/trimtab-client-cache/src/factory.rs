//! The factory: the same running informer for all who watch the same objects in the same form.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use kube::Client;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use parking_lot::Mutex;

use crate::Object;
use crate::informer::{Core, InformerStatus, MetadataInformer, SharedInformer};
use crate::reflector::Config;
use crate::selection::Selection;

/// Hands out informers. Those who ask for the same type and selection get the same one while it runs. Clones share.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    config: Config,
    running: Arc<Mutex<HashMap<Identity, Weak<Core>>>>,
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

    /// How what this one starts lists and watches.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Shares all that runs; what is started by this one watches through that client, which must be of the same server.
    #[must_use]
    pub fn through(self, client: Client) -> Self {
        Self { client, ..self }
    }

    /// Shares all that runs; what is started by this one watches by these rules.
    #[must_use]
    pub fn watching(self, config: Config) -> Self {
        Self { config, ..self }
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
        self.informer_in(&mut self.running.lock(), kind, selection)
    }

    /// The informer that has the metadata of these objects: one that runs, of whatever type, if it has all that the
    /// selection asks for; else one for which the server is asked for metadata alone. For what is done with objects of many
    /// kinds, so that it costs no second watch of those that are watched anyway. Who comes first has no say: an informer
    /// that is started later, of a type, has its own watch.
    ///
    /// ```no_run
    /// # use kube::core::ApiResource;
    /// # use trimtab_client_cache::informer::{Change, Handling, InformerFactory, Selection};
    /// # fn owners(informers: &InformerFactory, resource: &ApiResource) {
    /// let objects = informers.metadata_of(resource, Selection::all().without_bookkeeping());
    /// let registration = objects.add_handler_with(Handling::named("owners"), |change, object| {
    ///     if let Change::Deleted { .. } = change {
    ///         println!("{} is gone, of {:?}", object.key(), object.owner_uids());
    ///     }
    /// });
    /// # drop(registration);
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn metadata_of(&self, kind: &ApiResource, selection: Selection) -> MetadataInformer {
        type Metadata = PartialObjectMeta<DynamicObject>;
        let path = <Metadata as kube::Resource>::url_path(kind, None);
        let mut running = self.running.lock();
        // Alive ones only, so that they do not end before they are joined; the first in order, so that it is not chance.
        let fitting = running
            .iter()
            .filter(|(identity, _)| identity.path == path && identity.selection.has_metadata_of(&selection))
            .filter_map(|(identity, core)| Some((identity.selection.to_string(), core.upgrade()?)));
        let found = fitting.min_by(|(one, _), (other, _)| one.cmp(other));
        let core = found.map_or_else(
            || {
                let informer = self.informer_in::<Metadata>(&mut running, kind, selection);
                informer.core().clone()
            },
            |(_, core)| core,
        );
        MetadataInformer::new(core)
    }

    fn informer_in<K: Object>(
        &self,
        running: &mut HashMap<Identity, Weak<Core>>,
        kind: &K::DynamicType,
        selection: Selection,
    ) -> SharedInformer<K> {
        let identity = Identity {
            form: TypeId::of::<K>(),
            path: K::url_path(kind, None),
            selection: selection.clone(),
        };
        if let Some(core) = running.get(&identity).and_then(Weak::upgrade) {
            return SharedInformer::from_core(core);
        }
        running.retain(|_, core| core.strong_count() > 0);
        let informer = SharedInformer::start(self.client.clone(), kind, selection, &self.config);
        running.insert(identity, Arc::downgrade(informer.core()));
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

/// Informers of its own, so that what takes a factory takes a client as well.
impl From<Client> for InformerFactory {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

impl fmt::Debug for InformerFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformerFactory")
            .field("informers", &self.running.lock().len())
            .finish_non_exhaustive()
    }
}

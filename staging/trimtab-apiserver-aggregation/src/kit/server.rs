//! An extension API server: its resources, put together with whom it asks, and a listener.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::certs::{self, Authority, CertError, Pair};
use trimtab_apiserver_core::admission::{Chain, NamespaceLifecycle};
use trimtab_apiserver_core::api::{ApiRequest, ApiResponse};
use trimtab_apiserver_core::limits::Limits;
use trimtab_apiserver_core::registry::{Admission, Registry, VirtualResource, keys};
use trimtab_apiserver_core::server::{ApiService, Extension, ExtensionParts, StartError};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{self as storage, Config, MemoryStore, Store};

use super::admission::Namespaces;
use super::computed::{Computed, Computing, VERBS};
use super::definition::{Definition, DefinitionError};
use super::delegation::{Delegation, DelegationError};
use super::kept::{Storage, View};
use super::observed::{self, Observed, Shared, memory};

/// The priorities that APIServices are written with: those of custom resources, so that versions go by their names.
const PRIORITIES: (i64, i64) = (1000, 100);

/// A server that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A resource makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The API server in front cannot be asked.
    #[error(transparent)]
    Delegation(#[from] DelegationError),
    /// A certificate or key cannot be made, read or kept.
    #[error(transparent)]
    Certificates(#[from] CertError),
    /// It cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What an extension server is to be. Start with [`ExtensionServer::builder`].
#[derive(Debug)]
pub struct Builder {
    delegation: Delegation,
    /// For what the server stores itself, in one registry for each store.
    registries: Vec<Arc<Registry>>,
    /// Knows all resources, and has no store of its own.
    front: Registry,
    /// What is written passes this.
    admission: Chain,
    broken: Option<DefinitionError>,
    bind: Option<SocketAddr>,
    service: Option<(String, String)>,
    cert_dir: Option<PathBuf>,
    pair: Option<Pair>,
    limits: Limits,
}

/// A running extension server. Dropping it stops it at once; [`ExtensionServer::shutdown`] lets requests finish.
#[derive(Debug)]
pub struct ExtensionServer {
    extension: Extension,
    stores: Vec<Arc<dyn Store>>,
    /// Follows whom to believe.
    _following: AbortOnDropHandle<()>,
    authority: String,
    service: Option<(String, String)>,
}

/// Hands all requests for a resource to the registry that has its objects.
#[derive(Debug)]
struct Behind(Arc<Registry>);

#[async_trait::async_trait]
impl VirtualResource for Behind {
    async fn handle(&self, _: &Registry, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        self.0.handle(request).await
    }
}

// === impl Builder ===

impl Builder {
    /// Serves a resource whose objects are in this store: get, list, watch, create, update, patch, apply and delete.
    #[must_use]
    pub fn stored(self, definition: Definition, store: Arc<dyn Store>) -> Self {
        let there = self
            .registries
            .iter()
            .find(|registry| Arc::ptr_eq(registry.store(), &store));
        let registry = there
            .cloned()
            .unwrap_or_else(|| Arc::new(Registry::new(store, [])));
        self.behind(&definition, registry)
    }

    /// Serves a resource whose objects are in a database of your own, with the same verbs.
    #[must_use]
    pub fn kept<S: Storage>(mut self, definition: Definition, storage: S) -> Self {
        // Where its keys are follows from its names alone.
        let Some(resource) = self.define(&definition, None, None).into_iter().next() else {
            return self;
        };
        let view = View {
            storage: Arc::new(storage),
            prefix: keys::resource_prefix(&resource),
            namespaced: resource.namespaced(),
        };
        let registry = Arc::new(Registry::new(Arc::new(view), []));
        self.behind(&definition, registry)
    }

    /// Serves a resource whose objects are computed when somebody asks: get and list. A watch is refused with 405, as nobody
    /// knows what has happened meanwhile; see [`Builder::observed`].
    #[must_use]
    pub fn computed<C: Computed>(mut self, definition: Definition, computed: C) -> Self {
        let computed = Arc::new(computed);
        for resource in self.define(&definition, Some(&VERBS), None) {
            let computed = computed.clone();
            self.answered_by(&resource.clone(), Computing { computed, resource });
        }
        self
    }

    /// Serves a resource whose objects are computed and can be watched: get, list and watch, as clients' caches need it. All
    /// objects are computed whenever anybody asks, and while anybody watches `every` so often; what differs from before is what
    /// has happened. They are computed for nobody in particular.
    #[must_use]
    pub fn observed<C: Computed>(mut self, definition: Definition, computed: C, every: Duration) -> Self {
        let registry = Arc::new(Registry::new(memory(), []));
        let served = self.define(&definition, Some(&observed::VERBS), Some(&registry));
        let Some(first) = served.first() else { return self };
        let observed = Arc::new(Observed::new(computed, first.clone(), registry.clone(), every));
        for resource in &served {
            self.answered_by(resource, Shared(observed.clone()));
        }
        self.registries.push(registry);
        self
    }

    /// Shows this what is written to what is stored or kept, in the order in which such are added. Before them all nothing is
    /// made in namespaces that are not there, or that are being deleted, as the API server in front says at each creation.
    #[must_use]
    pub fn admission(mut self, plugin: impl Admission + 'static) -> Self {
        self.admission = self.admission.then(plugin);
        self
    }

    /// Listens on this address, TLS only; port 0 picks a free one. Without it the server answers in this process alone.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// The Service by which the API server reaches this one: its certificate says so.
    #[must_use]
    pub fn service(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.service = Some((namespace.into(), name.into()));
        self
    }

    /// Keeps its authority and its certificate in this folder, and uses again what is there.
    #[must_use]
    pub fn cert_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cert_dir = Some(dir.into());
        self
    }

    /// Shows this certificate and key (PEM) instead of one of its own.
    #[must_use]
    pub fn serving_certificate(mut self, certificate: String, key: String) -> Self {
        self.pair = Some(Pair { certificate, key });
        self
    }

    /// What it allows its clients; [`Limits::default`] unless set.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the server. It is ready when this returns. Whom to believe the API server says, also when that becomes somebody
    /// else while this runs.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; nothing is left running then.
    pub async fn start(self) -> Result<ExtensionServer, ServerError> {
        if let Some(error) = self.broken {
            return Err(error.into());
        }
        let trusted = self.delegation.trusted().await?;
        let (mut serving, mut authority) = (None, String::new());
        if let Some(address) = self.bind {
            let (pair, of) = match self.pair {
                Some(pair) => (pair.clone(), pair.certificate),
                None => made(address, self.service.as_ref(), self.cert_dir.as_ref())?,
            };
            authority = of;
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|source| StartError::Listen { address, source })?;
            serving = Some((listener, pair));
        }
        let admission = Arc::new(self.admission);
        self.registries
            .iter()
            .for_each(|registry| registry.set_admission(admission.clone()));
        let extension = Extension::start(ExtensionParts {
            registry: Arc::new(self.front),
            authenticator: Arc::new(self.delegation.clone()),
            decider: Arc::new(self.delegation.clone()),
            trusted,
            serving,
            limits: self.limits,
        })?;
        let stores = self.registries.iter().map(|registry| registry.store().clone());
        let following = self.delegation.follow(extension.believing());
        Ok(ExtensionServer {
            _following: AbortOnDropHandle::new(tokio::spawn(following)),
            extension,
            stores: stores.collect(),
            authority,
            service: self.service,
        })
    }

    /// Makes all versions of a resource known, behind this server's front as well if a registry is there; none of one that makes
    /// no sense, which is told of when the server is started.
    fn define(
        &mut self,
        definition: &Definition,
        verbs: Option<&[&str]>,
        behind: Option<&Registry>,
    ) -> Vec<Arc<Resource>> {
        let behind = behind.map(|registry| definition.define(registry.resources(), verbs));
        let defined = match behind {
            Some(Err(error)) => Err(error),
            _ => definition.define(self.front.resources(), verbs),
        };
        defined.unwrap_or_else(|error| {
            self.broken.get_or_insert(error);
            Vec::new()
        })
    }

    /// Has something answer for a version of a resource that has no subresources.
    fn answered_by(&self, resource: &Resource, by: impl VirtualResource + 'static) {
        self.front.add_virtual(
            &resource.group,
            &resource.version,
            &resource.plural,
            "",
            Arc::new(by),
        );
    }

    /// Has a registry answer for all versions of a resource.
    fn behind(mut self, definition: &Definition, registry: Arc<Registry>) -> Self {
        let served = self.define(definition, None, Some(&registry));
        served.iter().for_each(|resource| self.lead(resource, &registry));
        if !self.registries.iter().any(|there| Arc::ptr_eq(there, &registry)) {
            self.registries.push(registry);
        }
        self
    }

    fn lead(&self, resource: &Resource, registry: &Arc<Registry>) {
        let below = resource.subresources.iter().map(|below| below.name.as_str());
        let paths: BTreeSet<&str> = below.chain([""]).collect();
        for path in paths {
            let behind = Arc::new(Behind(registry.clone()));
            self.front
                .add_virtual(&resource.group, &resource.version, &resource.plural, path, behind);
        }
    }
}

/// A certificate of an authority of its own, and that authority.
fn made(
    address: SocketAddr,
    service: Option<&(String, String)>,
    dir: Option<&PathBuf>,
) -> Result<(Pair, String), CertError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !address.ip().is_unspecified() && !address.ip().is_loopback() {
        names.push(address.ip().to_string());
    }
    if let Some((namespace, name)) = service {
        names.extend([format!("{name}.{namespace}.svc"), format!("{name}.{namespace}")]);
    }
    let (authority, pair) = match dir {
        Some(dir) => {
            let authority = Authority::open(dir)?;
            let pair = authority.open_serving(dir, &names)?;
            (authority, pair)
        }
        None => {
            let authority = certs::Authority::generate()?;
            let pair = authority.serving(&names)?;
            (authority, pair)
        }
    };
    Ok((pair, authority.certificate().to_owned()))
}

// === impl ExtensionServer ===

impl ExtensionServer {
    /// A server that asks this API server who sends a request, and whether they may.
    pub fn builder(delegation: Delegation) -> Builder {
        let nothing = Arc::new(MemoryStore::new(Config::default()));
        let namespaces = Arc::new(Namespaces(delegation.clone()));
        Builder {
            delegation,
            admission: Chain::default().then(NamespaceLifecycle::new(namespaces)),
            registries: Vec::new(),
            front: Registry::new(nothing, []),
            broken: None,
            bind: None,
            service: None,
            cert_dir: None,
            pair: None,
            limits: Limits::default(),
        }
    }

    /// Where it listens; `None` when it has no listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.extension.address()
    }

    /// The certificates (PEM) by which the API server knows this one: the `caBundle` of its APIServices.
    pub fn certificate_authority(&self) -> &str {
        &self.authority
    }

    /// The APIServices (a `List` of apiregistration.k8s.io/v1) that register all that it serves, for `kubectl apply`: behind the
    /// Service that it was given, on this port of it. `None` when it was given none, or does not listen.
    pub fn api_services(&self, port: u16) -> Option<Value> {
        let (namespace, name) = self.service.as_ref().filter(|_| self.address().is_some())?;
        let table = self.extension.registry().resources().snapshot();
        let served: BTreeSet<(&str, &str)> = table
            .iter()
            .map(|r| (r.group.as_str(), r.version.as_str()))
            .collect();
        let items = served.into_iter().map(|(group, version)| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": format!("{version}.{group}")},
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": PRIORITIES.0,
                    "versionPriority": PRIORITIES.1,
                    "caBundle": STANDARD.encode(&self.authority),
                    "service": {"namespace": namespace, "name": name, "port": port},
                },
            })
        });
        let items: Vec<Value> = items.collect();
        Some(json!({"apiVersion": "v1", "kind": "List", "items": items}))
    }

    /// The server as a service in this process: no socket, no TLS, requests come from `user`.
    pub fn service(&self, user: UserInfo) -> ApiService {
        self.extension.service(user)
    }

    /// Stops accepting, ends watches, lets requests finish (for 10 seconds at most), and closes the stores.
    ///
    /// # Errors
    ///
    /// When a store cannot write what is left.
    pub async fn shutdown(mut self) -> Result<(), storage::Error> {
        self.extension.stop().await;
        for store in &self.stores {
            store.close().await?;
        }
        Ok(())
    }
}

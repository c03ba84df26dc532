//! The server: all parts put together, started and stopped.

mod bootstrap;
mod error;
mod extension;
mod service;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::certs::{self, Authority, Pair};
use trimtab_apiserver_auth::service_account::Issuer;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_storage::{self as storage, Store};

use crate::admission::dynamic::Surroundings;
use crate::admission::policies::{self, ParamAccess, Policies, PolicyMetrics};
use crate::admission::webhooks::{WebhookMetrics, Webhooks};
use crate::admission::{Chain, Plugins, Quotas, Reader, StoreReader};
use crate::allocators::{IpRange, PortRange, ServiceAllocators};
use crate::ambient::{Ambient, Clock, Entropy};
use crate::audit::Audit;
use crate::auth::{self, FrontProxy, Mode, Trusted};
use crate::crd::{self, controller::Terminating};
use crate::extensions::{Extensions, Served, Within};
use crate::flow::{self, Flow};
use crate::http::{Api, Parts};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::serving::{self, Believed};
use crate::webhook::{Clients, ServiceAddresses};

use self::trust::{AuthorityFiles, Trust};

pub use error::StartError;
pub use extension::{Believing, Extension, ExtensionParts};
pub use service::ApiService;

/// How long requests may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Where the serving certificate comes from.
#[derive(Clone, Debug, Default)]
enum Serving {
    /// Made for this run and kept nowhere.
    #[default]
    Generated,
    /// Made when needed and kept in a folder.
    Kept(PathBuf),
    /// Given, beside the folder where the authority for clients is kept.
    Given { pair: Pair, dir: Option<PathBuf> },
}

impl Serving {
    /// The folder where the authority and other keys are kept.
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Kept(dir) => Some(dir),
            Self::Given { dir, .. } => dir.as_deref(),
            Self::Generated => None,
        }
    }
}

/// What a server is to be. Start with [`ApiServer::builder`].
#[derive(Debug)]
pub struct Builder {
    store: Arc<dyn Store>,
    bind: Option<SocketAddr>,
    serving: Serving,
    client_ca: Option<String>,
    tokens: StaticTokens,
    mode: Mode,
    anonymous: bool,
    service_range: Option<IpRange>,
    plugins: Plugins,
    bootstrap_tokens: bool,
    front_proxy: Option<FrontProxy>,
    authority_files: AuthorityFiles,
    issuer: Option<Issuer>,
    limits: Limits,
    audit: Option<Arc<Audit>>,
    flags: BTreeMap<String, String>,
    extensions: Option<Arc<dyn Extensions>>,
    ambient: Ambient,
}

impl Builder {
    /// Listens on this address, TLS only; port 0 picks a free one. Without it the server has no listener and
    /// answers in this process alone.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// Keeps the authority and the serving certificate in this folder, and uses again what is there.
    #[must_use]
    pub fn cert_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        self.serving = match self.serving {
            Serving::Given { pair, .. } => Serving::Given { pair, dir: Some(dir) },
            _ => Serving::Kept(dir),
        };
        self
    }

    /// Shows this certificate and key (PEM) instead of one of its own.
    #[must_use]
    pub fn serving_certificate(mut self, certificate: String, key: String) -> Self {
        let dir = self.serving.dir().map(Path::to_owned);
        self.serving = Serving::Given {
            pair: Pair { certificate, key },
            dir,
        };
        self
    }

    /// Believes client certificates of this authority (PEM) too, beside those of its own.
    #[must_use]
    pub fn client_ca(mut self, certificate: String) -> Self {
        self.client_ca = Some(certificate);
        self
    }

    /// Knows these bearer tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: StaticTokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Decides in this way what a user may do; [`Mode::Rbac`] unless set.
    #[must_use]
    pub fn authorization(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether requests without credentials are served, as `system:anonymous`; they are, unless this says no.
    #[must_use]
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.anonymous = allowed;
        self
    }

    /// The range of Service cluster IPs; 10.0.0.0/16 unless set.
    #[must_use]
    pub fn service_cluster_ip_range(mut self, range: IpRange) -> Self {
        self.service_range = Some(range);
        self
    }

    /// The admission plugins; those that are on by default unless set.
    #[must_use]
    pub fn admission_plugins(mut self, plugins: Plugins) -> Self {
        self.plugins = plugins;
        self
    }

    /// Whether bootstrap tokens are believed: those of Secrets of type `bootstrap.kubernetes.io/token` in the namespace
    /// `kube-system`. They are not, unless this says so.
    #[must_use]
    pub fn bootstrap_tokens(mut self, believed: bool) -> Self {
        self.bootstrap_tokens = believed;
        self
    }

    /// Believes authenticating proxies, which say in headers who asks.
    #[must_use]
    pub fn front_proxy(mut self, proxy: FrontProxy) -> Self {
        self.front_proxy = Some(proxy);
        self
    }

    /// Reads the authorities of [`Builder::client_ca`] and [`Builder::front_proxy`] again when these files change, while it runs.
    #[must_use]
    pub fn authority_files(mut self, clients: Option<PathBuf>, proxies: Option<PathBuf>) -> Self {
        self.authority_files = AuthorityFiles { clients, proxies };
        self
    }

    /// Issues service account tokens by this issuer, instead of by one with a key of its own.
    #[must_use]
    pub fn issuer(mut self, issuer: Issuer) -> Self {
        self.issuer = Some(issuer);
        self
    }

    /// What it allows its clients; [`Limits::default`] unless set.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Writes down what this wants of requests; nothing unless set.
    #[must_use]
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(Arc::new(audit));
        self
    }

    /// Tells at `/flagz` that it was started by these flags, by name; the path leads nowhere unless there are some.
    #[must_use]
    pub fn flags(mut self, flags: BTreeMap<String, String>) -> Self {
        self.flags = flags;
        self
    }

    /// Passes on what other servers serve, as this says; unless set everything is answered here.
    #[must_use]
    pub fn extensions(mut self, extensions: Arc<dyn Extensions>) -> Self {
        self.extensions = Some(extensions);
        self
    }

    /// Tells the time by this; the system's clock unless set. Certificates are dated by the system's all the same.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.ambient.clock = clock;
        self
    }

    /// Takes what is random from this; from the system unless set.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.ambient.entropy = entropy;
        self
    }

    /// Starts the server. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    pub async fn start(self) -> Result<ApiServer, StartError> {
        bootstrap::check_whole(&*self.store).await?;
        let range = match self.service_range {
            Some(range) => range,
            None => bootstrap::default_range()?,
        };
        let kubernetes_ip = range.api_server();
        let names = |address: Option<SocketAddr>| {
            let mut names = certs::default_serving_names(Some(kubernetes_ip));
            names.extend(
                address
                    .map(|a| a.ip())
                    .filter(|ip| !ip.is_unspecified())
                    .map(|ip| ip.to_string()),
            );
            names.sort();
            names.dedup();
            names
        };
        let listener = match self.bind {
            Some(address) => {
                let listen = TcpListener::bind(address).await;
                Some(listen.map_err(|source| StartError::Listen { address, source })?)
            }
            None => None,
        };
        let address = listener.as_ref().and_then(|l| l.local_addr().ok());
        let (authority, pair) = match &self.serving {
            Serving::Generated => {
                let authority = Authority::generate()?;
                let pair = authority.serving(&names(self.bind))?;
                (authority, pair)
            }
            Serving::Kept(dir) => {
                let authority = Authority::open(dir)?;
                let pair = authority.open_serving(dir, &names(self.bind))?;
                (authority, pair)
            }
            Serving::Given { pair, dir } => {
                let authority = dir
                    .as_ref()
                    .map_or_else(Authority::generate, |dir| Authority::open(dir))?;
                (authority, pair.clone())
            }
        };
        let stop = CancellationToken::new();
        let registry = Arc::new(
            Registry::new(self.store.clone(), crd::builtin())
                .with_limits(&self.limits)
                .with_ambient(self.ambient.clone()),
        );
        let reader = StoreReader::new(self.store.clone(), registry.resources().clone());
        let (reader, follow) = reader.following().await?;
        let reader: Arc<dyn Reader> = Arc::new(reader);
        let allocators = ServiceAllocators::new(self.store.clone(), vec![range], PortRange::default())
            .by(self.ambient.entropy.clone());
        let unread = |error| StartError::Bootstrap(format!("what services hold: {error}"));
        allocators.repair().await.map_err(unread)?;
        registry.set_allocators(Arc::new(allocators));
        let (quotas, follow_quotas) = Quotas::load(self.store.clone(), registry.resources().clone()).await?;
        if self.plugins.has("ResourceQuota") {
            registry.set_accounts(Arc::new(
                quotas.by(&self.ambient).limiting(self.plugins.limited()?),
            ));
        }
        let issuer = match (self.issuer, self.serving.dir()) {
            (Some(issuer), _) => issuer,
            (None, Some(dir)) => Issuer::open(dir)?,
            (None, None) => Issuer::generate()?,
        };
        let parts = auth::Parts {
            tokens: self.tokens,
            issuer,
            mode: self.mode,
            bootstrap_tokens: self.bootstrap_tokens,
        };
        let auth = auth::start(&registry, parts, stop.clone())
            .await
            .map_err(StartError::Bootstrap)?;
        let terminating = Terminating::default();
        let around = Surroundings {
            store: self.store.clone(),
            resources: registry.resources().clone(),
            reader: reader.clone(),
            caches: registry.caches().clone(),
            authorizer: auth.authorizer.clone(),
            entropy: self.ambient.entropy.clone(),
        };
        let admission = Arc::new(
            Chain::of(&self.plugins, &around)?
                .then(crd::NoCreation(terminating.clone()))
                .then(auth.escalation)
                .then(ParamAccess(around.clone())),
        );
        registry.set_admission(admission.clone());
        let admission_timings = admission.timings();
        // Without policies, and without webhooks, whose servers may wait for this one to be up.
        bootstrap::write_first_objects(&registry, kubernetes_ip)
            .await
            .map_err(StartError::Bootstrap)?;
        let flow = start_flow(&registry, &self.limits).await?;
        let services = Arc::new(ServiceAddresses::new(reader));
        let clients = Arc::new(Clients::new(services.clone()));
        let (policy_metrics, webhook_metrics) = (
            Arc::new(PolicyMetrics::default()),
            Arc::new(WebhookMetrics::default()),
        );
        let policies = Arc::new(Policies::new(around.clone(), policy_metrics.clone()));
        let webhooks = Arc::new(Webhooks::new(around, clients.clone(), webhook_metrics.clone()));
        registry.set_admission(Arc::new(
            admission.with_dynamic(policies.clone(), webhooks.clone()),
        ));
        let definitions = crd::controller::start(&registry, terminating, clients, stop.clone())
            .await
            .map_err(StartError::Bootstrap)?;
        let mut tasks = auth.tasks;
        let served = match self.extensions {
            Some(extensions) => {
                let served = Arc::new(Served::default());
                let within = Within {
                    registry: registry.clone(),
                    resolver: services,
                    served: served.clone(),
                    stop: stop.clone(),
                };
                let follow = extensions.start(within).await.map_err(StartError::Extensions)?;
                tasks.push(tokio::spawn(follow));
                Some(served)
            }
            None => None,
        };
        // Without a listener nobody shows certificates.
        let clients = std::iter::once(authority.certificate()).chain(self.client_ca.as_deref());
        let trusted = Trusted {
            clients: clients.collect::<Vec<_>>().join("\n"),
            proxy: self.front_proxy,
        };
        let shown = listener.is_some().then_some(pair);
        let believed = Arc::new(Believed::new(trusted, shown).map_err(StartError::Tls)?);
        if listener.is_some() {
            let follow = self.authority_files.follow(
                authority.certificate().to_owned(),
                self.client_ca.clone(),
                believed.clone(),
            );
            let trust = Trust(believed.clone());
            trust.write(&registry).await;
            let (registry, stop) = (registry.clone(), stop.clone());
            tasks.push(tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = follow => {}
                    () = trust.keep(registry) => {}
                }
            }));
        }
        tasks.extend([
            definitions,
            policies::status::start(registry.clone(), stop.clone()),
        ]);
        if self.limits.in_flight.fair {
            let follow = flow::follow::run(flow.clone(), registry.clone(), stop.clone());
            tasks.push(tokio::spawn(follow));
        }
        let ended = stop.clone();
        tasks.push(tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                _ = async { tokio::join!(follow, follow_quotas, policies.follow(), webhooks.follow()) } => {}
            }
        }));
        let metrics = Metrics::new(&policy_metrics, &webhook_metrics)
            .with_store(self.store.clone())
            .with_caches(registry.clone())
            .with_flow(flow.metrics())
            .with_audit(self.audit.as_deref())
            .with_extensions(served.clone())
            .with_admission(admission_timings);
        let audit = self.audit.clone();
        let api = Arc::new(Api::new(Parts {
            registry,
            authenticator: auth.authenticator,
            authorizer: auth.authorizer,
            decider: None,
            issuer: Some(auth.issuer),
            anonymous: self.anonymous,
            believed: believed.clone(),
            flow,
            audit: self.audit,
            request_timeout: self.limits.request_timeout,
            served,
            metrics,
            flags: self.flags,
            stop: stop.clone(),
        }));

        let admin = authority.client("kubernetes-admin", MASTERS_GROUP)?;
        let trusted = match &self.serving {
            Serving::Given { pair, .. } => pair.certificate.clone(),
            _ => authority.certificate().to_owned(),
        };
        if let Some(listener) = listener {
            tasks.push(tokio::spawn(serving::serve(
                listener,
                believed,
                api.clone(),
                self.limits,
                stop.clone(),
                GRACE,
            )));
        }
        // Nothing can fail any more.
        let auditing = audit.and_then(|audit| {
            let task = audit.start()?;
            Some((audit, task))
        });
        Ok(ApiServer {
            auditing,
            api,
            store: self.store,
            address,
            authority: trusted,
            admin,
            stop,
            tasks,
        })
    }
}

/// Writes the flow schemas and priority levels that are missing, and lets requests in by what there is.
async fn start_flow(registry: &Registry, limits: &Limits) -> Result<Arc<Flow>, StartError> {
    let store = &**registry.store();
    let failed = |error| StartError::Bootstrap(format!("flow schemas and priority levels: {error}"));
    flow::bootstrap::ensure(store, registry.ambient())
        .await
        .map_err(failed)?;
    let objects = flow::follow::read(store).await.map_err(failed)?;
    Ok(Arc::new(Flow::new(
        limits.in_flight,
        &objects.schemas,
        &objects.levels,
    )))
}

/// A running API server. Dropping it stops it at once; [`ApiServer::shutdown`] lets requests finish.
#[derive(Debug)]
pub struct ApiServer {
    api: Arc<Api>,
    store: Arc<dyn Store>,
    address: Option<SocketAddr>,
    authority: String,
    admin: Pair,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// What sends audit events; last of all, since all others have some.
    auditing: Option<(Arc<Audit>, JoinHandle<()>)>,
}

impl ApiServer {
    /// A server over this store.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder {
            store,
            bind: None,
            serving: Serving::default(),
            client_ca: None,
            tokens: StaticTokens::default(),
            mode: Mode::Rbac,
            anonymous: true,
            service_range: None,
            plugins: Plugins::default(),
            bootstrap_tokens: false,
            front_proxy: None,
            authority_files: AuthorityFiles::default(),
            issuer: None,
            limits: Limits::default(),
            audit: None,
            flags: BTreeMap::new(),
            extensions: None,
            ambient: Ambient::default(),
        }
    }

    /// Where it listens; `None` when it has no listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Its address as a URL, for clients on this machine; without a listener a name that leads nowhere.
    pub fn url(&self) -> String {
        match self.address {
            Some(address) if address.ip().is_unspecified() => format!("https://127.0.0.1:{}", address.port()),
            Some(address) => format!("https://{address}"),
            None => "https://kubernetes.default.svc".to_owned(),
        }
    }

    /// A kubeconfig (YAML) with which one is the administrator.
    pub fn kubeconfig(&self) -> String {
        serving::kubeconfig(&self.url(), &self.authority, &self.admin)
    }

    /// The certificates (PEM) by which clients know this server.
    pub fn certificate_authority(&self) -> &str {
        &self.authority
    }

    /// The server as a service in this process: no socket, no TLS, requests come from the administrator.
    pub fn service(&self) -> ApiService {
        ApiService::new(self.api.clone())
    }

    /// Stops accepting, ends watches, lets requests finish (for 10 seconds at most), sends what audit events are left (for as
    /// long again), and closes the store.
    ///
    /// # Errors
    ///
    /// When the store cannot write what is left.
    pub async fn shutdown(mut self) -> Result<(), storage::Error> {
        self.stop().await
    }

    /// [`ApiServer::shutdown`], for those who hold it by reference. Requests are refused afterwards.
    ///
    /// # Errors
    ///
    /// As of [`ApiServer::shutdown`].
    pub async fn stop(&mut self) -> Result<(), storage::Error> {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let _ = task.await; // a task that panicked has said so
        }
        if let Some((audit, mut task)) = self.auditing.take() {
            audit.close();
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                tracing::warn!("audit events could not be sent in time and are lost");
                task.abort();
            }
        }
        self.store.close().await
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
        self.auditing.iter().for_each(|(_, task)| task.abort());
    }
}

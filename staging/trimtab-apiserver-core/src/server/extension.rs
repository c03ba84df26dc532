//! A server of some resources alone, which asks others who may do what: what extension API servers are made of.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::certs::Pair;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};

use super::{ApiService, GRACE, StartError};
use crate::auth::{Authenticator, Authorizer, Decider, FrontProxy};
use crate::flow::Flow;
use crate::http::{Api, Parts};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::serving;

/// What such a server is made of.
#[derive(Debug)]
pub struct ExtensionParts {
    /// What it serves.
    pub registry: Arc<Registry>,
    /// Says who sends a request.
    pub authenticator: Arc<dyn Authenticator>,
    /// Says whether they may.
    pub decider: Arc<dyn Decider>,
    /// Authorities whose client certificates are believed (PEM).
    pub clients: String,
    /// Which proxies are believed.
    pub front_proxy: Option<FrontProxy>,
    /// The certificate that it shows; without one, and a listener, it answers in this process alone.
    pub serving: Option<(TcpListener, Pair)>,
    /// What it allows its clients. They are plain limits: who is served first is decided before.
    pub limits: Limits,
}

/// Such a server, running. Dropping it stops it at once.
#[derive(Debug)]
pub struct Extension {
    api: Arc<Api>,
    registry: Arc<Registry>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// Whoever asks this server itself to be somebody else may not: they do so at the server before it.
#[derive(Debug)]
struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _: &UserInfo, _: &Attributes) -> Decision {
        Decision {
            allowed: false,
            reason: "impersonation is the business of the API server in front of this one".to_owned(),
        }
    }
}

impl Extension {
    /// Starts it. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    pub fn start(parts: ExtensionParts) -> Result<Self, StartError> {
        let ExtensionParts {
            registry,
            authenticator,
            decider,
            clients,
            front_proxy,
            serving,
            mut limits,
        } = parts;
        limits.in_flight.fair = false;
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&Arc::default(), &Arc::default())
            .with_store(registry.store().clone())
            .with_caches(registry.clone());
        let cas: Vec<&str> = [clients.as_str()]
            .into_iter()
            .filter(|pem| !pem.is_empty())
            .collect();
        let peers = match &front_proxy {
            Some(proxy) => serving::Peers::apart(&cas, &proxy.authorities).map_err(StartError::Tls)?,
            None => serving::Peers::default(),
        };
        let mut all = cas;
        all.extend(front_proxy.as_ref().map(|proxy| proxy.authorities.as_str()));
        let listening = serving.map(|(listener, pair)| {
            let config = serving::server_config(&pair.certificate, &pair.key, &all);
            let config = config.map_err(StartError::Tls)?;
            Ok::<_, StartError>((listener, TlsAcceptor::from(Arc::new(config))))
        });
        let listening = listening.transpose()?;
        let api = Arc::new(Api::new(Parts {
            registry: registry.clone(),
            authenticator,
            authorizer: Arc::new(Nobody),
            decider: Some(decider),
            issuer: None,
            anonymous: true,
            front_proxy: front_proxy.clone(),
            flow: Arc::new(Flow::new(limits.in_flight, &[], &[])),
            audit: None,
            request_timeout: limits.request_timeout,
            served: None,
            metrics,
            stop: stop.clone(),
        }));
        let address = listening
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok());
        let task = listening.map(|(listener, tls)| {
            let served = serving::serve(
                listener,
                tls,
                api.clone(),
                Arc::new(peers),
                limits,
                stop.clone(),
                GRACE,
            );
            tokio::spawn(served)
        });
        Ok(Self {
            api,
            registry,
            address,
            stop,
            task,
        })
    }

    /// Where it listens; `None` when it has no listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What it serves.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The server as a service in this process, whose requests come from `user`.
    pub fn service(&self, user: UserInfo) -> ApiService {
        ApiService::new(self.api.clone()).for_user(user)
    }

    /// Stops accepting, ends watches, and lets requests finish, for 10 seconds at most.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await; // a task that panicked has said so
        }
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.iter().for_each(JoinHandle::abort);
    }
}

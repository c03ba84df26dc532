//! A server of some resources alone, which asks others who may do what: what extension API servers are made of.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::certs::Pair;
use trimtab_apiserver_auth::{Attributes, Decision, UserInfo};

use super::{ApiService, GRACE, StartError};
use crate::auth::{Authenticator, Authorizer, Decider, Trusted};
use crate::flow::Flow;
use crate::http::{Api, Parts};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::serving::{self, Believed};

/// What such a server is made of.
#[derive(Debug)]
pub struct ExtensionParts {
    /// What it serves.
    pub registry: Arc<Registry>,
    /// Says who sends a request.
    pub authenticator: Arc<dyn Authenticator>,
    /// Says whether they may.
    pub decider: Arc<dyn Decider>,
    /// Whose certificates are believed.
    pub trusted: Trusted,
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
    believed: Arc<Believed>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// Changes whose certificates such a server believes.
#[derive(Clone, Debug)]
pub struct Believing(Arc<Believed>);

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
            trusted,
            serving,
            mut limits,
        } = parts;
        limits.in_flight.fair = false;
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&Arc::default(), &Arc::default())
            .with_store(registry.store().clone())
            .with_caches(registry.clone());
        let (listener, pair) = serving.unzip();
        let believed = Arc::new(Believed::new(trusted, pair).map_err(StartError::Tls)?);
        let api = Arc::new(Api::new(Parts {
            registry: registry.clone(),
            authenticator,
            authorizer: Arc::new(Nobody),
            decider: Some(decider),
            issuer: None,
            anonymous: true,
            believed: believed.clone(),
            flow: Arc::new(Flow::new(limits.in_flight, &[], &[])),
            audit: None,
            request_timeout: limits.request_timeout,
            served: None,
            metrics,
            flags: std::collections::BTreeMap::new(),
            stop: stop.clone(),
        }));
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let task = listener.map(|listener| {
            let served = serving::serve(
                listener,
                believed.clone(),
                api.clone(),
                limits,
                stop.clone(),
                GRACE,
            );
            tokio::spawn(served)
        });
        Ok(Self {
            api,
            registry,
            believed,
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

    /// What changes whose certificates it believes.
    pub fn believing(&self) -> Believing {
        Believing(self.believed.clone())
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

impl Believing {
    /// From now on these are believed. Connections of others end once what is asked on them has been answered.
    ///
    /// # Errors
    ///
    /// A text that says why they cannot be; it is as before then.
    pub fn set(&self, trusted: Trusted) -> Result<(), String> {
        self.0.set(trusted)
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.iter().for_each(JoinHandle::abort);
    }
}

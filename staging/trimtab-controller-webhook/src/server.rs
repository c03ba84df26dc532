//! The server that answers the API server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use trimtab_controller_runtime::Part;
use trimtab_controller_runtime::rbac::Rule;
use trimtab_controller_runtime::serving::{Certificates, Health, Listener, Router, ServeError};

use crate::certificates::{Clock, Provisioner, expiry};
use crate::error::WebhookError;
use crate::webhooks::Webhooks;

/// The check among those of readiness.
const CHECK: &str = "webhook";

/// Answers the API server's questions over TLS, by itself ([`WebhookServer::run`]) or as a part of a manager:
///
/// ```no_run
/// # use trimtab_controller_runtime::Manager;
/// # use trimtab_controller_webhook::{Identity, WebhookServer, Webhooks};
/// # async fn serve(manager: &Manager, webhooks: &Webhooks, certificates: Identity)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// manager.part(WebhookServer::bind(WebhookServer::ADDRESS, webhooks, certificates).await?)?;
/// # Ok(()) }
/// ```
///
/// As a part it is called `webhooks`: it is there before the controllers and until after them, its check and its figures
/// are the manager's, and what its certificates need to be allowed is among the manager's rules.
pub struct WebhookServer {
    listener: Listener,
    router: Router,
    identity: Identity,
    webhooks: Webhooks,
}

/// Where a server has its certificate from: from elsewhere, as files that cert-manager mounts, if it is made of
/// [`Certificates`]; from the program itself, if it is made of a [`Provisioner`].
#[derive(Clone, Debug)]
pub struct Identity {
    certificates: Certificates,
    provisioner: Option<Provisioner>,
}

impl WebhookServer {
    /// The address that is listened on as a rule: port 9443, controller-runtime's.
    pub const ADDRESS: &'static str = ":9443";

    /// Listens on an address, as `:9443` or `127.0.0.1:0`. The certificate of a [`Provisioner`] in memory is made now.
    ///
    /// # Errors
    /// As [`Webhooks::router`]; [`WebhookError::Serve`] if the address cannot be listened on; [`WebhookError::Provision`] if no
    /// certificate can be made.
    pub async fn bind(
        address: &str,
        webhooks: &Webhooks,
        identity: impl Into<Identity>,
    ) -> Result<Self, WebhookError> {
        Self::on(Listener::bind(address).await?, webhooks, identity).await
    }

    /// As [`WebhookServer::bind`], for a listener that is there already: one at a free port, say, which has to be known before
    /// the certificates are made for it.
    ///
    /// # Errors
    /// As [`WebhookServer::bind`].
    pub async fn on(
        listener: Listener,
        webhooks: &Webhooks,
        identity: impl Into<Identity>,
    ) -> Result<Self, WebhookError> {
        let (router, identity) = (webhooks.router()?, identity.into());
        if let Some(provisioner) = &identity.provisioner {
            provisioner.prepare().await?;
        }
        Ok(Self {
            listener: listener.tls(identity.certificates.clone())?,
            router,
            identity,
            webhooks: webhooks.clone(),
        })
    }

    /// How long answers under way may take after the stop. The default is 30 seconds, as long as any may take.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self {
            listener: self.listener.grace(grace),
            ..self
        }
    }

    /// The address that is listened on, with its port.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The authorities that the API server has to trust, PEM, as far as this program knows them now: those of its
    /// [`Provisioner`].
    pub fn ca_bundle(&self) -> Option<String> {
        self.identity.provisioner.as_ref()?.ca_bundle()
    }

    /// Adds the check `webhook` to readiness. It fails as long as there is no certificate to show, once it has expired, and
    /// until the authorities were made known where a [`Provisioner`] is to do that.
    ///
    /// # Errors
    /// [`ServeError::CheckName`].
    pub fn health(&self, health: &Health) -> Result<(), ServeError> {
        let identity = self.identity.clone();
        health.ready(CHECK, move || std::future::ready(identity.check()))
    }

    /// What the server needs to be allowed: nothing, unless its [`Provisioner`] keeps certificates in a Secret, or makes
    /// authorities known.
    pub fn rules(&self) -> Vec<Rule> {
        let provisioner = self.identity.provisioner.as_ref();
        provisioner.map(Provisioner::rules).unwrap_or_default()
    }

    /// Answers until `stop`, keeps certificates fresh meanwhile, and then lets answers under way end.
    ///
    /// Dropping the future ends everything at once.
    ///
    /// # Errors
    /// [`WebhookError::Serve`] if answers had to be cut off.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WebhookError> {
        let serving = self.listener.serve(self.router, stop.clone());
        let served = match &self.identity.provisioner {
            Some(provisioner) => tokio::join!(serving, provisioner.run(stop)).0,
            None => serving.await,
        };
        Ok(served?)
    }
}

impl fmt::Debug for WebhookServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookServer")
            .field("listener", &self.listener)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl From<WebhookServer> for Part {
    fn from(server: WebhookServer) -> Self {
        let mut figures = Registry::default();
        server.webhooks.register_metrics(&mut figures);
        let (identity, rules) = (server.identity.clone(), server.rules());
        let part = Self::server("webhooks", move |stop| server.run(stop))
            .ready(CHECK, move || std::future::ready(identity.check()))
            .metrics(figures);
        rules.into_iter().fold(part, Self::needs)
    }
}

impl Identity {
    /// Whether the API server can believe the server.
    fn check(&self) -> Result<(), String> {
        let trouble = self.provisioner.as_ref().and_then(Provisioner::trouble);
        let because = |what: &str| match &trouble {
            Some(trouble) => format!("{what}: {trouble}"),
            None => what.to_owned(),
        };
        let Some(certificate) = self.certificates.current() else {
            return Err(because("there is no certificate for the webhooks yet"));
        };
        let ends = expiry(&certificate)?;
        let clock = self
            .provisioner
            .as_ref()
            .map_or_else(Clock::system, Provisioner::dated_by);
        if ends <= clock.now() {
            return Err(because(&format!(
                "the certificate of the webhooks has expired at {ends}"
            )));
        }
        if self
            .provisioner
            .as_ref()
            .is_some_and(|provisioner| !provisioner.is_known())
        {
            return Err(because("the API server was not told yet whom to trust"));
        }
        Ok(())
    }
}

impl From<Certificates> for Identity {
    fn from(certificates: Certificates) -> Self {
        Self {
            certificates,
            provisioner: None,
        }
    }
}

impl From<Provisioner> for Identity {
    fn from(provisioner: Provisioner) -> Self {
        Self {
            certificates: provisioner.certificates(),
            provisioner: Some(provisioner),
        }
    }
}

//! The server that answers the API server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trimtab_controller_runtime::serving::{Certificates, Health, Listener, Router, ServeError};

use crate::certificates::Provisioner;
use crate::error::WebhookError;
use crate::webhooks::Webhooks;

/// Answers the API server's questions over TLS.
pub struct WebhookServer {
    listener: Listener,
    router: Router,
    identity: Identity,
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
        let (router, identity) = (webhooks.router()?, identity.into());
        if let Some(provisioner) = &identity.provisioner {
            provisioner.prepare().await?;
        }
        let listener = Listener::bind(address)
            .await?
            .tls(identity.certificates.clone())?;
        Ok(Self {
            listener,
            router,
            identity,
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

    /// Adds the check `webhook` to readiness: it fails as long as there is no certificate to show.
    ///
    /// # Errors
    /// [`ServeError::CheckName`].
    pub fn health(&self, health: &Health) -> Result<(), ServeError> {
        let certificates = self.identity.certificates.clone();
        health.ready("webhook", move || {
            let empty = certificates.is_empty();
            async move {
                if empty {
                    Err("there is no certificate for the webhooks yet".to_owned())
                } else {
                    Ok(())
                }
            }
        })
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

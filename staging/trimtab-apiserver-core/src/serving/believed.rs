//! Whom a server believes by the certificates that are shown to it, which may become others while it serves.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use trimtab_apiserver_auth::certs::Pair;

use super::peers::Peers;
use super::tls::server_config;
use crate::auth::Trusted;
use crate::http::Peer;

/// Whom a server believes.
#[derive(Debug)]
pub(crate) struct Believed {
    /// What it shows itself; `None` where nobody shows anything.
    pair: Option<Pair>,
    now: watch::Sender<Arc<Now>>,
}

/// Whom it believes at one moment.
pub(crate) struct Now {
    pub(crate) trusted: Trusted,
    peers: Peers,
    pub(super) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Now")
            .field("trusted", &self.trusted)
            .finish_non_exhaustive()
    }
}

impl Believed {
    /// A server that believes these, and shows this certificate if it listens.
    ///
    /// # Errors
    ///
    /// A text that says which certificate or key cannot be used.
    pub(crate) fn new(trusted: Trusted, pair: Option<Pair>) -> Result<Self, String> {
        let now = Now::new(trusted, pair.as_ref())?;
        Ok(Self {
            pair,
            now: watch::Sender::new(Arc::new(now)),
        })
    }

    /// From now on these are believed. Connections of others end once what is asked on them has been answered.
    ///
    /// # Errors
    ///
    /// A text that says why they cannot be; it is as before then.
    pub(crate) fn set(&self, trusted: Trusted) -> Result<(), String> {
        if self.now().trusted != trusted {
            let now = Now::new(trusted, self.pair.as_ref())?;
            self.now.send_replace(Arc::new(now));
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Arc<Now> {
        self.now.borrow().clone()
    }

    /// Tells of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Now>> {
        self.now.subscribe()
    }
}

impl Now {
    fn new(trusted: Trusted, pair: Option<&Pair>) -> Result<Self, String> {
        let proxies = trusted.proxy.as_ref().map_or("", |proxy| &proxy.authorities);
        let tls = pair.map(|pair| {
            let config = server_config(&pair.certificate, &pair.key, &[&trusted.clients, proxies])?;
            Ok::<_, String>(TlsAcceptor::from(Arc::new(config)))
        });
        Ok(Self {
            peers: Peers::apart(&[&trusted.clients], proxies)?,
            tls: tls.transpose()?,
            trusted,
        })
    }

    /// Who has shown this chain of certificates.
    pub(super) fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        self.peers.of(chain)
    }
}

/// Waits until somebody who has shown this chain is not believed to be the same any more.
pub(super) async fn withdrawn(
    mut changes: watch::Receiver<Arc<Now>>,
    chain: Option<Vec<CertificateDer<'static>>>,
    peer: Peer,
) {
    let Some(chain) = chain else {
        // Whoever has shown nothing has nothing to lose.
        return std::future::pending().await;
    };
    while changes.changed().await.is_ok() {
        let now = changes.borrow_and_update().peer(&chain);
        if (now.user, now.proxy) != (peer.user.clone(), peer.proxy.clone()) {
            return;
        }
    }
    std::future::pending().await
}

//! Whom a server believes by the certificates that are shown to it, which may become others while it serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;
use trimtab_apiserver_auth::certs::Pair;

use super::peers::Peers;
use super::tls::server_config;
use crate::auth::Trusted;
use crate::changes::{Changed, Changes};
use crate::http::Peer;

/// Whom a server believes.
#[derive(Debug)]
pub(crate) struct Believed {
    /// What it shows itself; `None` where nobody shows anything.
    pair: Option<Pair>,
    now: ArcSwap<Now>,
    changed: Changed,
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
            now: ArcSwap::from_pointee(now),
            changed: Changed::default(),
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
            self.now.store(Arc::new(now));
            self.changed.tell();
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Arc<Now> {
        self.now.load_full()
    }

    /// Tells of changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        self.changed.changes()
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
    believed: &Believed,
    mut changes: Changes,
    chain: Option<Vec<CertificateDer<'static>>>,
    peer: Peer,
) {
    let Some(chain) = chain else {
        // Whoever has shown nothing has nothing to lose.
        return std::future::pending().await;
    };
    loop {
        changes.changed().await;
        let now = believed.now().peer(&chain);
        if (now.user, now.proxy) != (peer.user.clone(), peer.proxy.clone()) {
            return;
        }
    }
}

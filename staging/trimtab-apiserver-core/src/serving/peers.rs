//! Who has shown a certificate: a client, an authenticating proxy, or both.

use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::x509::user_from_certificate;

use super::tls::client_verifier;
use crate::http::Peer;

/// Tells clients from proxies. All certificates have passed the handshake, by one authority or another.
#[derive(Debug)]
pub(crate) struct Peers {
    /// Verifiers of clients and of proxies, where there may be some.
    apart: [Option<Arc<dyn ClientCertVerifier>>; 2],
}

impl Peers {
    /// Peers of which some may be proxies, by their authorities (PEM; empty for none).
    ///
    /// # Errors
    ///
    /// A text that says why the authorities cannot be used.
    pub(crate) fn apart(clients: &[&str], proxies: &str) -> Result<Self, String> {
        Ok(Self {
            apart: [client_verifier(clients)?, client_verifier(&[proxies])?],
        })
    }

    /// Who has shown this chain of certificates, its own first.
    pub(crate) fn of(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let Some((own, others)) = chain.split_first() else {
            return Peer::default();
        };
        let user: Option<UserInfo> = match user_from_certificate(own) {
            Ok(user) => Some(user),
            Err(error) => {
                tracing::debug!(%error, "client certificate names no user");
                None
            }
        };
        let [clients, proxies] = &self.apart;
        let by = |verifier: &Option<Arc<dyn ClientCertVerifier>>| {
            let verified = verifier
                .as_ref()
                .map(|v| v.verify_client_cert(own, others, UnixTime::now()));
            matches!(verified, Some(Ok(_)))
        };
        let proxy = user.as_ref().map(|user| user.name.clone()).unwrap_or_default();
        Peer {
            user: user.filter(|_| by(clients)),
            proxy: by(proxies).then_some(proxy),
            address: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;
    use trimtab_apiserver_auth::certs::Authority;

    use super::*;

    #[test]
    fn clients_and_proxies_are_told_apart_by_their_authorities() {
        let (clients, proxies) = (Authority::generate(), Authority::generate());
        let (clients, proxies) = (clients.expect("made"), proxies.expect("made"));
        let apart = Peers::apart(&[clients.certificate()], proxies.certificate()).expect("usable");
        let both = [clients.certificate(), proxies.certificate()];
        let same = Peers::apart(&both, proxies.certificate()).expect("usable");
        let shown = |authority: &Authority, name: &str| {
            let pair = authority.client(name, "g").expect("made");
            CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM")
        };
        let who = |peers: &Peers, certificate: CertificateDer<'_>| {
            let peer = peers.of(&[certificate]);
            (peer.user.map(|user| user.name), peer.proxy)
        };
        let name = |name: &str| Some(name.to_owned());
        let (alice, front) = (|| shown(&clients, "alice"), || shown(&proxies, "front"));
        assert_eq!(who(&apart, alice()), (name("alice"), None));
        assert_eq!(who(&apart, front()), (None, name("front")));
        assert_eq!(who(&same, front()), (name("front"), name("front")));
        let no_proxies = Peers::apart(&[clients.certificate()], "").expect("usable");
        assert_eq!(who(&no_proxies, alice()), (name("alice"), None));
        assert_eq!(who(&no_proxies, front()), (None, None));
        let alone = Peers::apart(&[], proxies.certificate()).expect("usable");
        assert_eq!(who(&alone, alice()), (None, None));
        assert_eq!(who(&alone, front()), (None, name("front")));
        let pair = clients.serving(&["localhost".to_owned()]).expect("made");
        let nobody = crate::serving::tls::server_config(&pair.certificate, &pair.key, &[]);
        assert!(nobody.is_ok(), "nobody is asked for a certificate then");
    }
}

//! The TLS side of serving: which certificate we show, and whose we believe.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The server's TLS configuration from PEM texts. Clients may show a certificate of one of `client_cas` (of which those
/// count that are not empty), and need not; any other is refused.
///
/// # Errors
///
/// A text that says which of the three cannot be used and why.
pub(crate) fn server_config(
    certificate: &str,
    key: &str,
    client_cas: &[&str],
) -> Result<rustls::ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain =
        certificates(certificate).map_err(|e| format!("the serving certificate cannot be used: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|e| format!("the serving key cannot be used: {e}"))?;
    let roots = roots(client_cas)?;
    let verifier = verifier(roots, &provider)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| format!("the serving certificate and key do not fit: {e}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Tells apart whose certificates clients have shown, when those of several authorities are believed for different things.
///
/// # Errors
///
/// A text that says why the authorities (PEM) cannot be used.
pub(crate) fn client_verifier(cas: &[&str]) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots(cas)?;
    if roots.is_empty() {
        return Ok(None);
    }
    verifier(roots, &provider).map(Some)
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    if roots.is_empty() {
        // Nobody is believed, and nobody is asked for a certificate.
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| format!("the client CA cannot be used: {e}"))
}

fn roots(cas: &[&str]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for ca in cas.iter().filter(|ca| !ca.is_empty()) {
        for certificate in certificates(ca).map_err(|e| format!("the client CA cannot be used: {e}"))? {
            roots
                .add(certificate)
                .map_err(|e| format!("the client CA cannot be used: {e}"))?;
        }
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|e| e.to_string())?;
    if found.is_empty() {
        Err("there is no certificate in it".to_owned())
    } else {
        Ok(found)
    }
}

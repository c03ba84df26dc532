//! Which certificates of webhooks and other servers are believed.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use trimtab_apiserver_auth::Anyone;
use x509_parser::parse_x509_certificate;

/// The certificates in a bundle of authorities (PEM). What is no certificate is passed over, as long as there is one.
///
/// # Errors
///
/// A text that says what is wrong, in the words of Kubernetes.
pub(crate) fn authorities(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    let mut fault = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bundle) {
        match section {
            Ok((SectionKind::Certificate, der)) => match parse_x509_certificate(&der) {
                Ok(_) => found.push(CertificateDer::from(der)),
                Err(error) => fault = fault.or(Some(format!("failed to parse certificate: {error}"))),
            },
            Ok(_) => fault = fault.or(Some("no valid certificate authority data seen".to_owned())),
            // What follows cannot be told apart from what is broken.
            Err(_) => break,
        }
    }
    if found.is_empty() {
        let fault = fault.unwrap_or_else(|| "unable to parse bytes as PEM block".to_owned());
        return Err(format!("unable to load root certificates: {fault}"));
    }
    Ok(found)
}

/// A client's certificate with its chain, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The TLS configuration of calls to a webhook that is known by these authorities (PEM), or by those of the system when
/// there are none, and that is shown this certificate if it asks for one.
///
/// # Errors
///
/// A text that says why the authorities or the certificate cannot be used.
pub(super) fn client_config(
    bundle: &[u8],
    identity: Option<Identity>,
) -> Result<rustls::ClientConfig, String> {
    // Over HTTP/2 all requests would go to one of the servers behind a Service.
    outward_config(ServerTrust::Authorities(bundle), identity, &[b"http/1.1"])
}

/// Which servers are believed to be who they say they are.
#[derive(Clone, Copy, Debug)]
pub enum ServerTrust<'b> {
    /// Those with certificates of these authorities (PEM), or of the system's when there are none.
    Authorities(&'b [u8]),
    /// Any.
    Anyone,
}

/// The TLS configuration of calls to other servers, which are shown this certificate if they ask for one, and are offered
/// these protocols.
///
/// # Errors
///
/// A text that says why the authorities or the certificate cannot be used.
pub fn outward_config(
    trust: ServerTrust<'_>,
    identity: Option<Identity>,
    protocols: &[&[u8]],
) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ServerTrust::Authorities(bundle) => Arc::new(verifier(bundle, &provider)?),
        ServerTrust::Anyone => Arc::new(Anyone::new(provider.clone())),
    };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("unable to load root certificates: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("the client's certificate cannot be used: {error}"))?,
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A client's certificate with its chain, and its key, of what is in two files (PEM).
///
/// # Errors
///
/// A text that says which of them cannot be used.
pub fn identity_from_pem(certificate: &str, key: &str) -> Result<Identity, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the client's certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    Ok((chain, key.map_err(|error| format!("the client's key: {error}"))?))
}

fn verifier(bundle: &[u8], provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let failed = |why: String| format!("unable to load root certificates: {why}");
    let trusted = if bundle.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a root certificate of the system cannot be read");
        }
        found.certs
    } else {
        authorities(bundle)?
    };
    let mut roots = RootCertStore::empty();
    let (_, refused) = roots.add_parsable_certificates(trusted.iter().cloned());
    if refused > 0 {
        tracing::debug!(refused, "root certificates cannot be used");
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let shown = if bundle.is_empty() { Vec::new() } else { trusted };
    Ok(Verifier { inner, shown })
}

/// Believes what webpki believes, and one thing more: a server that shows the very certificate that its configuration
/// names as authority. Such certificates are common for webhooks, and Go believes them.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The certificates that are believed when they are shown themselves.
    shown: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Checks a certificate that needs no issuer: its name, its time and its purpose.
    fn verify_shown(
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        rustls::client::verify_server_name(&parsed, name)?;
        let (_, x509) = parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let (from, until) = (
            x509.validity().not_before.timestamp(),
            x509.validity().not_after.timestamp(),
        );
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < from {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > until {
            return Err(CertificateError::Expired.into());
        }
        match x509.extended_key_usage() {
            Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => {
                Err(CertificateError::InvalidPurpose.into())
            }
            Ok(_) => Ok(()),
            Err(_) => Err(CertificateError::BadEncoding.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .inner
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        if verified.is_err() && self.shown.iter().any(|shown| shown == certificate) {
            Self::verify_shown(certificate, name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        match verified {
            // An authority that shows its own certificate, and that nobody has named.
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if format!("{why:?}").contains("CaUsedAsEndEntity") =>
            {
                Err(CertificateError::UnknownIssuer.into())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

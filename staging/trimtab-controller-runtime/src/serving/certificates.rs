//! Which certificate a listener shows: from files that are looked at again and again, or handed over by the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{MissedTickBehavior, interval};

use super::error::ServeError;

/// How often files are looked at; controller-runtime's figure. Neither renewal nor a revoked key can hurry a mounted
/// Secret, which takes the kubelet a minute.
const POLL: Duration = Duration::from_secs(10);

/// The certificate that is shown to clients now. Clones are the same; a new certificate is for the next handshake, and
/// connections that are open go on.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    shown: Arc<Shown>,
    files: Option<Arc<Files>>,
}

#[derive(Debug, Default)]
struct Shown(ArcSwapOption<CertifiedKey>);

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// There is no PEM certificate in the text, or a broken one.
    #[error("{origin} holds no usable PEM certificate: {why}")]
    Certificate {
        /// The file, or "the certificate".
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// There is no PEM private key in the text, or one of an unknown kind.
    #[error("{origin} holds no usable PEM private key: {why}")]
    Key {
        /// The file, or "the key".
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// The key is not that of the certificate.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// Where the certificate is from.
        certificate: String,
        /// Where the key is from.
        key: String,
    },
}

/// A certificate chain and its key, both PEM, with names for errors.
struct Pem<'a> {
    certificate: (&'a str, &'a [u8]),
    key: (&'a str, &'a [u8]),
}

// === impl Certificates ===

impl Certificates {
    /// No certificate yet: until [`Certificates::replace`] brings one, handshakes fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// The certificate chain (the server's own first) and private key in these PEM files. As long as a listener serves with
    /// it, the files are looked at every 10 seconds. Files that cannot be used leave the last certificate in place, with
    /// a warning; so does a pair that does not fit, as it is while one of the two is written.
    ///
    /// # Errors
    /// When the files cannot be used now.
    pub async fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
        };
        let all = Self {
            shown: Arc::default(),
            files: Some(Arc::new(files)),
        };
        all.reload().await?;
        Ok(all)
    }

    /// Shows this certificate chain (the server's own first) with this private key from now on, both PEM. True: it is
    /// another than the last.
    ///
    /// # Errors
    /// When they cannot be used; the last certificate stays.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<bool, CertificateError> {
        self.show(Pem {
            certificate: ("the certificate", certificate),
            key: ("the key", key),
        })
    }

    /// Whether there is a certificate to show.
    pub fn is_empty(&self) -> bool {
        self.shown.0.load().is_none()
    }

    /// The server's own certificate that is shown now, DER.
    pub fn current(&self) -> Option<Vec<u8>> {
        let shown = self.shown.0.load();
        shown
            .as_ref()
            .and_then(|key| key.cert.first())
            .map(|der| der.to_vec())
    }

    /// What rustls needs, for HTTP/2 and HTTP/1.1.
    pub(super) fn server_config(&self) -> Result<ServerConfig, ServeError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ServeError::Tls(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files again and again, for ever; rests where there are none.
    pub(super) async fn keep_fresh(&self) {
        if self.files.is_none() {
            return std::future::pending().await;
        }
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tick.tick().await;
            match self.reload().await {
                Ok(renewed) => {
                    if renewed {
                        tracing::info!("the serving certificate was renewed");
                    }
                    told = None;
                }
                Err(error) => {
                    // Once for each thing that is wrong, not every 10 seconds.
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "the serving certificate cannot be renewed; the last one stays"
                        );
                    }
                    told = Some(error);
                }
            }
        }
    }

    /// Looks at the files now, as a listener does every 10 seconds: for programs that are told when they have changed. True: the
    /// certificate is another than the last. Certificates that are not from files stay.
    ///
    /// # Errors
    /// When the files cannot be used; the last certificate stays.
    pub async fn reload(&self) -> Result<bool, CertificateError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let (certificate, key) = (read(&files.certificate).await?, read(&files.key).await?);
        self.show(Pem {
            certificate: (&files.certificate.display().to_string(), &certificate),
            key: (&files.key.display().to_string(), &key),
        })
    }

    fn show(&self, pem: Pem<'_>) -> Result<bool, CertificateError> {
        let new = pem.parse()?;
        // The key belongs to the certificate, so the same certificate has the same key.
        if self
            .shown
            .0
            .load()
            .as_deref()
            .is_some_and(|old| old.cert == new.cert)
        {
            return Ok(false);
        }
        self.shown.0.store(Some(Arc::new(new)));
        Ok(true)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl Pem<'_> {
    fn parse(&self) -> Result<CertifiedKey, CertificateError> {
        let of_certificate = |why: String| CertificateError::Certificate {
            origin: self.certificate.0.to_owned(),
            why,
        };
        let of_key = |why: String| CertificateError::Key {
            origin: self.key.0.to_owned(),
            why,
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.1).collect();
        let chain = chain.map_err(|error| of_certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(of_certificate("there is none in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.1).map_err(|error| of_key(error.to_string()))?;
        let key = ring::sign::any_supported_type(&key).map_err(|error| of_key(error.to_string()))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(pair),
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch {
                certificate: self.certificate.0.to_owned(),
                key: self.key.0.to_owned(),
            }),
            Err(error) => Err(of_certificate(error.to_string())),
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path)
        .await
        .map_err(|cause| CertificateError::File {
            path: path.display().to_string(),
            cause,
        })
}

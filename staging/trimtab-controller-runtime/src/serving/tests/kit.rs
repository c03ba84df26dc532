//! What the tests share: requests without connections, connections without sockets, certificates.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::super::{Certificates, Response, Router, serve_stream};

/// What a client makes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: text.to_owned(),
        }
    }

    pub(super) async fn of(response: Response) -> Self {
        let code = response.status().as_u16();
        let body = response.into_body().bytes().await.expect("a whole body");
        Self::new(code, &String::from_utf8_lossy(&body))
    }

    pub(super) async fn received(response: http::Response<Incoming>) -> Self {
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole body");
        Self::new(code, &String::from_utf8_lossy(&body.to_bytes()))
    }
}

pub(super) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("host", "localhost")
        .body(Empty::new())
        .expect("a request")
}

pub(super) fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .body(Full::from(body.to_owned()))
        .expect("a request")
}

/// An authority and a certificate of it for `localhost`, as PEM.
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate and its key.
    pub(super) fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn client(&self, protocol: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        roots.add(der).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// Connects by TLS, over a pipe.
    pub(super) async fn connect(
        &self,
        certificates: &Certificates,
        protocol: &[u8],
        router: Router,
    ) -> std::io::Result<TlsStream<DuplexStream>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let certificates = certificates.clone();
        tokio::spawn(async move {
            serve_stream(theirs, Some(&certificates), router, CancellationToken::new()).await
        });
        self.handshake(protocol, ours).await
    }

    /// The client's side of a handshake.
    pub(super) async fn handshake(
        &self,
        protocol: &[u8],
        stream: DuplexStream,
    ) -> std::io::Result<TlsStream<DuplexStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        self.client(protocol).connect(name, stream).await
    }
}

/// A client's side of a connection over a pipe, HTTP/1.1 in clear.
pub(super) async fn pipe(router: Router, stop: CancellationToken) -> http1::SendRequest<Empty<Bytes>> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve_stream(theirs, None, router, stop));
    over(ours).await
}

/// HTTP/1.1 over a stream.
pub(super) async fn over<S>(stream: S) -> http1::SendRequest<Empty<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

/// HTTP/2 over a stream.
pub(super) async fn over_2<S>(stream: S) -> http2::SendRequest<Empty<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

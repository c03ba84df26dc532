//! The server as the API server meets it: over TLS, with a certificate of its own or a given one.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_controller_runtime::serving::{Certificates, Health, Router, serve_stream};

use super::api::Api;
use super::routes::{VALIDATE, question, webhooks};
use crate::{Provisioner, Target, WebhookServer};

/// Asks over TLS, trusting these authorities only.
pub(super) async fn ask<S>(stream: S, bundle: &str, name: &str, question: Value) -> Result<Value, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = ServerName::try_from(name.to_owned()).expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("https://{name}{VALIDATE}?timeout=10s"))
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(question.to_string()));
    let response = sender.send_request(request.expect("a request")).await;
    let response = response.map_err(|error| error.to_string())?;
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    connection.abort();
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}

/// All that an end-to-end test needs: a free port, a certificate made here, its authorities read out.
#[tokio::test]
async fn a_server_of_its_own_means() {
    let host = Target::url("https://127.0.0.1").expect("a URL");
    let provisioner = Provisioner::in_memory(&host);
    let server = WebhookServer::bind("127.0.0.1:0", &webhooks(), provisioner)
        .await
        .expect("a free port");
    let address = server.address();
    let bundle = server.ca_bundle().expect("authorities");
    let target = Target::url(format!("https://{address}")).expect("a URL");
    let manifests = webhooks()
        .manifests(&target)
        .expect("good webhooks")
        .with_ca_bundle(&bundle);
    let validating = manifests.validating.expect("some").webhooks.expect("some");
    assert_eq!(
        validating[0].client_config.url,
        Some(format!("https://{address}{VALIDATE}"))
    );

    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.run(stop.clone()));
    let connect = || async { TcpStream::connect(address).await.expect("a connection") };
    let answer = ask(connect().await, &bundle, "127.0.0.1", question("t")).await;
    assert_eq!(answer.expect("an answer")["response"]["allowed"], json!(true));
    let refused = ask(connect().await, &bundle, "127.0.0.1", question("forbidden")).await;
    assert_eq!(
        refused.expect("an answer")["response"]["status"]["code"],
        json!(403)
    );
    let other = Provisioner::in_memory(&host);
    other.refresh().await.expect("certificates");
    let distrusted = ask(
        connect().await,
        &other.ca_bundle().expect("authorities"),
        "127.0.0.1",
        question("t"),
    )
    .await;
    assert!(distrusted.is_err());
    stop.cancel();
    serving.await.expect("no panic").expect("nothing to cut off");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_ready_when_it_has_a_certificate() {
    let api = Api::default();
    let target = Target::service("web", "w");
    let secret = ObjectKey::namespaced("web", "certs");
    let provisioner = Provisioner::in_secret(api.client(), secret, &target);
    let health = Health::new();
    let server = WebhookServer::bind("127.0.0.1:0", &webhooks(), provisioner.clone())
        .await
        .expect("a free port");
    server.health(&health).expect("a new name");
    let router = health.routes(Router::new()).expect("new paths");
    let ready = || async {
        let request = Request::get("/readyz/webhook").body(Full::<Bytes>::default());
        router.answer(request.expect("a request")).await.status().as_u16()
    };
    assert_eq!(ready().await, 500);
    assert_eq!(server.ca_bundle(), None);
    provisioner.refresh().await.expect("certificates");
    assert_eq!(ready().await, 200);
    assert!(server.ca_bundle().is_some());
}

/// A certificate from elsewhere, replaced while the server runs; over a pipe.
#[tokio::test(start_paused = true)]
async fn a_given_certificate_is_shown_and_replaced() {
    let target = Target::service("web", "w");
    let certificates = Certificates::new();
    let router = webhooks().router().expect("a router");
    let ask_over_pipe = async |bundle: &str| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (certificates, router) = (certificates.clone(), router.clone());
        tokio::spawn(async move {
            serve_stream(theirs, Some(&certificates), router, CancellationToken::new()).await
        });
        ask(ours, bundle, "w.web.svc", question("t")).await
    };
    let mut bundles = Vec::new();
    for _ in 0..2 {
        // Somebody else's authority.
        let api = Api::default();
        let secret = ObjectKey::namespaced("web", "certs");
        let elsewhere = Provisioner::in_secret(api.client(), secret, &target);
        elsewhere.refresh().await.expect("certificates");
        let kept = api.get("/api/v1/namespaces/web/secrets/certs");
        let part = |key: &str| {
            use base64::Engine as _;
            let text = kept["data"][key].as_str().expect("text");
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .expect("base64")
        };
        certificates
            .replace(&part("tls.crt"), &part("tls.key"))
            .expect("a pair");
        let bundle = elsewhere.ca_bundle().expect("authorities");
        assert!(ask_over_pipe(&bundle).await.is_ok());
        bundles.push(bundle);
    }
    assert!(ask_over_pipe(&bundles[0]).await.is_err());
}

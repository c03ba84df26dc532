//! Connections that become something else on their way through.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use trimtab_apiserver_auth::certs::Authority;

use crate::kit::{World, connect};

/// Says back what it hears on connections that are upgraded, and that all is well to all others.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let answer = Response::builder();
    match request.uri().path() {
        "/openapi/v3" => {
            let missing = answer.status(StatusCode::NOT_FOUND).body(Full::default());
            return Ok(missing.expect("an answer"));
        }
        "/apis/samples.test/v1/redirect" => {
            let answer = answer
                .status(StatusCode::TEMPORARY_REDIRECT)
                .header("location", "/else");
            return Ok(answer.body("elsewhere".into()).expect("an answer"));
        }
        "/apis/samples.test/v1/unchanged" => {
            let answer = answer.status(StatusCode::NOT_MODIFIED).body(Full::default());
            return Ok(answer.expect("an answer"));
        }
        "/openapi/v2" => {
            let old = r#"{"swagger": "2.0", "paths": {"/apis/samples.test/v1/things": {"get": {"description": "old"}}}}"#;
            return Ok(Response::new(Full::from(old)));
        }
        _ => {}
    }
    if request.headers().get(UPGRADE).is_none() {
        return Ok(Response::new(Full::from(format!("{:?}", request.version()))));
    }
    let user = request.headers()["x-remote-user"].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut both = TokioIo::new(upgrade.await.expect("is upgraded"));
        both.write_all(user.as_bytes()).await.expect("writes");
        let mut heard = [0; 5];
        both.read_exact(&mut heard).await.expect("reads");
        both.write_all(&heard).await.expect("writes");
        both.shutdown().await.expect("ends");
    });
    let answer = answer
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "echo");
    Ok(answer.body(Full::default()).expect("an answer"))
}

/// A server that speaks HTTP/1.1, and HTTP/2 if asked; answers its port and its authority.
async fn serve() -> (u16, String) {
    let authority = Authority::generate().expect("made");
    let pair = authority
        .serving(&["sample.default.svc".to_owned()])
        .expect("made");
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
    let chain: Vec<_> = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("fit");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("listens").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else {
                    return;
                };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = TokioIo::new(stream);
                let _ = if is_http2 {
                    let executor = hyper_util::rt::TokioExecutor::new();
                    hyper::server::conn::http2::Builder::new(executor)
                        .serve_connection(stream, service_fn(echo))
                        .await
                } else {
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(stream, service_fn(echo))
                        .with_upgrades()
                        .await
                };
            });
        }
    });
    (port, authority.certificate().to_owned())
}

#[tokio::test]
async fn redirects_are_refused_unless_they_are_to_be_passed_on() {
    let path = "/apis/samples.test/v1/redirect";
    for (world, code, text) in [
        (
            World::new().await,
            502,
            "the backend attempted to redirect this request, which is not permitted",
        ),
        (World::redirecting().await, 307, "elsewhere"),
    ] {
        let (port, authority) = serve().await;
        world.register(port, &authority).await;
        world.reason("v1.samples.test", "Passed").await;
        let answer = world.get(path).await;
        assert_eq!((answer.code.as_u16(), answer.text.as_str()), (code, text));
        // What leads nowhere is no redirect.
        assert_eq!(
            world.get("/apis/samples.test/v1/unchanged").await.code.as_u16(),
            304
        );
        world.server.shutdown().await.expect("stops");
    }
}

#[tokio::test]
async fn an_upgrade_goes_through_and_everything_else_by_http_2() {
    let world = World::new().await;
    let (port, authority) = serve().await;
    world.register(port, &authority).await;
    world.reason("v1.samples.test", "Passed").await;
    let path = "/apis/samples.test/v1/namespaces/default/things/a/connect";
    assert_eq!(world.get(path).await.text, "HTTP/2.0");
    // A server that has OpenAPI in the old format only has it in the new one as well.
    let url = world
        .eventually("/openapi/v3", |answer| {
            let entry = answer.json["paths"]["apis/samples.test/v1"]["serverRelativeURL"].as_str();
            entry.map(str::to_owned)
        })
        .await;
    let converted = world.get(&url).await.json;
    assert_eq!(converted["openapi"], "3.0.0", "{converted}");
    assert_eq!(
        converted["paths"]["/apis/samples.test/v1/things"]["get"]["description"],
        "old"
    );

    let (mut sender, connection) = connect(
        world.server.address().expect("listens"),
        world.server.certificate_authority(),
    )
    .await;
    let request = Request::get(path)
        .header("host", "localhost")
        .header(AUTHORIZATION, "Bearer root-token")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "echo")
        .header("x-remote-user", "mallory")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let mut response = sender.send_request(request).await.expect("answers");
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        panic!("not upgraded: {}", String::from_utf8_lossy(&body));
    }
    assert_eq!(response.headers()[UPGRADE], "echo");
    let mut both = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("is upgraded"));
    both.write_all(b"hello").await.expect("writes");
    let mut heard = String::new();
    both.read_to_string(&mut heard).await.expect("reads");
    assert_eq!(heard, "roothello");
    drop(both);
    let _ = connection.await;
    world.server.shutdown().await.expect("stops");
}

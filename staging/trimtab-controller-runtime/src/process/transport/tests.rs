//! Which connections there are, to servers of several kinds on real sockets.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;

use futures::StreamExt as _;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::*;

/// A server that answers with the version that it was spoken to in; in one that never ends, for `/watch`.
struct Server {
    config: Config,
    connections: Arc<AtomicUsize>,
    /// Cuts off all connections there are; those to come have the next one.
    cut: Arc<parking_lot::Mutex<CancellationToken>>,
    _stops: tokio_util::sync::DropGuard,
}

impl Server {
    /// One that offers these protocols; without any, one without TLS.
    async fn start(protocols: &[&[u8]]) -> Self {
        Self::allowing(protocols, 100).await
    }

    /// One that allows so many requests at a time on a connection.
    async fn allowing(protocols: &[&[u8]], requests: u32) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate and its key");
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = (!protocols.is_empty()).then(|| TlsAcceptor::from(Arc::new(tls)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if protocols.is_empty() { "http" } else { "https" };
        let mut config = Config::new(format!("{scheme}://localhost:{port}").parse().expect("a URL"));
        config.root_cert = Some(vec![cert.der().to_vec()]);
        let (connections, cut) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let stop = CancellationToken::new();
        let server = Self {
            config,
            connections: connections.clone(),
            cut: Arc::clone(&cut),
            _stops: stop.clone().drop_guard(),
        };
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _earlier = connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, cut) = (acceptor.clone(), cut.lock().clone());
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    match acceptor {
                        None => serve(stream, None).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else {
                                return;
                            };
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
                            serve(stream, http2.then_some(requests)).await;
                        }
                    }
                }));
            }
        }));
        server
    }

    fn client(&self) -> Client {
        client(self.config.clone()).expect("a client")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn cut_off(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, http2: Option<u32>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let version = format!("{:?}", request.version());
        let body = if request.uri().path() == "/watch" {
            let never = poll_fn(|_| Poll::<Option<Result<Frame<Bytes>, Infallible>>>::Pending);
            http_body_util::StreamBody::new(futures::stream::once(never).filter_map(std::future::ready))
                .boxed_unsync()
        } else {
            Full::from(version).boxed_unsync()
        };
        Ok::<_, Infallible>(Response::new(body))
    });
    let stream = TokioIo::new(stream);
    let _ended = if let Some(requests) = http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(requests)
            .serve_connection(stream, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(stream, service)
            .await
    };
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

async fn version(client: &Client, request: Request<Body>) -> String {
    let answer = client.send(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a whole body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

#[tokio::test]
async fn the_best_version_is_spoken_that_the_server_knows() {
    for (protocols, expected) in [
        (&[HTTP2, HTTP1][..], "HTTP/2.0"),
        (&[HTTP2], "HTTP/2.0"),
        (&[HTTP1], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let server = Server::start(protocols).await;
        let client = server.client();
        for _ in 0..2 {
            assert_eq!(version(&client, get("/")).await, expected, "{protocols:?}");
        }
    }
}

#[tokio::test]
async fn what_becomes_something_else_is_asked_for_in_http_1() {
    let server = Server::start(&[HTTP2, HTTP1]).await;
    let client = server.client();
    let mut request = get("/");
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    assert_eq!(version(&client, request).await, "HTTP/1.1");
    assert_eq!(version(&client, get("/")).await, "HTTP/2.0");
}

#[tokio::test]
async fn requests_share_as_few_connections_as_have_room_for_them() {
    let most = SHARE_A_CONNECTION as u32;
    for (allowed, watches, expected) in [
        (100, 1, 1),
        (100, 99, 1),
        (100, 100, 2),
        (10, 20, 3),
        (1, 3, 4),
        (2 * most, SHARE_A_CONNECTION, 2),
    ] {
        let server = Server::allowing(&[HTTP2], allowed).await;
        let client = server.client();
        let held = join_all((0..watches).map(|_| client.send(get("/watch")))).await;
        for _ in 0..3 {
            assert_eq!(version(&client, get("/")).await, "HTTP/2.0");
        }
        assert_eq!(
            server.connections(),
            expected,
            "{watches} watches, {allowed} allowed"
        );
        // What they had is there for others.
        drop(held);
        let again = join_all((0..watches).map(|_| client.send(get("/watch")))).await;
        assert!(
            again.iter().all(Result::is_ok),
            "{watches} watches, {allowed} allowed"
        );
        assert_eq!(
            server.connections(),
            expected,
            "{watches} watches once more, {allowed} allowed"
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_off_is_replaced() {
    let server = Server::start(&[HTTP2]).await;
    let client = server.client();
    let watch = client.send(get("/watch")).await.expect("an answer");
    server.cut_off();
    // Its end is seen here before the next request.
    assert!(watch.into_body().collect().await.is_err(), "the watch is cut off");
    assert_eq!(version(&client, get("/")).await, "HTTP/2.0");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let server = Server::start(&[HTTP2]).await;
    let mut config = server.config.clone();
    config.root_cert = None;
    let strange = client(config).expect("a client").send(get("/")).await;
    assert!(strange.is_err(), "nobody answers for its certificate");
    assert_eq!(version(&server.client(), get("/")).await, "HTTP/2.0");
}

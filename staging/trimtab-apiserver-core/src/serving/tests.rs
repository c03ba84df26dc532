//! What clients cannot do to a server, on loopback: clients that begin and do not go on, that do not end, that ask for too
//! much. Time is paused: where nothing happens it goes on to what is waited for next.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::ApiServer;
use crate::auth::Mode;
use crate::limits::Limits;

type Tls = TlsStream<TcpStream>;

/// Longer than anything that is waited for here; in paused time.
const LONG: Duration = Duration::from_secs(600);

async fn server(limits: Limits) -> ApiServer {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = ApiServer::builder(store).bind(address).limits(limits);
    let server = server.authorization(Mode::AlwaysAllow);
    server.start().await.expect("starts")
}

async fn connect(server: &ApiServer) -> TcpStream {
    TcpStream::connect(server.address().expect("it listens"))
        .await
        .expect("connects")
}

/// A connection by TLS, by HTTP/1 or HTTP/2.
async fn tls(server: &ApiServer, protocol: &str) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    let ca =
        CertificateDer::from_pem_slice(server.certificate_authority().as_bytes()).expect("a certificate");
    roots.add(ca).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let connected = TlsConnector::from(Arc::new(config)).connect(name, connect(server).await);
    connected.await.expect("a handshake")
}

/// All that comes until the connection ends, however it ends.
async fn to_the_end(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    let reading = async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(n) => all.extend_from_slice(&piece[..n]),
            }
        }
    };
    timeout(LONG, reading).await.expect("the server ends it");
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(start_paused = true)]
async fn who_does_not_shake_hands_is_cut_off() {
    let server = server(Limits::default()).await;
    let silent = connect(&server).await;
    assert_eq!(to_the_end(silent).await, b"");
    let mut half = connect(&server).await;
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("goes");
    to_the_end(half).await;
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_begin_is_not_waited_for() {
    let server = server(Limits::default()).await;
    let idle = tls(&server, "http/1.1").await;
    assert_eq!(to_the_end(idle).await, b"");
    let mut used = tls(&server, "http/1.1").await;
    let head = b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n";
    used.write_all(head).await.expect("goes");
    let answer = text(&to_the_end(used).await);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let server = server(Limits::default()).await;
    let stream = tls(&server, "http/1.1").await;
    let (mut reads, mut writes) = tokio::io::split(stream);
    let drip = async {
        let _ = writes.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n").await;
        // A byte every few seconds is no excuse.
        while writes.write_all(b"x").await.is_ok() && writes.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let (answer, ()) = tokio::join!(to_the_end(&mut reads), timeout(LONG, drip).map(|_| ()));
    let answer = text(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_is_refused() {
    let server = server(Limits::default()).await;
    let many = "a: b\r\n".repeat(1000);
    let long = format!("a: {}\r\n", "x".repeat(2 << 20));
    for head in [many, long] {
        let stream = tls(&server, "http/1.1").await;
        let (reads, mut writes) = tokio::io::split(stream);
        let head = format!("GET /version HTTP/1.1\r\nhost: a\r\n{head}\r\n");
        let writing = async {
            let _ = writes.write_all(head.as_bytes()).await; // it may be cut off before
            let _ = writes.flush().await;
        };
        let (answer, ()) = tokio::join!(to_the_end(reads), writing);
        let answer = text(&answer);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_has_as_long_as_the_request() {
    let server = server(Limits::default()).await;
    for (query, seconds) in [("", 60), ("?timeout=5s", 5), ("?timeout=10m", 60)] {
        let mut stream = tls(&server, "http/1.1").await;
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let head = format!(
            "POST {path}{query} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
        );
        let began = Instant::now();
        stream.write_all(head.as_bytes()).await.expect("goes");
        let answer = text(&to_the_end(stream).await);
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        let why = "request did not complete within the allotted timeout";
        assert!(answer.contains(why), "{answer}");
        let took = began.elapsed();
        let due = Duration::from_secs(seconds);
        assert!(took >= due && took < due * 2, "{query}: {took:?}");
    }
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_connections_and_no_more() {
    let limits = Limits {
        max_connections: 2,
        ..Limits::default()
    };
    let server = server(limits).await;
    let first = tls(&server, "http/1.1").await;
    let _second = tls(&server, "http/1.1").await;
    let mut third = Box::pin(tls(&server, "http/1.1"));
    for _ in 0..100 {
        assert!(futures::poll!(&mut third).is_pending(), "there is no place");
        tokio::task::yield_now().await;
    }
    drop(first);
    timeout(LONG, third).await.expect("there is one now");
    server.shutdown().await.expect("stops");
}

// === HTTP/2, frame by frame ===

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The frames in what came: their kinds and payloads.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let length = length.min(rest.len());
        all.push((head[3], rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    all
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_of_http2_is_closed_and_says_how_many_requests_it_takes() {
    let limits = Limits {
        http2_max_streams: 7,
        ..Limits::default()
    };
    let server = server(limits).await;
    let mut stream = tls(&server, "h2").await;
    let began = Instant::now();
    stream.write_all(PREFACE).await.expect("goes");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("goes");
    let mut came = Vec::new();
    let mut piece = [0; 4096];
    let reading = async {
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            for (kind, payload) in frames(&piece[..n]) {
                // It shows that it is alive, and asks for nothing.
                if kind == PING {
                    let _ = stream.write_all(&frame(PING, 1, 0, &payload)).await;
                }
                came.push((kind, payload));
            }
        }
    };
    timeout(LONG, reading).await.expect("the server ends it");
    assert!(
        began.elapsed() >= Duration::from_secs(90),
        "{:?}",
        began.elapsed()
    );
    assert!(came.iter().any(|(kind, _)| *kind == GOAWAY), "it says goodbye");
    let settings = came.iter().find(|(kind, _)| *kind == SETTINGS);
    let (_, settings) = settings.expect("it begins with them");
    // SETTINGS_MAX_CONCURRENT_STREAMS
    assert!(
        settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 7]),
        "{settings:?}"
    );
    server.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_that_are_reset_at_once_ends_the_connection() {
    let server = server(Limits::default()).await;
    let stream = tls(&server, "h2").await;
    let (reads, mut writes) = tokio::io::split(stream);
    let flood = async {
        let mut all = PREFACE.to_vec();
        all.extend(frame(SETTINGS, 0, 0, &[]));
        for i in 0..500 {
            // GET https / with the end of the stream, and never mind.
            all.extend(frame(HEADERS, 5, 2 * i + 1, &[0x82, 0x87, 0x84]));
            all.extend(frame(RST_STREAM, 0, 2 * i + 1, &[0, 0, 0, 8]));
        }
        let _ = writes.write_all(&all).await; // it may be cut off before
        let _ = writes.flush().await;
    };
    let (came, ()) = tokio::join!(to_the_end(reads), flood);
    let came = frames(&came);
    let last = came.iter().rev().find(|(kind, _)| *kind == GOAWAY);
    let (_, why) = last.expect("it says goodbye");
    assert_eq!(why[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    server.shutdown().await.expect("stops");
}

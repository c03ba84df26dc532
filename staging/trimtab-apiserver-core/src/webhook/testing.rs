//! A webhook for tests: a small TLS server on a free port that answers as a function says, and keeps what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_auth::certs::{Authority, Pair};

/// What the server does about a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Json(Value),
    Raw {
        code: u16,
        content_type: &'static str,
        body: Bytes,
    },
    /// Nothing, ever.
    Never,
}

impl Reply {
    pub(crate) fn raw(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::Raw {
            code,
            content_type,
            body,
        }
    }
}

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path_and_query: String,
    pub(crate) content_type: String,
    pub(crate) agent: String,
    pub(crate) body: Value,
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server; it ends when this is dropped.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    /// The certificates (PEM) by which it is known.
    pub(crate) authority: String,
    state: Arc<State>,
    stop: CancellationToken,
}

struct State {
    answer: Box<Answer>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hook {
    /// A server with a certificate of an authority of its own, for 127.0.0.1 and the Service `hook` in `default`.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::generate().expect("an authority");
        let names = ["127.0.0.1", "hook.default.svc"].map(str::to_owned);
        let pair = authority.serving(&names).expect("a certificate");
        Self::with(pair, authority.certificate().to_owned(), answer).await
    }

    /// A server that shows this certificate.
    pub(crate) async fn with(
        pair: Pair,
        authority: String,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they fit");
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            answer: Box::new(answer),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, tls, state.clone(), stop.clone()));
        Self {
            address,
            authority,
            state,
            stop,
        }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }

    /// All requests so far, which are forgotten.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock())
    }

    /// How many connections have been made.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// A `clientConfig` for it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({
            "url": format!("https://{}{path}", self.address),
            "caBundle": STANDARD.encode(&self.authority),
        })
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { return };
        let (tls, state) = (tls.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            state.connections.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(|request| answer(&state, request));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let header = |name: http::HeaderName| {
        let value = head.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let asked = Asked {
        path_and_query: head.uri.to_string(),
        content_type: header(http::header::CONTENT_TYPE),
        agent: header(http::header::USER_AGENT),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let reply = (state.answer)(&asked);
    state.asked.lock().push(asked);
    let (code, content_type, body) = match reply {
        Reply::Json(value) => (200, "application/json", Bytes::from(value.to_string())),
        Reply::Raw {
            code,
            content_type,
            body,
        } => (code, content_type, body),
        Reply::Never => std::future::pending().await,
    };
    let response = Response::builder()
        .status(code)
        .header(http::header::CONTENT_TYPE, content_type);
    Ok(response.body(Full::from(body)).expect("a response"))
}

//! How requests reach the server: over as few connections as it allows.
//!
//! A connection costs some 100 KiB here and as much there, and a controller has a watch for each kind. Where the server speaks HTTP/2,
//! watches and requests share connections, as those of Kubernetes' own clients do; kube's own client takes a connection for each.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::Config;
use kube::{Client, Error};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

/// The most requests that share a connection, if the server allows more or does not say how many: what Go's server allows.
const SHARE_A_CONNECTION: usize = 250;
/// client-go's `HTTP2_READ_IDLE_TIMEOUT_SECONDS`: a server that says nothing for so long is asked whether it is there.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// client-go's `HTTP2_PING_TIMEOUT_SECONDS`: the connection is given up without an answer.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);
/// How long to wait for a server's first word if the configuration does not say it; kube's own default.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How often to look whether the server has said how many requests it allows.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Idle connections that are kept to a server without HTTP/2; client-go's `MaxIdleConnsPerHost`.
const IDLE_CONNECTIONS: usize = 25;

type Connector = TimeoutConnector<HttpsConnector<HttpConnector>>;
type Stream = <Connector as Service<Uri>>::Response;

/// A client whose requests share connections.
pub(super) fn client(config: Config) -> Result<Client, Error> {
    // kube alone knows how to speak through proxies, and for how long the certificate that a command printed is valid.
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .default_retry
                .then(|| RetryLayer::new(RetryPolicy::server_retry())),
        )
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Transport::new(&config)?);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

#[derive(Clone)]
struct Transport(Arc<Connections>);

struct Connections {
    server: Uri,
    connect_within: Duration,
    connector: Connector,
    /// None if the server was found not to speak HTTP/2, or there is no TLS by which it could say so.
    shared: Mutex<Option<Vec<Shared>>>,
    /// For servers without HTTP/2, and for what becomes something else than HTTP, which HTTP/2 has no way for.
    http1: legacy::Client<Connector, Body>,
}

/// A connection that requests share.
struct Shared {
    sender: http2::SendRequest<Body>,
    /// Held by each of its requests until it is answered whole, and what the server allows of them.
    requests: Arc<AtomicUsize>,
}

impl Shared {
    /// Greets the server, and waits until it has said how many requests it allows at a time.
    async fn open(stream: Stream) -> Result<Self, BoxError> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ASK_AFTER)
            .keep_alive_timeout(GIVE_UP_AFTER)
            .keep_alive_while_idle(true)
            .initial_max_send_streams(0)
            .handshake(stream)
            .await?;
        // It is in the server's first frame. Hyper wakes nobody when that has come.
        while connection.current_max_send_streams() == 0 {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    let closed = || BoxError::from("the server closed the connection at once");
                    return Err(ended.err().map_or_else(closed, BoxError::from));
                }
                () = sleep(LOOK_EVERY) => {}
            }
        }
        let requests = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let allowed = Arc::downgrade(&requests);
        // Ends with the last sender and the last answer.
        tokio::spawn(poll_fn(move |cx| {
            let ended = connection.poll_unpin(cx);
            if let Some(allowed) = allowed.upgrade() {
                allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
            }
            ended.map(|ended| {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the server ended");
                }
            })
        }));
        Ok(Self { sender, requests })
    }

    fn has_room(&self) -> bool {
        let allowed = self.requests.load(Ordering::Relaxed).min(SHARE_A_CONNECTION);
        Arc::strong_count(&self.requests) <= allowed
    }
}

impl Transport {
    fn new(config: &Config) -> Result<Self, Error> {
        let http1 = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector(config, false)?);
        let is_plain = config.cluster_url.scheme() == Some(&http::uri::Scheme::HTTP);
        Ok(Self(Arc::new(Connections {
            server: config.cluster_url.clone(),
            connect_within: config.connect_timeout.unwrap_or(CONNECT_WITHIN),
            connector: connector(config, true)?,
            shared: Mutex::new((!is_plain).then(Vec::new)),
            http1,
        })))
    }
}

fn connector(config: &Config, http2: bool) -> Result<Connector, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into();
        let name =
            name.map_err(|error| Error::RustlsTls(kube::client::RustlsTlsError::InvalidServerName(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let tls = if http2 {
        builder.enable_all_versions().wrap_connector(tcp)
    } else {
        builder.enable_http1().wrap_connector(tcp)
    };
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    Ok(connector)
}

impl Connections {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Counted>, BoxError> {
        let becomes_something_else = request.headers().contains_key(header::UPGRADE);
        if becomes_something_else {
            return self.send_alone(request).await;
        }
        while let Some((mut sender, counted)) = self.share().await? {
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    let _request = Some(counted);
                    return Ok(answer.map(|body| Counted { body, _request }));
                }
                // The connection was closed meanwhile, and the server has seen nothing of the request.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        self.send_alone(request).await
    }

    /// On a connection that it has for itself.
    async fn send_alone(&self, request: Request<Body>) -> Result<Response<Counted>, BoxError> {
        let answer = self.http1.request(request).await?;
        Ok(answer.map(|body| Counted { body, _request: None }))
    }

    /// A connection with room for one more request; none if the server has no HTTP/2. Cancel safe.
    async fn share(&self) -> Result<Option<(http2::SendRequest<Body>, Arc<AtomicUsize>)>, BoxError> {
        // Whoever finds no room connects, while the others wait for that.
        let mut guard = self.shared.lock().await;
        let Some(shared) = &mut *guard else {
            return Ok(None);
        };
        shared.retain(|connection| !connection.sender.is_closed());
        let free = match shared.iter().position(Shared::has_room) {
            Some(free) => free,
            None => {
                let stream = self.connector.clone().oneshot(self.server.clone()).await?;
                if !stream.connected().is_negotiated_h2() {
                    *guard = None;
                    return Ok(None);
                }
                let within = self.connect_within;
                let opened = timeout(within, Shared::open(stream)).await;
                let silent = |_| format!("the server took the connection, but said nothing for {within:?}");
                shared.push(opened.map_err(silent)??);
                shared.len() - 1
            }
        };
        let free = &shared[free];
        Ok(Some((free.sender.clone(), free.requests.clone())))
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Counted>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connections = self.0.clone();
        async move { connections.send(request).await }.boxed()
    }
}

/// The body of an answer, which has its share of a connection until it ends.
struct Counted {
    body: Incoming,
    _request: Option<Arc<AtomicUsize>>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

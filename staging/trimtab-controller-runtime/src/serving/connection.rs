//! One connection, from its handshake to its end: TLS, HTTP/1.1 or HTTP/2, idling, and a stop that lets requests end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Response};
use super::certificates::Certificates;
use super::error::ServeError;
use super::router::Router;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take; controller-runtime's figure.
const HEAD: Duration = Duration::from_secs(32);
/// How long a connection may be without a request; controller-runtime's figure.
const IDLE: Duration = Duration::from_secs(90);
/// How long a connection that idles has to take leave.
const LEAVE: Duration = Duration::from_secs(5);
/// Streams that one HTTP/2 connection may have open; kube-apiserver's default.
const MAX_STREAMS: u32 = 250;
/// A silent HTTP/2 connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves one connection that is there already, as in a test without sockets; with TLS if there are certificates, which
/// are not looked at again while it lasts. Returns when the connection has ended; after `stop` no further request of it
/// is answered.
///
/// # Errors
/// [`ServeError::Tls`].
pub async fn serve_stream<S>(
    stream: S,
    tls: Option<&Certificates>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tls = match tls {
        Some(certificates) => Some(Arc::new(certificates.server_config()?)),
        None => None,
    };
    connection(stream, tls, router, stop).await;
    Ok(())
}

/// Serves one connection until it ends; how it ended is nobody's concern but the log's.
pub(super) async fn connection<S>(
    stream: S,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(config) = tls else {
        return http_1(stream, router, stop).await;
    };
    let handshake = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream));
    let stream = match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => return tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) => return tracing::debug!("a TLS handshake took too long"),
        None => return,
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http_2(stream, router, stop).await;
    } else {
        http_1(stream, router, stop).await;
    }
}

async fn http_1<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let life = Life::new(router, stop);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let answers = life.clone();
    let service = service_fn(move |request| answers.clone().answer(request));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    life.run(served, |served| served.graceful_shutdown()).await;
}

async fn http_2<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let life = Life::new(router, stop);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .adaptive_window(true);
    let answers = life.clone();
    let service = service_fn(move |request| answers.clone().answer(request));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    life.run(served, |served| served.graceful_shutdown()).await;
}

/// What the requests of one connection share, and when it has been without any for too long.
#[derive(Clone)]
struct Life {
    router: Router,
    stop: CancellationToken,
    activity: Arc<Mutex<Activity>>,
}

struct Activity {
    /// Requests whose answers have not been sent.
    open: usize,
    /// When there was one the last time.
    last: Instant,
}

/// A request whose answer has not been sent.
struct Open(Arc<Mutex<Activity>>);

impl Life {
    fn new(router: Router, stop: CancellationToken) -> Self {
        let activity = Activity {
            open: 0,
            last: Instant::now(),
        };
        Self {
            router,
            stop,
            activity: Arc::new(Mutex::new(activity)),
        }
    }

    async fn answer(self, request: http::Request<Incoming>) -> Result<Response, Infallible> {
        let open = Open::new(&self.activity);
        let response = self.router.answer(request).await;
        Ok(response.map(|body: Body| body.sent(&self.stop, Box::new(open))))
    }

    /// Runs a connection to its end; `leave` has it end after the requests that are under way.
    async fn run<C>(&self, connection: C, leave: fn(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                leave(connection.as_mut());
                connection.await
            }
            () = self.idles() => {
                leave(connection.as_mut());
                timeout(LEAVE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    /// Returns when there has been no request for a while.
    async fn idles(&self) {
        loop {
            let (open, last) = {
                let activity = self.activity.lock();
                (activity.open, activity.last)
            };
            let now = Instant::now();
            let until = if open > 0 { now + IDLE } else { last + IDLE };
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

impl Open {
    fn new(activity: &Arc<Mutex<Activity>>) -> Self {
        activity.lock().open += 1;
        Self(activity.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut activity = self.0.lock();
        activity.open -= 1;
        activity.last = Instant::now();
    }
}

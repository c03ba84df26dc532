//! Serving over TLS: the listener, connections, and a stop that lets requests finish.

mod kubeconfig;
mod peers;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::{Api, Peer};

pub(crate) use kubeconfig::kubeconfig;
pub(crate) use peers::Peers;
pub(crate) use tls::server_config;

/// A client that has not finished its TLS handshake, or a request's head, after this long is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one HTTP/2 connection may have open, watches included; kube-apiserver's default.
const MAX_STREAMS: u32 = 250;
/// An idle HTTP/2 connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves connections until `stop`; then lets requests finish, for `grace` at most.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    api: Arc<Api>,
    peers: Arc<Peers>,
    stop: CancellationToken,
    grace: Duration,
) {
    let graceful = GracefulShutdown::new();
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (tls, api, watcher) = (tls.clone(), api.clone(), graceful.watcher());
                connections.spawn(connection(stream, tls, api, peers.clone(), watcher, stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: some connection has to end first.
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let ended = async {
        graceful.shutdown().await;
        connections.wait().await;
    };
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "requests did not finish in time and are cut off"
        );
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    api: Arc<Api>,
    peers: Arc<Peers>,
    watcher: hyper_util::server::graceful::Watcher,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true); // without it answers wait; nothing depends on it
    let handshake = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream));
    let stream = tokio::select! {
        () = stop.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        },
    };
    let shown = stream.get_ref().1.peer_certificates();
    let peer = shown.map(|chain| peers.of(chain)).unwrap_or_default();
    let service = service_fn(move |request| {
        let (api, peer): (Arc<Api>, Peer) = (api.clone(), peer.clone());
        async move { Ok::<_, Infallible>(api.answer(request, peer).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .adaptive_window(true);
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "connection ended");
    }
}

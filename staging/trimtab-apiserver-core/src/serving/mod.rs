//! Serving over TLS: the listener, connections, and a stop that lets requests finish.

mod activity;
mod believed;
mod gathered;
mod kubeconfig;
mod peers;
#[cfg(test)]
mod tests;
mod tls;
mod watched;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::activity::Activity;
use self::believed::withdrawn;
use self::gathered::{Ended, gathered};
use self::watched::Watched;
use crate::http::{Api, Peer};
use crate::limits::{Limits, Patience};

pub(crate) use believed::Believed;
pub(crate) use kubeconfig::kubeconfig;

/// An HTTP/2 connection with open requests is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What the head of a request may come to, in bytes. One that asks for a user's many groups is long.
const MOST_HEAD: u32 = 64 * 1024;
/// HTTP/1 reads heads and bodies into a buffer of at most so many bytes: a head is never longer.
const MOST_BUFFER: usize = 256 * 1024;
/// Requests that a client may have reset before they were looked at; more, and the connection ends. That of h2.
const MOST_RESETS: usize = 20;

/// Serves connections until `stop`; then lets requests finish, for `grace` at most.
pub(crate) async fn serve(
    listener: TcpListener,
    believed: Arc<Believed>,
    api: Arc<Api>,
    limits: Limits,
    stop: CancellationToken,
    grace: Duration,
) {
    let connections = tokio_util::task::TaskTracker::new();
    // Who comes beyond that waits in the system's queue, until somebody goes.
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (believed, api) = (believed.clone(), api.clone());
                let (stop, limits) = (stop.clone(), limits.clone());
                connections.spawn(async move {
                    connection(stream, &believed, api, limits, stop).await;
                    drop(place);
                });
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
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "requests did not finish in time and are cut off"
        );
    }
}

async fn connection(
    stream: TcpStream,
    believed: &Believed,
    api: Arc<Api>,
    limits: Limits,
    stop: CancellationToken,
) {
    let address = stream.peer_addr().ok().map(|peer| peer.ip());
    let _ = stream.set_nodelay(true); // without it answers wait; nothing depends on it
    let Patience {
        handshake,
        head,
        idle,
        write,
    } = limits.patience;
    let changes = believed.changes();
    let now = believed.now();
    let Some(tls) = &now.tls else { return };
    let handshake = tokio::time::timeout(handshake, tls.accept(stream));
    let stream = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        },
    };
    let shown = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    let peer = Peer {
        address,
        ..shown.as_deref().map(|chain| now.peer(chain)).unwrap_or_default()
    };
    drop(now);
    let withdrawn = withdrawn(believed, changes, shown, peer.clone());
    let activity = Activity::new();
    let requests = activity.clone();
    let service = service_fn(move |request| {
        let (api, peer) = (api.clone(), peer.clone());
        let open = requests.open();
        async move {
            // Apart, since what is in here is moved from hand to hand before it runs.
            let response = Box::pin(api.answer(request, peer)).await;
            Ok::<_, Infallible>(response.map(|body| open.with(body)))
        }
    });
    // What they have agreed on is what is spoken. To look at the first bytes for it would have no time limit.
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Watched::new(stream, write);
    let ended = if is_http2 {
        let (stream, mut sender) = gathered(stream);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_streams)
            .max_header_list_size(MOST_HEAD)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .keep_alive_interval(KEEP_ALIVE)
            .adaptive_window(true);
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = poll_fn(|cx| sender.poll(cx, |cx| served.as_mut().poll(cx))) => ended,
            () = either(either(stop.cancelled(), withdrawn), activity.idle_for(idle)) => {
                // What is being answered is answered to its end.
                served.as_mut().graceful_shutdown();
                poll_fn(|cx| sender.poll(cx, |cx| served.as_mut().poll(cx))).await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .max_buf_size(MOST_BUFFER)
            // It begins at the end of the request before, so that it is how long a connection may be idle, too.
            .header_read_timeout(head);
        let mut served = pin!(
            builder
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        );
        let ended = tokio::select! {
            biased;
            ended = served.as_mut() => ended,
            () = either(stop.cancelled(), withdrawn) => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        ended.map_err(Ended::Protocol)
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits for one of the two.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = one => {}
        () = other => {}
    }
}

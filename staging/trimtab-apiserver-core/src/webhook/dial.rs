//! Connections to webhooks and other servers: names are looked up, Services resolved, addresses tried one after the
//! other.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::Resolver;
use super::target::{HTTPS, Place, join};

/// A connection that cannot be made; the text says why in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DialError(String);

/// Makes connections to one place, whose name alone is what it is asked to connect to; or to wherever it is asked.
#[derive(Clone, Debug)]
pub struct Dialer {
    to: To,
}

#[derive(Clone, Debug)]
enum To {
    Place(Place, Arc<dyn Resolver>),
    /// What it is asked for, in so much time.
    Anywhere(Duration),
}

impl Dialer {
    pub(super) fn new(place: Place, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            to: To::Place(place, resolver),
        }
    }

    /// Connects to the host and port of each address that it is given, within `patience`.
    pub fn anywhere(patience: Duration) -> Self {
        Self {
            to: To::Anywhere(patience),
        }
    }

    async fn dial(self, uri: Uri) -> Result<TcpStream, DialError> {
        match self.to {
            To::Place(Place::Host { host, port, .. }, _) => connect(vec![(host, port)]).await,
            To::Place(
                Place::Service {
                    namespace,
                    name,
                    port,
                },
                resolver,
            ) => {
                let resolved = resolver.resolve(&namespace, &name, port).await;
                connect(resolved.map_err(DialError)?).await
            }
            To::Anywhere(patience) => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let port = uri.port_u16().unwrap_or(HTTPS);
                let connecting = connect(vec![(host.to_owned(), port)]);
                let late = |_| DialError(format!("dial tcp {}: i/o timeout", join(host, port)));
                tokio::time::timeout(patience, connecting).await.map_err(late)?
            }
        }
    }
}

/// Connects to the first of the hosts that can be reached.
async fn connect(hosts: Vec<(String, u16)>) -> Result<TcpStream, DialError> {
    let mut failed = DialError("no address".to_owned());
    for (host, port) in hosts {
        let addresses = match look_up(&host, port).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failed = error;
                continue;
            }
        };
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true); // without it requests wait; nothing depends on it
                    return Ok(stream);
                }
                Err(error) => {
                    failed = DialError(format!("dial tcp {address}: connect: {}", reason(&error)));
                }
            }
        }
    }
    Err(failed)
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::net::lookup_host(join(host, port)).await;
    let found: Vec<SocketAddr> = found
        .map_err(|error| DialError(format!("dial tcp: lookup {host}: {error}")))?
        .collect();
    if found.is_empty() {
        return Err(DialError(format!("dial tcp: lookup {host}: no such host")));
    }
    Ok(found)
}

/// As the operating system names it, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(uri).await.map(TokioIo::new) })
    }
}

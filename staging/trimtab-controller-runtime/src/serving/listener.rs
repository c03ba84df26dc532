//! A socket that is listened on, from the first connection to the last.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::connection::connection;
use super::error::ServeError;
use super::router::Router;

/// How long connections have to end after the stop; as long as a route may take.
const GRACE: Duration = Duration::from_secs(30);
/// How long to wait when a connection cannot be accepted: out of file descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that is listened on. Connections wait in it until [`Listener::serve`].
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<(Certificates, Arc<ServerConfig>)>,
    grace: Duration,
}

impl Listener {
    /// Listens on `host:port`. Without a host it is all of the machine's addresses, as in `:8080`; port 0 is a free port,
    /// and [`Listener::address`] tells which.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn bind(address: &str) -> Result<Self, ServeError> {
        let failed = |cause| ServeError::Bind {
            address: address.to_owned(),
            cause,
        };
        let socket = match address.strip_prefix(':') {
            // Where there is no IPv6 there is still IPv4.
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Ok(socket) => Ok(socket),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
            },
            None => TcpListener::bind(address).await,
        };
        let socket = socket.map_err(failed)?;
        Ok(Self {
            address: socket.local_addr().map_err(failed)?,
            socket,
            tls: None,
            grace: GRACE,
        })
    }

    /// Speaks TLS, HTTP/2 if the client can and HTTP/1.1 otherwise. Without, it is HTTP/1.1 in clear.
    ///
    /// # Errors
    /// [`ServeError::Tls`].
    pub fn tls(self, certificates: Certificates) -> Result<Self, ServeError> {
        let config = Arc::new(certificates.server_config()?);
        Ok(Self {
            tls: Some((certificates, config)),
            ..self
        })
    }

    /// How long requests under way may take after the stop before they are cut off. The default is 30 seconds.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// The address that is listened on, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`. Then no connection is taken any more, streams end, requests under way may end, and
    /// what is left after the grace is cut off.
    ///
    /// Dropping the future cuts everything off at once.
    ///
    /// # Errors
    /// [`ServeError::CutOff`].
    pub async fn serve(self, router: Router, stop: CancellationToken) -> Result<(), ServeError> {
        let Self {
            socket,
            address,
            tls,
            grace,
        } = self;
        let mut connections = JoinSet::new();
        let config = tls.as_ref().map(|(_, config)| config.clone());
        let fresh = async {
            match &tls {
                Some((certificates, _)) => certificates.keep_fresh().await,
                None => std::future::pending().await,
            }
        };
        let accepting = async {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Some(_) = connections.join_next() => {}
                    accepted = socket.accept() => match accepted {
                        Ok((stream, _)) => {
                            let (config, router) = (config.clone(), router.clone());
                            connections.spawn(serve_socket(stream, config, router, stop.clone()));
                        }
                        Err(error) => {
                            tracing::warn!(%address, %error, "cannot accept connections");
                            sleep(PAUSE).await;
                        }
                    },
                }
            }
        };
        tokio::select! {
            biased;
            () = accepting => {}
            () = fresh => {}
        }
        drop(socket);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(grace, ended).await.is_ok() {
            return Ok(());
        }
        let open = connections.len();
        connections.shutdown().await;
        Err(ServeError::CutOff { open, grace })
    }
}

async fn serve_socket(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true); // without it answers wait; nothing depends on it
    connection(stream, tls, router, stop).await;
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("tls", &self.tls.is_some())
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

//! The server behind one APIService, and how it is spoken to: by HTTP/2 where it can, at one of the addresses of its Service.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use trimtab_apiserver_core::extensions::{
    Dialer, Identity, RequestBody, Resolver, ServerTrust, explain_error, outward_config,
};

use super::circuit::Circuit;
use crate::aggregator::service::Reference;

/// How long a connection may take to be made. A server in the same cluster is there in milliseconds.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections kept for each address; client-go's.
const IDLE_MOST: usize = 25;
/// How long an idle connection is kept; Go's.
const IDLE: Duration = Duration::from_secs(90);
/// A connection with requests is asked for a sign of life after so long without any, and given as long to answer as kube-apiserver
/// gives it: client-go's `HTTP2_READ_IDLE_TIMEOUT_SECONDS` and `HTTP2_PING_TIMEOUT_SECONDS`.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

type Https = Client<HttpsConnector<Dialer>, RequestBody>;

/// A server that answers requests in this server's place.
#[derive(Debug)]
pub(crate) struct Upstream {
    reference: Reference,
    resolver: Arc<dyn Resolver>,
    /// Or why there can be none.
    clients: ArcSwap<Result<Clients, String>>,
    circuit: Circuit,
    /// Told when a request of somebody has not been answered.
    doubt: Notify,
}

#[derive(Debug)]
struct Clients {
    any: Https,
    /// For requests that ask for another protocol on their connection.
    upgrading: Https,
}

/// A request that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The APIService cannot be followed.
    #[error("{0}")]
    Unusable(String),
    /// Its Service leads nowhere.
    #[error("{0}")]
    Unresolved(String),
    /// The circuit is open: nothing was tried.
    #[error("nothing is sent there for now, since nothing was answered before")]
    Open,
    /// It cannot be reached, or has not answered.
    #[error("{0}")]
    Unreachable(String),
    /// It has not answered in time.
    #[error("context deadline exceeded")]
    Late,
}

impl Upstream {
    /// The server that an APIService names, which is shown this certificate.
    pub(crate) fn new(
        reference: Reference,
        resolver: Arc<dyn Resolver>,
        identity: Option<&Identity>,
    ) -> Self {
        Self {
            clients: ArcSwap::from_pointee(Clients::new(&reference, identity)),
            reference,
            resolver,
            circuit: Circuit::default(),
            doubt: Notify::new(),
        }
    }

    /// From now on it is shown this certificate, by connections of their own.
    pub(crate) fn identify(&self, identity: &Identity) {
        self.clients
            .store(Arc::new(Clients::new(&self.reference, Some(identity))));
    }

    /// Waits until a request that was no probe has not been answered.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    fn failed(&self, probes: bool) {
        self.circuit.failed();
        if !probes {
            self.doubt.notify_one();
        }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Where it can be reached now, as `https://address:port`.
    ///
    /// # Errors
    ///
    /// [`SendError::Unresolved`].
    pub(crate) async fn address(&self) -> Result<String, SendError> {
        let Reference {
            namespace,
            name,
            port,
            ..
        } = &self.reference;
        let found = self.resolver.resolve(namespace, name, *port).await;
        let found = found.map_err(SendError::Unresolved)?;
        let (host, port) = found
            .first()
            .ok_or_else(|| SendError::Unresolved(format!("no endpoints available for service {name:?}")))?;
        Ok(match host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V6(_)) => format!("https://[{host}]:{port}"),
            _ => format!("https://{host}:{port}"),
        })
    }

    /// Sends a request whose URI is a path, and waits for the head of its answer until `end`. What is sent while the circuit is open
    /// is not sent at all, unless it `probes`.
    ///
    /// Dropping the future ends the request.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
        address: &str,
        end: Option<Instant>,
        probes: bool,
    ) -> Result<Response<Incoming>, SendError> {
        let clients = self.clients.load_full();
        let clients = clients.as_ref().as_ref();
        let clients = clients.map_err(|why| SendError::Unusable(why.clone()))?;
        if !probes && !self.circuit.allows() {
            return Err(SendError::Open);
        }
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri: Result<Uri, _> = format!("{address}{path}").parse();
        *request.uri_mut() = uri.map_err(|error| SendError::Unresolved(error.to_string()))?;
        *request.version_mut() = http::Version::HTTP_11; // HTTP/2 is what it is whatever this says
        let client = match super::headers::wants_upgrade(request.headers()) {
            true => &clients.upgrading,
            false => &clients.any,
        };
        let answer = client.request(request);
        let answer = match end {
            Some(end) => match timeout_at(end, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.failed(probes);
                    return Err(SendError::Late);
                }
            },
            None => answer.await,
        };
        match answer {
            Ok(response) => {
                self.circuit.answered();
                Ok(response)
            }
            Err(error) => {
                self.failed(probes);
                Err(SendError::Unreachable(explain_error(&error)))
            }
        }
    }
}

impl Clients {
    fn new(reference: &Reference, identity: Option<&Identity>) -> Result<Self, String> {
        let trust = match reference.is_insecure {
            true => ServerTrust::Anyone,
            false => ServerTrust::Authorities(&reference.authorities),
        };
        let name = format!("{}.{}.svc", reference.name, reference.namespace);
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let client = |protocols: &[&[u8]]| -> Result<Https, String> {
            let identity = identity.map(|(chain, key)| (chain.clone(), key.clone_key()));
            let config = outward_config(trust, identity, protocols)?;
            let connector = HttpsConnector::new(
                Dialer::anywhere(CONNECT),
                config,
                true,
                Arc::new(FixedServerNameResolver::new(name.clone())),
            );
            let mut builder = Client::builder(TokioExecutor::new());
            builder
                .pool_max_idle_per_host(IDLE_MOST)
                .pool_idle_timeout(IDLE)
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .http2_adaptive_window(true)
                .http2_keep_alive_interval(ALIVE.0)
                .http2_keep_alive_timeout(ALIVE.1);
            Ok(builder.build(connector))
        };
        Ok(Self {
            any: client(&[b"h2", b"http/1.1"])?,
            upgrading: client(&[b"http/1.1"])?,
        })
    }
}

//! What a manager tells those who ask it: its health, its metrics, and what else it is given to serve.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Manager;
use crate::error::{Error, Result};
use crate::serving::{Access, Certificates, Listener, Route, Router, text};

/// One listener for health, metrics and whatever is added: see [`Manager::endpoints`].
///
/// `/healthz`, `/livez` and `/readyz` answer anybody; `/metrics` does too, unless [`Endpoints::authorized`] says otherwise.
#[derive(Debug)]
#[must_use = "endpoints are served by a manager"]
pub struct Endpoints {
    address: String,
    certificates: Option<Certificates>,
    authorized: bool,
    routes: Vec<(String, Route)>,
}

/// Where a running manager listens.
#[derive(Debug, Default)]
pub(crate) struct Bound(Mutex<Option<SocketAddr>>);

impl Endpoints {
    /// Endpoints at `host:port`; without a host at all addresses of the machine, as `:8080`. Port 0 is a free port:
    /// [`Manager::address`] tells which.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            certificates: None,
            authorized: false,
            routes: Vec::new(),
        }
    }

    /// Speaks TLS with these certificates.
    pub fn tls(self, certificates: Certificates) -> Self {
        Self {
            certificates: Some(certificates),
            ..self
        }
    }

    /// Asks the cluster who it is that asks for metrics, and whether he may: TokenReview and SubjectAccessReview of the path.
    /// The manager then needs to be allowed both, which is among its rules.
    pub fn authorized(self) -> Self {
        Self {
            authorized: true,
            ..self
        }
    }

    /// Adds a route at a path; one that ends with a slash answers all below it. It is open to anybody unless it is made
    /// [otherwise](Route::only_with).
    pub fn route(mut self, path: impl Into<String>, route: Route) -> Self {
        self.routes.push((path.into(), route));
        self
    }

    pub(super) fn is_authorized(&self) -> bool {
        self.authorized
    }

    /// Listens, and says what serves.
    pub(super) async fn open(self, manager: &Manager) -> Result<(Listener, Router)> {
        let mut listener = Listener::bind(&self.address)
            .await
            .map_err(Error::other)?
            .grace(manager.grace);
        if let Some(certificates) = self.certificates {
            listener = listener.tls(certificates).map_err(Error::other)?;
        }
        *manager.bound.0.lock() = Some(listener.address());
        let metrics = manager.metrics.clone();
        let mut route = Route::get(move |_| {
            let metrics = metrics.clone();
            async move {
                let mut response = text(200, metrics.text());
                let form = http::HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                );
                response.headers_mut().insert(http::header::CONTENT_TYPE, form);
                response
            }
        });
        if self.authorized {
            route = route.only_with(Access::new(manager.client.clone()));
        }
        let ready = manager.ready.clone();
        let caches = move || {
            let ready = ready.is_set();
            async move {
                if ready {
                    Ok(())
                } else {
                    Err("the caches are not filled, or the manager stops".to_owned())
                }
            }
        };
        let open = || {
            manager.health.ready("caches", caches)?;
            let mut router = manager.health.routes(Router::new())?.route("/metrics", route)?;
            for (path, route) in self.routes {
                router = router.route(path, route)?;
            }
            Ok::<_, crate::serving::ServeError>(router)
        };
        Ok((listener, open().map_err(Error::other)?))
    }
}

impl Bound {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        *self.0.lock()
    }
}

/// Serves until `stop`.
pub(super) async fn serve((listener, router): (Listener, Router), stop: CancellationToken) -> Result<usize> {
    listener
        .serve(router, stop)
        .await
        .map(|()| 0)
        .map_err(Error::other)
}

/// Whether the manager is ready; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<std::sync::atomic::AtomicBool>);

impl Ready {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, std::sync::atomic::Ordering::Release);
    }
}

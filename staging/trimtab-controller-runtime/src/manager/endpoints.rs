//! What a manager tells those who ask it: its health, its metrics, and what else it is given to serve.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trimtab_client_coordination::clock::Clock;

use super::Manager;
use crate::error::{Error, Result};
use crate::introspection::{Introspection, Page};
use crate::serving::{Access, Body, Certificates, Listener, Request, Route, Router, text};

/// One listener for health, metrics and whatever is added: see [`Manager::endpoints`].
///
/// `/healthz`, `/livez` and `/readyz` answer anybody; `/metrics` does too, unless [`Endpoints::authorized`] says otherwise.
/// `/debug/controllers/` is a [page](crate::introspection) that shows what the controllers do, on a loopback address only
/// unless [`Endpoints::page`] says otherwise.
#[derive(Debug)]
#[must_use = "endpoints are served by a manager"]
pub struct Endpoints {
    address: String,
    certificates: Option<Certificates>,
    authorized: bool,
    page: Option<bool>,
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
            page: None,
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

    /// Whether to show the page on which people see what the controllers do, and the names of objects with it. The default is to
    /// show it on a loopback address only.
    pub fn page(self, shown: bool) -> Self {
        Self {
            page: Some(shown),
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
    pub(super) async fn open(self, manager: &Manager) -> Result<Open> {
        let mut listener = Listener::bind(&self.address)
            .await
            .map_err(Error::other)?
            .grace(manager.grace);
        if let Some(certificates) = self.certificates {
            listener = listener.tls(certificates).map_err(Error::other)?;
        }
        *manager.bound.0.lock() = Some(listener.address());
        let metrics = manager.metrics.clone();
        let is_local = listener.address().ip().is_loopback();
        let page = self
            .page
            .unwrap_or(is_local)
            .then(|| page(&manager.introspection));
        let shows_page = page.is_some();
        let access = self.authorized.then(|| Access::new(manager.client().clone()));
        let guarded = |route: Route| match &access {
            Some(access) => route.only_with(access.clone()),
            None => route,
        };
        let route = Route::get(move |_| {
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
            let mut router = manager
                .health
                .routes(Router::new())?
                .route("/metrics", guarded(route))?;
            for (path, route) in page.into_iter().flatten() {
                router = router.route(path, guarded(route))?;
            }
            for (path, route) in self.routes {
                router = router.route(path, route)?;
            }
            Ok::<_, crate::serving::ServeError>(router)
        };
        Ok(Open {
            listener,
            router: open().map_err(Error::other)?,
            shows_page,
        })
    }
}

impl Bound {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        *self.0.lock()
    }
}

/// Endpoints that are listened on.
pub(super) struct Open {
    listener: Listener,
    router: Router,
    /// Whether people look at what the controllers do.
    pub(super) shows_page: bool,
}

impl Open {
    /// Serves until `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) -> Result<usize> {
        let served = self.listener.serve(self.router, stop).await;
        served.map(|()| 0).map_err(Error::other)
    }
}

/// The routes of the page.
fn page(introspection: &Introspection) -> [(String, Route); 2] {
    let page = Arc::new(Page::new(introspection.clone()));
    let base = page.base().to_owned();
    let route = Route::get(move |request: Request| {
        let page = page.clone();
        async move {
            let uri = request.uri();
            let answer = page.respond(request.method(), uri.path(), uri.query(), Clock::System.now());
            answer.map(|body| Body::from(body.into_owned()))
        }
    });
    [
        (base.trim_end_matches('/').to_owned(), route.clone()),
        (base, route),
    ]
}

/// Whether the manager is ready; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<tokio::sync::watch::Sender<bool>>);

impl Ready {
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Waits until it is set.
    pub(crate) async fn reached(&self) {
        // The sender is here: it cannot have gone.
        let mut ready = self.0.subscribe();
        let _ready = ready.wait_for(|ready| *ready).await;
    }
}

//! Passing requests on to another server, and its answers back.

mod answer;
mod circuit;
mod headers;
mod upgrade;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_core::extensions::{Body, Forwarded, plain_text};

pub(crate) use headers::say_who;
pub(crate) use upstream::{SendError, Upstream};

/// How long discovery of one version may take, since all clients wait for it; kube-aggregator's.
const DISCOVERY: Duration = Duration::from_secs(5);
/// So many requests that do not last may be with one server at a time: kube-apiserver's `--max-requests-inflight` for all that it
/// answers itself.
const MOST_AT_ONCE: usize = 400;

/// What is said while a server is known not to be there, or there is no way to it.
fn unavailable() -> Response<Body> {
    plain_text(503, "service unavailable\n")
}

/// Passes requests on.
#[derive(Debug)]
pub(crate) struct Proxy {
    upstream: Arc<Upstream>,
    places: Arc<Semaphore>,
    /// Whether a redirect is refused.
    rejects_redirects: bool,
    stop: CancellationToken,
    /// Connections that have become something else.
    upgraded: TaskTracker,
}

impl Proxy {
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        rejects_redirects: bool,
        stop: CancellationToken,
        upgraded: TaskTracker,
    ) -> Self {
        Self {
            upstream,
            rejects_redirects,
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            stop,
            upgraded,
        }
    }

    /// What is said of a server that is known not to be there.
    pub(crate) fn refuse() -> Response<Body> {
        unavailable()
    }

    /// Has the server answer a request.
    ///
    /// # Errors
    ///
    /// When it has no answer in time, or is asked too much at a time.
    pub(crate) async fn pass_on(&self, forwarded: Forwarded) -> Result<Response<Body>, ApiError> {
        let Forwarded {
            mut request,
            user,
            address: from,
            audit_id,
            deadline,
        } = forwarded;
        let upgrades = headers::wants_upgrade(request.headers());
        let place = match deadline {
            Some(_) if !upgrades => {
                let place = self.places.clone().try_acquire_owned();
                Some(place.map_err(|_| too_many())?)
            }
            _ => None,
        };
        let client = match upgrades {
            true => match upgrade::of(&mut request) {
                Some(client) => Some(client),
                None => {
                    let why = "the connection of the request cannot be upgraded: ask by HTTP/1.1\n";
                    return Ok(plain_text(503, why));
                }
            },
            false => None,
        };
        request.extensions_mut().clear();
        let path = request.uri().path().to_owned();
        headers::end_connection(request.headers_mut(), upgrades);
        if let Err(why) = headers::say_who(request.headers_mut(), &user) {
            return Err(ApiError::internal(why));
        }
        headers::say_where(request.headers_mut(), &path, from, &audit_id);
        let end = match is_discovery(&path) {
            true => Some(deadline.map_or(Instant::now() + DISCOVERY, |end| {
                end.min(Instant::now() + DISCOVERY)
            })),
            false => deadline,
        };
        let sent = async {
            let address = self.upstream.address().await?;
            self.upstream.send(request, &address, end, false).await
        };
        let mut response = match sent.await {
            Ok(response) => response,
            Err(SendError::Unresolved(why)) => {
                tracing::debug!(why, "the server behind an APIService cannot be found");
                return Ok(unavailable());
            }
            Err(SendError::Open) => return Ok(unavailable()),
            Err(SendError::Unusable(why)) => return Ok(plain_text(500, why + "\n")),
            Err(SendError::Late) if end == deadline => {
                return Err(ApiError::timeout(
                    "request did not complete within the allotted timeout",
                ));
            }
            Err(error @ (SendError::Late | SendError::Unreachable(_))) => {
                let why = format!("error trying to reach service: {error}\n");
                return Ok(plain_text(503, why));
            }
        };
        let code = response.status();
        if let Some(client) = client {
            if code == StatusCode::SWITCHING_PROTOCOLS {
                let server = hyper::upgrade::on(&mut response);
                let joined = upgrade::join(client, server, self.stop.clone());
                self.upgraded.spawn(joined);
            } else if code.as_u16() < 400 {
                let why = format!("invalid upgrade response: status code {}\n", code.as_u16());
                return Ok(plain_text(503, why));
            }
        }
        if self.rejects_redirects && code.is_redirection() && response.headers().contains_key(LOCATION) {
            // Whoever follows it would show this server's clients to anybody.
            let why = "the backend attempted to redirect this request, which is not permitted";
            return Ok(plain_text(502, why));
        }
        let switches = code == StatusCode::SWITCHING_PROTOCOLS;
        headers::end_connection(response.headers_mut(), switches);
        Ok(answer::until(response, deadline, place, self.stop.clone()))
    }
}

/// Whether a path is `/apis/GROUP/VERSION` or as long.
fn is_discovery(path: &str) -> bool {
    path.trim_matches('/').split('/').count() == 3
}

fn too_many() -> ApiError {
    let reason = StatusReason::TooManyRequests;
    let mut error = ApiError::new(
        429,
        reason,
        "too many requests are with the server behind this API, try again later",
    );
    error.retry_after = Some(Duration::from_secs(1));
    error
}

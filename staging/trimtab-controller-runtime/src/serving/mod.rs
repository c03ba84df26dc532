//! One listener for a program's own endpoints: health, metrics, pages for people, webhooks; plain HTTP or TLS.
//!
//! A [`Router`] holds [`Route`]s, each an async function from a [`Request`] whose body is there in full to a [`Response`].
//! A [`Listener`] serves it until it is told to stop, and then lets requests end, within a grace.
//!
//! ```
//! # use trimtab_controller_runtime::serving::{Health, Listener, Route, Router, ServeError, text};
//! # async fn example(stop: tokio_util::sync::CancellationToken) -> Result<(), ServeError> {
//! let health = Health::new();
//! health.ready("caches", || async { Err("the cache of pods is not filled".to_owned()) })?;
//! let router = health.routes(Router::new())?;
//! let router = router.route("/metrics", Route::get(|_| async { text(200, "# EOF\n") }))?;
//! Listener::bind(":8080").await?.serve(router, stop).await
//! # }
//! ```
//!
//! # What is bounded
//!
//! The head of a request, by time and size; its body, by size; the whole of it until the answer begins, by the route's
//! deadline; a TLS handshake; how long a connection idles. A panic in a route is logged and answered with 500.
//!
//! # What is not here
//!
//! Clients are known by bearer tokens ([`Access`]) or not at all: certificates of clients are not asked for. There is no
//! HTTP/2 without TLS, and no limit to the number of connections but the process' file descriptors.

mod access;
mod body;
mod certificates;
mod connection;
mod error;
mod health;
mod listener;
mod router;

pub use access::Access;
pub use body::{Body, Request, Response, json, text};
pub use certificates::{CertificateError, Certificates};
pub use connection::serve_stream;
pub use error::ServeError;
pub use health::Health;
pub use listener::Listener;
pub use router::{Route, Router};

#[cfg(test)]
mod tests;

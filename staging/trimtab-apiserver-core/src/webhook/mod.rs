//! Calling webhooks: servers of others that have a say in what this one does.
//!
//! `admission::webhooks` asks them about requests, `crd::conversion` has them convert objects; here is how they are
//! reached. `target` reads from a configuration where a webhook is, `resolve` finds the addresses of a Service,
//! `dial` connects, `tls` says whom to believe, and `client` makes a call of it. `kubeconfig` is for servers that no object names.

mod client;
mod dial;
mod errors;
mod kubeconfig;
mod resolve;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

pub(crate) use client::Clients;
pub use dial::Dialer;
pub use errors::CallError;
pub use errors::explain as explain_error;
pub use kubeconfig::Endpoint;
pub(crate) use resolve::ServiceAddresses;
pub(crate) use target::Target;
pub use tls::{Identity, ServerTrust, identity_from_pem, outward_config};

/// How long a call may take at most, whatever else is said. From client-go's defaults for webhooks.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// Finds out where a Service can be reached.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Hosts (addresses or names) and ports, the best first; never empty.
    ///
    /// # Errors
    ///
    /// A text that says why there are none.
    async fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<(String, u16)>, String>;
}

/// The end of a call that may take `timeout`, within a request that has to end at `deadline`.
pub(crate) fn end(timeout: Duration, deadline: Option<Instant>) -> Instant {
    let end = Instant::now() + timeout.min(LONGEST);
    deadline.map_or(end, |deadline| end.min(deadline))
}

/// Whether the request that a call was made for has had all its time.
pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

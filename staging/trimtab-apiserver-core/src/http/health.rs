//! `/healthz`, `/livez` and `/readyz`: whether the server and its parts are well.

use std::time::Duration;

use http::Response;
use http::header::X_CONTENT_TYPE_OPTIONS;
use tokio::time::timeout;

use super::respond::{self, Body};
use super::{Api, Head};

/// How long the store may take to say that it is there; kube-apiserver gives its etcd as long.
const STORE_CHECK: Duration = Duration::from_secs(2);

/// What must have been done before the server serves, under the names of the hooks by which kube-apiserver does it, in its
/// order: as far as there is something of the kind here. All of it is done, and what goes on has begun, when
/// [`Builder::start`](crate::server::Builder::start) returns.
pub(super) const STARTED: [&str; 16] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/storage-readiness",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
];
/// So many of them, the first, are those of any server.
const GENERIC: usize = 5;
/// What those add who pass requests on to other servers.
const AGGREGATED: [&str; 9] = [
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];
/// Those that there are only while requests are let in by flow schemas.
const OF_FLOWS: &str = "poststarthook/priority-and-fairness-";

/// What is asked first whether the server is alive. `etcd` is what clients call the storage.
const ALIVE: [&str; 3] = ["ping", "log", "etcd"];
/// And whether it is ready. What the server follows is read before it serves, so `informer-sync` holds.
const READY: [&str; 5] = ["ping", "log", "etcd", "etcd-readiness", "informer-sync"];
/// What is asked last whether it is ready.
const SHUTDOWN: &str = "shutdown";

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

impl Api {
    /// The checks of an endpoint.
    fn checks(&self, endpoint: &str) -> impl Iterator<Item = &'static str> + use<> {
        let fair = self.flow.table().is_some();
        let (first, last) = match endpoint {
            "readyz" => (&READY[..], Some(SHUTDOWN)),
            _ => (&ALIVE[..], None),
        };
        // A server of a group of its own issues no tokens, and has what any server begins with.
        let own = if self.issuer.is_some() {
            STARTED.len()
        } else {
            GENERIC
        };
        let started = STARTED
            .into_iter()
            .take(own)
            .filter(move |name| fair || !name.starts_with(OF_FLOWS));
        let aggregated = self.served.is_some().then_some(AGGREGATED).into_iter().flatten();
        first.iter().copied().chain(started).chain(aggregated).chain(last)
    }

    /// The paths of all endpoints and of their checks.
    pub(super) fn health_paths(&self) -> impl Iterator<Item = String> {
        ENDPOINTS.into_iter().flat_map(|endpoint| {
            let of_checks = self
                .checks(endpoint)
                .map(move |check| format!("/{endpoint}/{check}"));
            std::iter::once(format!("/{endpoint}")).chain(of_checks)
        })
    }

    /// Answers an endpoint, or one of its checks.
    pub(super) async fn health(&self, head: &Head, endpoint: &str, rest: &[&str]) -> Response<Body> {
        let Some(endpoint) = ENDPOINTS.into_iter().find(|known| *known == endpoint) else {
            return respond::page_not_found();
        };
        let checks: Vec<&'static str> = self.checks(endpoint).collect();
        if !rest.is_empty() {
            let wanted = rest.join("/");
            return match checks.iter().find(|check| **check == wanted) {
                Some(check) => self.one_check(endpoint, check).await,
                None => respond::page_not_found(),
            };
        }
        let mut excluded: Vec<&str> = head
            .query
            .iter()
            .filter(|(name, _)| name == "exclude")
            .map(|(_, check)| check.as_str())
            .collect();
        let mut report = String::new();
        let mut healthy = true;
        for check in &checks {
            let line = if excluded.contains(check) {
                format!("[+]{check} excluded: ok\n")
            } else if self.is_well(endpoint, check).await {
                format!("[+]{check} ok\n")
            } else {
                healthy = false;
                format!("[-]{check} failed: reason withheld\n")
            };
            report.push_str(&line);
        }
        excluded.retain(|check| !checks.contains(check));
        if !excluded.is_empty() {
            let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
            let names = names.join(",");
            report.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for {names}\n"
            ));
        }
        if !healthy {
            return respond::text(500, format!("{report}{endpoint} check failed\n"));
        }
        if head.param("verbose").is_some() {
            return respond::text(200, format!("{report}{endpoint} check passed\n"));
        }
        respond::text(200, "ok")
    }

    async fn one_check(&self, endpoint: &'static str, check: &'static str) -> Response<Body> {
        if !self.is_well(endpoint, check).await {
            return respond::text(
                500,
                format!("internal server error: {check} failed: reason withheld\n"),
            );
        }
        let mut response = respond::text(200, "ok");
        response.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
        response
    }

    async fn is_well(&self, endpoint: &'static str, check: &'static str) -> bool {
        let holds = match check {
            "etcd" | "etcd-readiness" => {
                let asked = self.registry.store().revision();
                matches!(timeout(STORE_CHECK, asked).await, Ok(Ok(_)))
            }
            SHUTDOWN => !self.stop.is_cancelled(),
            _ => true,
        };
        self.healths.checked(endpoint, check, holds);
        holds
    }
}

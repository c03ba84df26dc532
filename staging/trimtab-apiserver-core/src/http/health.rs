//! `/healthz`, `/livez` and `/readyz`: whether the server and its parts are well.

use std::time::Duration;

use http::Response;
use http::header::X_CONTENT_TYPE_OPTIONS;
use tokio::time::timeout;

use super::respond::{self, Body};
use super::{Api, Head};

/// How long the store may take to say that it is there; kube-apiserver gives its etcd as long.
const STORE_CHECK: Duration = Duration::from_secs(2);

/// What is asked whether the server is alive. `etcd` is what clients call the storage.
const ALIVE: [&str; 3] = ["ping", "log", "etcd"];
/// What is asked whether it is ready. What the server follows is read before it serves, so `informer-sync` holds.
const READY: [&str; 6] = [
    "ping",
    "log",
    "etcd",
    "etcd-readiness",
    "informer-sync",
    "shutdown",
];

fn checks(endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "readyz" => &READY,
        _ => &ALIVE,
    }
}

/// The paths of all endpoints and of their checks.
pub(super) fn paths() -> impl Iterator<Item = String> {
    ["healthz", "livez", "readyz"].into_iter().flat_map(|endpoint| {
        let of_checks = checks(endpoint)
            .iter()
            .map(move |check| format!("/{endpoint}/{check}"));
        std::iter::once(format!("/{endpoint}")).chain(of_checks)
    })
}

impl Api {
    /// Answers an endpoint, or one of its checks.
    pub(super) async fn health(&self, head: &Head, endpoint: &str, rest: &[&str]) -> Response<Body> {
        let checks = checks(endpoint);
        match rest {
            [] => {}
            [check] if checks.contains(check) => return self.one_check(check).await,
            _ => return respond::page_not_found(),
        }
        let mut excluded: Vec<&str> = head
            .query
            .iter()
            .filter(|(name, _)| name == "exclude")
            .map(|(_, check)| check.as_str())
            .collect();
        let mut report = String::new();
        let mut healthy = true;
        for check in checks {
            let line = if excluded.contains(check) {
                format!("[+]{check} excluded: ok\n")
            } else if self.is_well(check).await {
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

    async fn one_check(&self, check: &str) -> Response<Body> {
        if !self.is_well(check).await {
            return respond::text(
                500,
                format!("internal server error: {check} failed: reason withheld\n"),
            );
        }
        let mut response = respond::text(200, "ok");
        response.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
        response
    }

    async fn is_well(&self, check: &str) -> bool {
        match check {
            "etcd" | "etcd-readiness" => {
                let asked = self.registry.store().revision();
                matches!(timeout(STORE_CHECK, asked).await, Ok(Ok(_)))
            }
            "shutdown" => !self.stop.is_cancelled(),
            _ => true,
        }
    }
}

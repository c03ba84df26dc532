//! The server's metrics, under kube-apiserver's names.
//!
//! Of kube-apiserver's these are not here: what its own parts tell of themselves that this server has none of (`go_*`,
//! `grpc_client_*`, `rest_client_*`, `workqueue_*`, `aggregator_*`, encryption at rest, its authentication cache, legacy tokens,
//! declarative validation, node authorization, `registered_metrics` and its kin); how far caches hold request after request
//! (`apiserver_watch_cache_consistent_read_total`); and what is told otherwise here or by nobody yet:
//! `apiserver_request_sli_duration_seconds`, `apiserver_request_body_size_bytes`, `apiserver_request_filter_duration_seconds`,
//! `apiserver_selfrequest_total`, `apiserver_tls_handshake_errors_total`, `apiserver_authorization_decisions_total`,
//! `apiserver_cel_*`, `apiserver_client_certificate_expiration_seconds`, `field_validation_request_duration_seconds`,
//! `pod_security_*`, `kube_apiserver_*_allocator_*`, and the summary of admission's steps.

mod access;
pub(crate) mod buckets;
mod caches;
mod extensions;
mod process;
mod requests;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_storage::Store;

use self::access::{Access, Times};
use self::caches::CacheMetrics;
use self::extensions::ExtensionMetrics;
use self::process::Process;
pub(crate) use self::requests::Watching;
use self::requests::{Requests, Words};
use self::store::StorageMetrics;
use crate::admission::policies::PolicyMetrics;
use crate::admission::timings;
use crate::admission::webhooks::WebhookMetrics;
use crate::api::RequestInfo;
use crate::audit::{self, Audit};
use crate::extensions::Served;
use crate::flow::FlowMetrics;
use crate::http::Target;

/// Users by name, as far as names are told apart.
const USERS: [&str; 3] = ["admin", "email_id", "other"];
/// Paths that are no resources and are counted, by their first part.
const KNOWN_PATHS: [&str; 9] = [
    "api", "apis", "healthz", "livez", "metrics", "openapi", "openid", "readyz", "version",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUser {
    username: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    build_date: &'static str,
    compiler: &'static str,
    git_version: &'static str,
    major: &'static str,
    minor: &'static str,
}

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Requests,
    reading: Gauge,
    writing: Gauge,
    /// Whether it is known who asks: yes, and no.
    authenticated: [Gauge; 2],
    /// Those who are known: one in particular, those who have a mail address for a name, and others.
    users: [Gauge; 3],
    /// Whether they may: yes, and not that we know.
    authorized: [Counter; 2],
    authenticating: Times,
    authorizing: Times,
}

/// A request that is being answered; counted until dropped.
pub(crate) struct Underway(Gauge<i64, AtomicI64>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// The metrics of a server with these policies and webhooks.
    pub(crate) fn new(policies: &PolicyMetrics, webhooks: &WebhookMetrics) -> Self {
        let mut registry = Registry::default();
        policies.register(&mut registry);
        webhooks.register(&mut registry);
        let requests = Requests::new(&mut registry);
        let in_flight = Family::<InFlight, Gauge>::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being answered now",
            in_flight.clone(),
        );
        let reading = in_flight
            .get_or_create(&InFlight {
                request_kind: "readOnly",
            })
            .clone();
        let writing = in_flight
            .get_or_create(&InFlight {
                request_kind: "mutating",
            })
            .clone();
        // These count, and are gauges for the encoder, which adds a suffix to the names of counters.
        let attempts = Family::<ByResult, Gauge>::default();
        registry.register(
            "authentication_attempts",
            "Requests by whether it is known who asks",
            attempts.clone(),
        );
        let users = Family::<ByUser, Gauge>::default();
        registry.register(
            "authenticated_user_requests",
            "Requests of users who are known",
            users.clone(),
        );
        let authorized = Family::<ByResult, Counter>::default();
        registry.register(
            "authorization_attempts",
            "Requests by whether they may be made",
            authorized.clone(),
        );
        let build = Family::<Build, Gauge>::default();
        registry.register("kubernetes_build_info", "Which version this is of", build.clone());
        build
            .get_or_create(&Build {
                build_date: "1970-01-01T00:00:00Z",
                compiler: "rustc",
                git_version: crate::version::GIT_VERSION,
                major: "1",
                minor: "36",
            })
            .set(1);
        registry.register_collector(Box::new(Process));
        let authenticating = Times::new(["success", "failure"]);
        let authorizing = Times::new(["allowed", "no-opinion"]);
        registry.register_collector(Box::new(Access {
            authenticating: authenticating.clone(),
            authorizing: authorizing.clone(),
        }));
        Self {
            registry,
            requests,
            reading,
            writing,
            authenticated: ["success", "failure"]
                .map(|result| attempts.get_or_create(&ByResult { result }).clone()),
            users: USERS.map(|username| users.get_or_create(&ByUser { username }).clone()),
            authorized: ["allowed", "no-opinion"]
                .map(|result| authorized.get_or_create(&ByResult { result }).clone()),
            authenticating,
            authorizing,
        }
    }

    /// The same, with those of this store.
    pub(crate) fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.registry.register_collector(Box::new(StorageMetrics(store)));
        self
    }

    /// The same, with those of the caches of this registry.
    pub(crate) fn with_caches(mut self, registry: Arc<crate::registry::Registry>) -> Self {
        self.registry.register_collector(Box::new(CacheMetrics(registry)));
        self
    }

    /// The same, with those of priority and fairness.
    pub(crate) fn with_flow(mut self, flow: &FlowMetrics) -> Self {
        flow.register(&mut self.registry);
        self
    }

    /// The same, with those of auditing, whether there is any or not.
    pub(crate) fn with_audit(mut self, audit: Option<&Audit>) -> Self {
        audit::register(audit, &mut self.registry);
        self
    }

    /// The same, with those of servers behind this one, if they are followed.
    pub(crate) fn with_extensions(mut self, served: Option<Arc<Served>>) -> Self {
        if let Some(served) = served {
            self.registry
                .register_collector(Box::new(ExtensionMetrics(served)));
        }
        self
    }

    /// The same, with how long admission takes.
    pub(crate) fn with_admission(mut self, timings: timings::Encoded) -> Self {
        self.registry.register_collector(Box::new(timings));
        self
    }

    /// Counts a request as being answered until the result is dropped.
    pub(crate) fn begin(&self, reads: bool) -> Underway {
        let gauge = if reads { &self.reading } else { &self.writing };
        gauge.inc();
        Underway(gauge.clone())
    }

    /// Counts an answered request, of which so many bytes are known. A watch counts when it has begun.
    pub(crate) fn request(&self, asked: &Asked<'_>, code: u16, took: Duration, size: Option<u64>) {
        if let Some(words) = asked.words(code) {
            self.requests.answered(words, code, took, size);
        }
    }

    /// Counts a request that is not let in.
    pub(crate) fn terminated(&self, asked: &Asked<'_>, code: u16) {
        if let Some(words) = asked.words(code) {
            self.requests.terminated(words, code);
        }
    }

    /// Counts a watch as being answered until the result is dropped, and by it its events.
    pub(crate) fn watching(&self, asked: &Asked<'_>) -> Option<Watching> {
        Some(self.requests.watching(asked.words(200)?))
    }

    /// Counts a request by whether it is known who asks, which it took so long to find out.
    pub(crate) fn authenticated(&self, user: Option<&UserInfo>, took: Duration) {
        self.authenticating.of(usize::from(user.is_none())).took(took);
        let Some(user) = user else {
            self.authenticated[1].inc();
            return;
        };
        self.authenticated[0].inc();
        // As kube-apiserver does it: anyone could have as many names as they like.
        let which = match user.name.as_str() {
            "admin" => 0,
            name if name.contains('@') => 1,
            _ => 2,
        };
        self.users[which].inc();
    }

    /// Counts a request by whether it may be made, which it took so long to find out.
    pub(crate) fn authorized(&self, allowed: bool, took: Duration) {
        self.authorizing.of(usize::from(!allowed)).took(took);
        self.authorized[usize::from(!allowed)].inc();
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => plain(&text),
            Err(_) => String::new(), // writing to a string does not fail
        }
    }
}

/// OpenMetrics as the text format that kube-apiserver has: what is said of a counter is said of the name that its samples
/// have, and nothing marks the end.
fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + open_metrics.len() / 64);
    let mut lines = open_metrics.lines().filter(|line| *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let described = lines
            .peek()
            .and_then(|next| next.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        match help {
            Some((name, text)) if described == Some(name) => {
                out.push_str(&format!(
                    "# HELP {name}_total {text}\n# TYPE {name}_total counter\n"
                ));
                lines.next();
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// What requests are counted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a Target,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    /// Whether nothing is to be stored.
    pub(crate) dry_run: bool,
    /// Whether it is a patch that is applied.
    pub(crate) applies: bool,
}

impl<'a> Asked<'a> {
    /// The words for it, unless it is of what anyone could make up as much of as they like.
    fn words(&self, code: u16) -> Option<Words<'a>> {
        let verb = match *self.method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH if self.applies => "APPLY",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => return None,
        };
        let Target::Resource(info) = self.target else {
            let first = self.path.trim_start_matches('/').split('/').next()?;
            let known = KNOWN_PATHS.iter().find(|path| **path == first)?;
            return Some(Words {
                verb,
                subresource: known,
                ..Words::default()
            });
        };
        // Resources that do not exist are not among them.
        let info: &RequestInfo = info;
        let (group, version, resource, subresource) = match code {
            404 | 405 => Default::default(),
            _ => (
                info.group.as_str(),
                info.version.as_str(),
                info.resource.as_str(),
                info.subresource.as_str(),
            ),
        };
        Some(Words {
            verb: match info.verb.as_str() {
                "list" => "LIST",
                "watch" => "WATCH",
                "deletecollection" => "DELETECOLLECTION",
                _ => verb,
            },
            dry_run: if self.dry_run { "All" } else { "" },
            group,
            version,
            resource,
            subresource,
            scope: match (info.name.is_empty(), info.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
        })
    }
}

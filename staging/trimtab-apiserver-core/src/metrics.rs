//! The server's metrics, under kube-apiserver's names.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use trimtab_apiserver_storage::Store;

use crate::admission::webhooks::WebhookMetrics;
use crate::flow::FlowMetrics;
use crate::http::Target;
use crate::storage_metrics::StorageMetrics;

/// Upper bounds in seconds; a part of kube-apiserver's.
const BUCKETS: [f64; 14] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 8.0, 20.0, 60.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Latency {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: &'static str,
}

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Latency, Histogram>,
    reading: Gauge,
    writing: Gauge,
}

/// A request that is being answered; counted until dropped.
pub(crate) struct Underway(Gauge<i64, AtomicI64>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// The metrics of a server with these webhooks.
    pub(crate) fn new(webhooks: &WebhookMetrics) -> Self {
        let mut registry = Registry::default();
        webhooks.register(&mut registry);
        let requests = Family::default();
        // The encoder adds the suffix `_total` to counters.
        registry.register(
            "apiserver_request",
            "Requests by verb, group, version, resource, subresource, scope and code",
            requests.clone(),
        );
        let latency = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to answer, in seconds",
            latency.clone(),
        );
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
        Self {
            registry,
            requests,
            latency,
            reading,
            writing,
        }
    }

    /// The same, with those of this store.
    pub(crate) fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.registry.register_collector(Box::new(StorageMetrics(store)));
        self
    }

    /// The same, with those of priority and fairness.
    pub(crate) fn with_flow(mut self, flow: &FlowMetrics) -> Self {
        flow.register(&mut self.registry);
        self
    }

    /// Counts a request as being answered until the result is dropped.
    pub(crate) fn begin(&self, reads: bool) -> Underway {
        let gauge = if reads { &self.reading } else { &self.writing };
        gauge.inc();
        Underway(gauge.clone())
    }

    /// Counts an answered request. A watch counts when it has begun.
    pub(crate) fn request(&self, target: &Target, method: &str, code: u16, took: Duration) {
        let Target::Resource(info) = target else { return };
        // Resources that do not exist are not labels: anyone could make up as many as they like.
        let (group, version, resource, subresource) = match code {
            404 | 405 => Default::default(),
            _ => (
                info.group.clone(),
                info.version.clone(),
                info.resource.clone(),
                info.subresource.clone(),
            ),
        };
        let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let verb = match info.verb.as_str() {
            "list" => "LIST".to_owned(),
            "watch" => "WATCH".to_owned(),
            "patch" if method == "PATCH" => "PATCH".to_owned(),
            _ => method.to_owned(),
        };
        let latency = Latency {
            verb: verb.clone(),
            group: group.clone(),
            version: version.clone(),
            resource: resource.clone(),
            subresource: subresource.clone(),
            scope,
        };
        self.latency.get_or_create(&latency).observe(took.as_secs_f64());
        self.requests
            .get_or_create(&Request {
                verb,
                group,
                version,
                resource,
                subresource,
                scope,
                code,
            })
            .inc();
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(), // writing to a string does not fail
        }
    }
}

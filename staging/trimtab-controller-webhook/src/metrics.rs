//! Figures of webhooks, under controller-runtime's names.

use std::fmt;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Upper bounds of the time that answers take, in seconds. The API server waits for 30 at most.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

type Labels = Vec<(&'static str, String)>;

/// The figures of one program's webhooks. Clones are the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    seconds: Family<Labels, Histogram>,
    totals: Family<Labels, Counter>,
    in_flight: Family<Labels, Gauge>,
    panics: Counter,
    conversion_panics: Counter,
}

/// A request that is being answered; one that is given up is not counted as answered.
pub(crate) struct Underway {
    webhook: String,
    metrics: Metrics,
    in_flight: Gauge<i64, AtomicI64>,
    begun: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            totals: Family::default(),
            in_flight: Family::default(),
            panics: Counter::default(),
            conversion_panics: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds the figures to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("controller_runtime");
        // The encoder adds the suffix `_total` to counters.
        registry.register(
            "webhook_latency_seconds",
            "How long answers to the API server took",
            self.seconds.clone(),
        );
        let help = "Answers to the API server, by their HTTP status code";
        registry.register("webhook_requests", help, self.totals.clone());
        let help = "Questions of the API server that are being answered";
        registry.register("webhook_requests_in_flight", help, self.in_flight.clone());
        let help = "Admission webhooks that panicked";
        registry.register("webhook_panics", help, self.panics.clone());
        let help = "Conversions that panicked";
        registry.register("conversion_webhook_panics", help, self.conversion_panics.clone());
    }

    /// All figures, in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut text = String::new();
        // To write into a string does not fail; half a text would be refused by its reader.
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }

    /// Has the figures of a webhook begin at 0.
    pub(crate) fn expect(&self, webhook: &str) {
        for code in [200, 500] {
            drop(self.totals.get_or_create(&labels(webhook, Some(code))));
        }
        drop(self.seconds.get_or_create(&labels(webhook, None)));
        drop(self.in_flight.get_or_create(&labels(webhook, None)));
    }

    /// Begins to measure an answer.
    pub(crate) fn begin(&self, webhook: &str) -> Underway {
        let in_flight = self.in_flight.get_or_create_owned(&labels(webhook, None));
        in_flight.inc();
        Underway {
            webhook: webhook.to_owned(),
            metrics: self.clone(),
            in_flight,
            begun: Instant::now(),
        }
    }

    /// Counts a panic.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a panic in a conversion.
    pub(crate) fn conversion_panicked(&self) {
        self.conversion_panics.inc();
    }
}

impl Underway {
    pub(crate) fn end(self, code: u16) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let (webhook, metrics) = (&self.webhook, &self.metrics);
        metrics
            .seconds
            .get_or_create(&labels(webhook, None))
            .observe(seconds);
        metrics.totals.get_or_create(&labels(webhook, Some(code))).inc();
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

fn labels(webhook: &str, code: Option<u16>) -> Labels {
    let mut labels = vec![("webhook", webhook.to_owned())];
    labels.extend(code.map(|code| ("code", code.to_string())));
    labels
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

//! What health checks have come to, at `/metrics/slis`: kept apart, so that it can be scraped often.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::encoded;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    name: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    name: &'static str,
    status: &'static str,
    r#type: &'static str,
}

/// The last outcome of each check, and how often it came to what.
#[derive(Debug)]
pub(crate) struct HealthMetrics {
    registry: Registry,
    last: Family<Check, Gauge>,
    all: Family<Outcome, Counter>,
}

impl HealthMetrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (last, all) = (Family::default(), Family::default());
        registry.register(
            "kubernetes_healthcheck",
            "Whether a health check held when it was last looked at",
            Family::clone(&last),
        );
        // The encoder adds the suffix `_total`.
        registry.register(
            "kubernetes_healthchecks",
            "Health checks that were looked at, by what came of it",
            Family::clone(&all),
        );
        Self { registry, last, all }
    }

    /// A check of an endpoint has been looked at.
    pub(crate) fn checked(&self, endpoint: &'static str, name: &'static str, holds: bool) {
        let check = Check {
            name,
            r#type: endpoint,
        };
        self.last.get_or_create(&check).set(holds.into());
        let outcome = Outcome {
            name,
            status: if holds { "success" } else { "error" },
            r#type: endpoint,
        };
        self.all.get_or_create(&outcome).inc();
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        encoded(&self.registry)
    }
}

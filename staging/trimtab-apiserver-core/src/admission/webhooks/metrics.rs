//! What is measured of calls, under kube-apiserver's names.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::call::Failure;
use super::review::Role;
use crate::registry::hooks::Operation;

/// Upper bounds in seconds; kube-apiserver's.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Codes above this count as this, so that webhooks cannot make up as many series as they like.
const CODE_MOST: u16 = 600;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u16,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    error_type: &'static str,
    rejection_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedOpen {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Conditions {
    name: String,
    kind: &'static str,
    r#type: &'static str,
    operation: &'static str,
}

/// A counter whose name is all there is: kube-apiserver has some without the suffix `_total`.
#[derive(Clone, Debug, Default)]
struct Plain(Counter);

impl TypedMetric for Plain {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Plain {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// All metrics of the calls of admission webhooks.
#[derive(Debug)]
pub(crate) struct WebhookMetrics {
    durations: Family<Called, Histogram>,
    requests: Family<Requested, Counter>,
    rejections: Family<Rejected, Plain>,
    failed_open: Family<FailedOpen, Plain>,
    excluded: Family<Conditions, Counter>,
    condition_errors: Family<Conditions, Counter>,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram),
            requests: Family::default(),
            rejections: Family::default(),
            failed_open: Family::default(),
            excluded: Family::default(),
            condition_errors: Family::default(),
        }
    }
}

impl WebhookMetrics {
    /// Makes the metrics part of what a server tells of itself.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Time to call admission webhooks, in seconds, by webhook, type, operation and whether the request was rejected",
            self.durations.clone(),
        );
        // The encoder adds the suffix `_total` to counters.
        registry.register(
            "apiserver_admission_webhook_request",
            "Calls of admission webhooks, by webhook, type, operation, code and whether the request was rejected",
            self.requests.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_rejection_count",
            "Requests rejected because of admission webhooks, by webhook, type, operation, cause and code",
            self.rejections.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_fail_open_count",
            "Calls of admission webhooks that failed without consequence, by webhook and type",
            self.failed_open.clone(),
        );
        registry.register(
            "apiserver_admission_match_condition_exclusions",
            "Calls of admission webhooks that a condition made unnecessary, by webhook, type and operation",
            self.excluded.clone(),
        );
        registry.register(
            "apiserver_admission_match_condition_evaluation_errors",
            "Conditions that could not be evaluated, by webhook, type and operation",
            self.condition_errors.clone(),
        );
    }

    /// Counts a call. `may_fail` says whether a failure to call is without consequence.
    pub(super) fn called(
        &self,
        hook: &str,
        role: Role,
        operation: Operation,
        took: Duration,
        failure: Option<&Failure>,
        may_fail: bool,
    ) {
        let (type_, operation) = (type_of(role), operation.as_str());
        let (code, cause) = match failure {
            None => (200, None),
            Some(Failure::Calling { code, .. }) if may_fail => (*code, None),
            Some(Failure::Calling { code, .. }) => (*code, Some("calling_webhook_error")),
            Some(Failure::Denied(error)) => (error.code, Some("no_error")),
            Some(Failure::Error(_)) => (0, Some("apiserver_internal_error")),
        };
        let code = code.min(CODE_MOST);
        let rejected = if cause.is_some() { "true" } else { "false" };
        let name = hook.to_owned();
        if failure.is_some() && cause.is_none() {
            let labels = FailedOpen {
                name: name.clone(),
                r#type: type_,
            };
            self.failed_open.get_or_create(&labels).0.inc();
        }
        if let Some(error_type) = cause {
            let labels = Rejected {
                name: name.clone(),
                r#type: type_,
                operation,
                error_type,
                rejection_code: code,
            };
            self.rejections.get_or_create(&labels).0.inc();
        }
        let labels = Requested {
            name: name.clone(),
            r#type: type_,
            operation,
            code,
            rejected,
        };
        self.requests.get_or_create(&labels).inc();
        let labels = Called {
            name,
            r#type: type_,
            operation,
            rejected,
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a call that a condition has made unnecessary.
    pub(super) fn excluded(&self, hook: &str, role: Role, operation: Operation) {
        self.excluded
            .get_or_create(&conditions(hook, role, operation))
            .inc();
    }

    /// Counts a condition that could not be evaluated.
    pub(super) fn condition_failed(&self, hook: &str, role: Role, operation: Operation) {
        self.condition_errors
            .get_or_create(&conditions(hook, role, operation))
            .inc();
    }
}

fn type_of(role: Role) -> &'static str {
    match role {
        Role::Mutating => "admit",
        Role::Validating => "validating",
    }
}

fn conditions(hook: &str, role: Role, operation: Operation) -> Conditions {
    Conditions {
        name: hook.to_owned(),
        kind: "webhook",
        r#type: match role {
            Role::Mutating => "admit",
            Role::Validating => "validate",
        },
        operation: operation.as_str(),
    }
}

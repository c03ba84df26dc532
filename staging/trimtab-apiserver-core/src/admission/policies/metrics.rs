//! What is measured of policies, under kube-apiserver's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds; kube-apiserver's.
const BUCKETS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorType {
    None,
    Compile,
    OutOfBudget,
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Validated {
    policy: String,
    policy_binding: String,
    error_type: &'static str,
    enforcement_action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mutated {
    policy: String,
    policy_binding: String,
    error_type: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of admission policies.
#[derive(Debug)]
pub(crate) struct PolicyMetrics {
    validations: Family<Validated, Counter>,
    validation_durations: Durations<Validated>,
    mutations: Family<Mutated, Counter>,
    mutation_durations: Durations<Mutated>,
}

impl Default for PolicyMetrics {
    fn default() -> Self {
        let histogram = (|| Histogram::new(BUCKETS)) as fn() -> Histogram;
        Self {
            validations: Family::default(),
            validation_durations: Family::new_with_constructor(histogram),
            mutations: Family::default(),
            mutation_durations: Family::new_with_constructor(histogram),
        }
    }
}

impl ErrorType {
    /// The kind of failure that this message is about.
    pub(super) fn of(message: &str) -> Self {
        if message.starts_with("compilation") {
            Self::Compile
        } else if message.starts_with("validation failed due to running out of cost budget") {
            Self::OutOfBudget
        } else {
            Self::Invalid
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "no_error",
            Self::Compile => "compile_error",
            Self::OutOfBudget => "out_of_budget",
            Self::Invalid => "invalid_error",
        }
    }
}

impl PolicyMetrics {
    /// Makes the metrics part of what a server tells of itself.
    pub(crate) fn register(&self, registry: &mut Registry) {
        // The encoder adds the suffix `_total` to counters.
        registry.register(
            "apiserver_validating_admission_policy_check",
            "Validations that did not hold or could not be evaluated, by policy, binding, type of error and what followed",
            self.validations.clone(),
        );
        registry.register(
            "apiserver_validating_admission_policy_check_duration_seconds",
            "Time to evaluate those validations, in seconds, by policy, binding, type of error and what followed",
            self.validation_durations.clone(),
        );
        registry.register(
            "apiserver_mutating_admission_policy_check",
            "Mutations, by policy, binding and type of error",
            self.mutations.clone(),
        );
        registry.register(
            "apiserver_mutating_admission_policy_check_duration_seconds",
            "Time to evaluate and apply mutations, in seconds, by policy, binding and type of error",
            self.mutation_durations.clone(),
        );
    }

    /// Counts a validation that does not hold or could not be evaluated, and what followed: `allow`, `audit`, `deny`, `warn`.
    pub(super) fn validated(
        &self,
        policy: &str,
        binding: &str,
        error: ErrorType,
        action: &'static str,
        took: Duration,
    ) {
        let labels = Validated {
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
            error_type: error.as_str(),
            enforcement_action: action,
        };
        self.validations.get_or_create(&labels).inc();
        let seconds = took.as_secs_f64();
        self.validation_durations.get_or_create(&labels).observe(seconds);
    }

    /// Counts a mutation.
    pub(super) fn mutated(&self, policy: &str, binding: &str, error: ErrorType, took: Duration) {
        let labels = Mutated {
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
            error_type: error.as_str(),
        };
        self.mutations.get_or_create(&labels).inc();
        self.mutation_durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

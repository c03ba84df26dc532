//! Validating policies: all are asked, and what they find is put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use trimtab_apimachinery_meta::errors::Cause;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apimachinery_schema::structural::{
    Activation, COST_OF_POLICY, EvaluationError, Expression, Inputs, Output,
};

use super::metrics::{ErrorType, PolicyMetrics};
use super::passage::{Passage, View};
use super::policy::{Binding, Bound, Policy, Validation, Validations};
use crate::admission::forbidden;
use crate::audit;

/// How long a computed message may be, in bytes (`MaxEvaluatedMessageExpressionSizeBytes`).
const LONGEST_MESSAGE: usize = 5 << 10;
/// How much of the value of an audit annotation is kept, in bytes.
const LONGEST_ANNOTATION: usize = 10 << 10;
/// The audit annotation for what has failed.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A validation that does not hold, or cannot be evaluated.
#[derive(Debug)]
struct Failure {
    message: String,
    /// As status reasons; empty for the usual one.
    reason: String,
    error: ErrorType,
    took: Duration,
}

/// What has come of evaluating a policy.
#[derive(Debug, Default)]
struct Verdict {
    /// By the validation's place.
    failures: Vec<(usize, Failure)>,
    /// Those that are without consequence.
    forgiven: Vec<Failure>,
    annotations: Vec<(String, String)>,
    /// Annotations that cannot be evaluated.
    broken: Vec<Failure>,
}

/// A refusal on its way to the client.
struct Denial {
    message: String,
    reason: String,
}

/// What all policies have found.
struct Findings<'a> {
    metrics: &'a PolicyMetrics,
    denial: Option<Denial>,
}

/// Asks the policies that the request concerns.
pub(super) async fn dispatch(
    passage: &Passage<'_>,
    metrics: &PolicyMetrics,
    policies: &[Bound<Validations>],
    object: Option<&Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let mut findings = Findings {
        metrics,
        denial: None,
    };
    for Bound { policy, bindings } in policies {
        let (policy, does) = &**policy;
        let (sight, resource) = match passage.concerned(policy, object, old).await {
            Ok(Some(concerned)) => concerned,
            Ok(None) => continue,
            Err(why) => {
                findings.misconfigured(policy, None, &why);
                continue;
            }
        };
        let mut view: Option<View<'_>> = None;
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bindings {
            let params = match passage.brought(binding, resource.as_ref(), object, old).await {
                Ok(params) if params.is_empty() => continue,
                Ok(params) => params,
                Err(why) => {
                    findings.misconfigured(policy, Some(binding), &why);
                    continue;
                }
            };
            let view = match &view {
                Some(view) => view,
                None => match passage.view(&sight, object, old).await {
                    Ok(made) => view.insert(made),
                    Err(error) => {
                        let why = format!("failed to convert object version: {error}");
                        findings.misconfigured(policy, Some(binding), &why);
                        continue;
                    }
                },
            };
            let namespace = passage.namespace_object().await?;
            for param in &params {
                let param = param.as_ref().unwrap_or(&Value::Null);
                let verdict = judge(passage, policy, does, passage.inputs(view, param, &namespace));
                findings.take(policy, binding, verdict, &mut annotations, warnings);
            }
        }
        findings.annotate(policy, annotations);
    }
    findings.denial.map_or(Ok(()), |denial| {
        let reason = match denial.reason.as_str() {
            "" => "Invalid",
            reason => reason,
        };
        let mut error = forbidden(passage.attributes, object, &denial.message);
        error.code = match reason {
            "Forbidden" => 403,
            "Unauthorized" => 401,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        error.reason = StatusReason::from(reason);
        error.causes.push(Cause {
            reason: String::new(),
            message: denial.message,
            field: String::new(),
        });
        Err(error)
    })
}

/// Evaluates a policy, once for each of its params.
fn judge(passage: &Passage<'_>, policy: &Policy, does: &Validations, inputs: Inputs<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    match passage.conditions_hold(policy, inputs) {
        Ok(true) => {}
        Ok(false) => return verdict,
        Err(why) => {
            verdict.failures.push((0, Failure::error(why, Duration::ZERO)));
            return verdict;
        }
    }
    let activation = Activation::new(&policy.composition, inputs);
    let mut budget = COST_OF_POLICY;
    let (mut failures, mut ran_out) = (Vec::new(), false);
    for (i, validation) in does.validations.iter().enumerate() {
        let start = Instant::now();
        let failure = match activation.evaluate(&validation.expression, &mut budget) {
            Ok(Output::Bool(true)) => continue,
            Ok(_) => None,
            Err(error @ EvaluationError::OutOfBudget) => {
                // Nothing more can be said.
                failures = vec![(0, Some(Failure::error(error.to_string(), start.elapsed())))];
                ran_out = true;
                break;
            }
            Err(error) => Some(Failure::error(error.to_string(), start.elapsed())),
        };
        failures.push((i, failure));
    }
    for (i, failure) in failures {
        let (failure, is_error) = match (failure, does.validations.get(i)) {
            (Some(failure), _) => (failure, true),
            (None, Some(validation)) => validation.failure(&activation, &mut budget),
            (None, None) => continue,
        };
        if is_error && policy.may_fail {
            verdict.forgiven.push(failure);
        } else {
            verdict.failures.push((i, failure));
        }
    }
    if !ran_out {
        annotate(policy, does, &activation, &mut verdict);
    }
    verdict
}

/// Evaluates a policy's audit annotations.
fn annotate(policy: &Policy, does: &Validations, activation: &Activation<'_>, verdict: &mut Verdict) {
    let mut budget = COST_OF_POLICY;
    for (key, expression) in &does.annotations {
        let start = Instant::now();
        let wrong = match activation.evaluate(expression, &mut budget) {
            Ok(Output::Text(value)) => {
                let value = value.trim();
                if !value.is_empty() {
                    verdict.annotations.push((key.clone(), value.to_owned()));
                }
                continue;
            }
            Ok(Output::Null) => continue,
            Ok(other) => unsupported(expression, &other),
            Err(_) if policy.may_fail => continue,
            Err(error) => error.to_string(),
        };
        verdict.broken.push(Failure::error(wrong, start.elapsed()));
    }
}

fn unsupported(expression: &Expression, output: &Output) -> String {
    format!(
        "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
        expression.text(),
        output.type_name()
    )
}

// === impl Failure ===

impl Failure {
    fn error(message: String, took: Duration) -> Self {
        Self {
            error: ErrorType::of(&message),
            message,
            reason: String::new(),
            took,
        }
    }
}

// === impl Validation ===

impl Validation {
    /// What to say of it when it does not hold, and whether that is that it cannot be said.
    fn failure(&self, activation: &Activation<'_>, budget: &mut u64) -> (Failure, bool) {
        let start = Instant::now();
        let computed = self
            .message_expression
            .as_ref()
            .map(|message| activation.evaluate(message, budget));
        let message = match computed {
            Some(Err(error @ EvaluationError::OutOfBudget)) => {
                let why = format!("failed messageExpression: {error}");
                return (Failure::error(why, start.elapsed()), true);
            }
            Some(Ok(Output::Text(text))) => {
                let text = text.trim();
                let fits = text.len() <= LONGEST_MESSAGE && !text.contains('\n');
                if fits { text.to_owned() } else { String::new() }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a messageExpression cannot be evaluated");
                String::new()
            }
            _ => String::new(),
        };
        let message = [message, self.message.clone()]
            .into_iter()
            .find(|message| !message.is_empty());
        let failure = Failure {
            message: message
                .unwrap_or_else(|| format!("failed expression: {}", self.expression.text().trim())),
            reason: self.reason.clone(),
            error: ErrorType::Invalid,
            took: start.elapsed(),
        };
        (failure, false)
    }
}

// === impl Findings ===

impl Findings<'_> {
    /// The first refusal is what the client is told.
    fn deny(&mut self, policy: &Policy, binding: Option<&Binding>, message: &str, reason: &str) {
        if self.denial.is_some() {
            return;
        }
        let mut text = format!("ValidatingAdmissionPolicy '{}'", policy.name);
        if let Some(binding) = binding {
            let _ = write!(text, " with binding '{}'", binding.name);
        }
        self.denial = Some(Denial {
            message: format!("{text} denied request: {message}"),
            reason: reason.to_owned(),
        });
    }

    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        let what = if binding.is_some() { "binding" } else { "policy" };
        if !policy.may_fail {
            self.deny(policy, binding, &format!("failed to configure {what}: {why}"), "");
        }
    }

    fn take(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        verdict: Verdict,
        annotations: &mut BTreeMap<String, Vec<String>>,
        warnings: &mut Vec<String>,
    ) {
        let metrics = self.metrics;
        let count = |failure: &Failure, action| {
            metrics.validated(&policy.name, &binding.name, failure.error, action, failure.took);
        };
        for failure in &verdict.forgiven {
            count(failure, "allow");
        }
        for (i, failure) in &verdict.failures {
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => {
                        self.deny(policy, Some(binding), &failure.message, &failure.reason);
                        count(failure, "deny");
                    }
                    "Audit" => {
                        self.audit_failure(policy, binding, *i, &failure.message);
                        count(failure, "audit");
                    }
                    _ => {
                        warnings.push(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                            policy.name, binding.name, failure.message
                        ));
                        count(failure, "warn");
                    }
                }
            }
        }
        for (key, mut value) in verdict.annotations {
            if value.len() > LONGEST_ANNOTATION {
                let end = (0..=LONGEST_ANNOTATION)
                    .rev()
                    .find(|end| value.is_char_boundary(*end));
                value.truncate(end.unwrap_or_default());
            }
            let values = annotations.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        for failure in &verdict.broken {
            self.deny(policy, Some(binding), &failure.message, "");
            count(failure, "deny");
        }
    }

    /// Notes what has failed for whoever keeps records.
    fn audit_failure(&self, policy: &Policy, binding: &Binding, index: usize, message: &str) {
        audit::annotate(FAILURE, || {
            let text = |text: &str| Value::from(text);
            format!(
                r#"[{{"message":{},"policy":{},"binding":{},"expressionIndex":{index},"validationActions":{}}}]"#,
                text(message),
                text(&policy.name),
                text(&binding.name),
                Value::from(binding.actions.clone()),
            )
        });
    }

    fn annotate(&self, policy: &Policy, annotations: BTreeMap<String, Vec<String>>) {
        for (key, values) in annotations {
            audit::annotate(&format!("{}/{key}", policy.name), || values.join(", "));
        }
    }
}

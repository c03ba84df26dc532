//! Mutating policies: one after the other, each with what the ones before it have made of the object.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use trimtab_apimachinery_meta::errors::Cause;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apimachinery_schema::patch::{self, PatchError};
use trimtab_apimachinery_schema::structural::{Activation, COST_OF_POLICY, Expression, Output, Returns};
use trimtab_apimachinery_schema::{Schema, apply};

use super::metrics::{ErrorType, PolicyMetrics};
use super::passage::Passage;
use super::policy::{Binding, Bound, Mutations, Policy};
use crate::admission::dynamic::{Progress, Sight, versions};
use crate::admission::forbidden;
use crate::registry::meta;

/// How far a request has come with its mutating policies.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(super) policies: Arc<Vec<Bound<Mutations>>>,
    pub(crate) progress: Progress,
}

impl Round {
    /// Whether there is no policy.
    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

/// A policy with one of its bindings and one of its params, and how it sees the request.
struct Invocation<'p> {
    policy: &'p Policy,
    does: &'p Mutations,
    binding: &'p Binding,
    sight: Sight,
    params: Option<Value>,
}

/// What does not work, of policies that must not fail.
#[derive(Debug, Default)]
struct Errors {
    /// Texts, and whether they are about expressions.
    all: Vec<(String, bool)>,
}

/// Asks the policies that the request concerns and whose turn it is.
pub(super) async fn dispatch(
    passage: &Passage<'_>,
    metrics: &PolicyMetrics,
    round: &mut Round,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let mut errors = Errors::default();
    let policies = round.policies.clone();
    let invocations = invocations(passage, &policies, object, old, &mut errors).await;
    if !invocations.is_empty() {
        let mut turns = Turns {
            passage,
            metrics,
            progress: &mut round.progress,
            old,
            namespace: passage.namespace_object().await?,
            errors: &mut errors,
            patched: false,
        };
        for invocation in &invocations {
            turns.invoke(invocation, object).await?;
        }
        if turns.patched {
            round.progress.change();
        }
        round.progress.leave(Some(object));
    }
    errors.into_result(passage, object)
}

/// The policies that the request concerns, by the object as it comes.
async fn invocations<'p>(
    passage: &Passage<'_>,
    policies: &'p [Bound<Mutations>],
    object: &Value,
    old: Option<&Value>,
    errors: &mut Errors,
) -> Vec<Invocation<'p>> {
    let mut invocations = Vec::new();
    for Bound { policy, bindings } in policies {
        let (policy, does) = &**policy;
        let (sight, resource) = match passage.concerned(policy, Some(object), old).await {
            Ok(Some(concerned)) => concerned,
            Ok(None) => continue,
            Err(why) => {
                errors.misconfigured(policy, None, &why);
                continue;
            }
        };
        for binding in bindings {
            let params = passage
                .brought(binding, resource.as_ref(), Some(object), old)
                .await;
            match params {
                Ok(params) => invocations.extend(params.into_iter().map(|params| Invocation {
                    policy,
                    does,
                    binding,
                    sight: sight.clone(),
                    params,
                })),
                Err(why) => errors.misconfigured(policy, Some(binding), &why),
            }
        }
    }
    invocations
}

/// One round of a request, policy after policy.
struct Turns<'t> {
    passage: &'t Passage<'t>,
    metrics: &'t PolicyMetrics,
    progress: &'t mut Progress,
    old: Option<&'t Value>,
    namespace: Value,
    errors: &'t mut Errors,
    /// Whether anything has been applied.
    patched: bool,
}

impl Turns<'_> {
    /// Has one policy change the object, if it is its turn.
    async fn invoke(&mut self, invocation: &Invocation<'_>, object: &mut Value) -> Result<(), ApiError> {
        let Invocation {
            policy,
            does,
            binding,
            sight,
            params,
        } = invocation;
        let (passage, id) = (self.passage, invocation.id());
        let params = params.as_ref().unwrap_or(&Value::Null);
        let mut view = match passage.view(sight, Some(object), self.old).await {
            Ok(view) => view,
            Err(error) => {
                self.errors.misconfigured(policy, None, &error.to_string());
                return Ok(());
            }
        };
        match passage.conditions_hold(policy, passage.inputs(&view, params, &self.namespace)) {
            Ok(true) if self.progress.has_turn(&id) => {}
            Ok(_) => return Ok(()),
            Err(why) => {
                self.errors.failed(policy, binding, &why);
                return Ok(());
            }
        }
        let mut applied = false;
        for mutation in &does.mutations {
            let start = Instant::now();
            let inputs = passage.inputs(&view, params, &self.namespace);
            let activation = Activation::new(&policy.composition, inputs);
            let outcome = mutate(passage, sight, mutation, &activation, inputs.object);
            let type_ = outcome.as_ref().err().map_or(ErrorType::None, Failure::type_);
            self.metrics
                .mutated(&policy.name, &binding.name, type_, start.elapsed());
            match outcome {
                Ok(changed) => {
                    view.shown.object = Some(Cow::Owned(changed));
                    applied = true;
                }
                Err(Failure::Policy(why)) => self.errors.failed(policy, binding, &why),
                Err(Failure::Request(error)) => return Err(error),
            }
        }
        if applied && let Some(changed) = view.shown.object {
            self.patched = true;
            let changed = changed.into_owned();
            let own = &passage.attributes.resource;
            let (seen, attributes) = (&sight.resource, passage.attributes);
            let back = versions::convert(&passage.resources, seen, own, attributes, &changed).await?;
            if *back != *object {
                self.progress.change();
            }
            *object = back.into_owned();
        }
        if does.again {
            self.progress.ask_again(&id);
        }
        Ok(())
    }
}

/// A mutation that has not worked.
enum Failure {
    /// The policy is to blame, and its failure policy says what that means.
    Policy(String),
    /// The request cannot go on, whatever the failure policy says.
    Request(ApiError),
}

/// The object, in the version of `sight`, as one mutation makes it.
fn mutate(
    passage: &Passage<'_>,
    sight: &Sight,
    mutation: &Expression,
    activation: &Activation<'_>,
    object: &Value,
) -> Result<Value, Failure> {
    if let Some(fault) = mutation.fault() {
        return Err(Failure::Policy(fault.to_owned()));
    }
    let mut budget = COST_OF_POLICY;
    let output = activation.evaluate(mutation, &mut budget);
    let output = output.map_err(|error| Failure::Policy(error.to_string()))?;
    let Output::Json(output) = output else {
        let why = format!("invalid return type: {}", output.type_name());
        return Err(Failure::Policy(why));
    };
    let mut changed = if mutation.returns() == Returns::Patches {
        let Some(patched) = patched(object, &output).map_err(Failure::Policy)? else {
            return Ok(object.clone());
        };
        decoded(passage, sight, patched).map_err(|why| Failure::Request(ApiError::internal(why)))?
    } else {
        applied(passage, sight, object, output).map_err(Failure::Policy)?
    };
    if versions::is_own(passage.attributes) {
        meta::normalize(&mut changed);
        sight.resource.strategy.default(&mut changed);
    }
    Ok(changed)
}

/// The object with a JSON patch; `None` when a test in it fails, which leaves the object as it is.
fn patched(object: &Value, operations: &Value) -> Result<Option<Value>, String> {
    let mut patched = object.clone();
    match patch::json(&mut patched, operations.to_string().as_bytes()) {
        Ok(()) => Ok(Some(patched)),
        Err(PatchError::TestFailed(_)) => Ok(None),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}

/// What a decoder makes of an object that was patched; of built-in kinds it must know all fields.
fn decoded(passage: &Passage<'_>, sight: &Sight, patched: Value) -> Result<Value, String> {
    if !versions::is_own(passage.attributes) {
        return Ok(patched);
    }
    if sight.resource.custom {
        return versions::decode(&sight.resource, &passage.resources, &patched);
    }
    versions::decode_strictly(&sight.resource, &passage.resources, &patched)
}

/// The object with an apply configuration.
fn applied(
    passage: &Passage<'_>,
    sight: &Sight,
    object: &Value,
    mut configuration: Value,
) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        configuration[field] = object[field].clone();
    }
    let anything;
    // What is of a kind of its own, as `Scale`, has no schema here.
    let schema: &Schema = if versions::is_own(passage.attributes) {
        &sight.resource.schema
    } else {
        anything = Schema::any();
        &anything
    };
    apply::overlay(schema, object, &configuration).map_err(|why| format!("error applying patch: {why}"))
}

// === impl Invocation ===

impl Invocation<'_> {
    /// Tells it from all others.
    fn id(&self) -> String {
        let of = |field: fn(&Value) -> &str| self.params.as_ref().map(field).unwrap_or_default();
        format!(
            "{}/{}/{}/{}",
            self.policy.name,
            self.binding.name,
            of(meta::namespace),
            of(meta::name)
        )
    }
}

// === impl Failure ===

impl Failure {
    fn type_(&self) -> ErrorType {
        match self {
            Self::Policy(why) => ErrorType::of(why),
            Self::Request(_) => ErrorType::Invalid,
        }
    }
}

// === impl Errors ===

impl Errors {
    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        if policy.may_fail {
            return;
        }
        let text = match binding {
            Some(binding) => format!(
                "policy '{}' with binding '{}' denied request: failed to configure binding: {why}",
                policy.name, binding.name
            ),
            None => format!(
                "policy {:?} denied request: failed to configure policy: {why}",
                policy.name
            ),
        };
        self.all.push((text, false));
    }

    fn failed(&mut self, policy: &Policy, binding: &Binding, why: &str) {
        if !policy.may_fail {
            let text = format!(
                "policy '{}' with binding '{}' denied request: {why}",
                policy.name, binding.name
            );
            self.all.push((text, true));
        }
    }

    fn into_result(self, passage: &Passage<'_>, object: &Value) -> Result<(), ApiError> {
        let Some((first, of_expression)) = self.all.first() else {
            return Ok(());
        };
        let mut error = forbidden(
            passage.attributes,
            Some(object),
            "admission request denied by policy",
        );
        error.message.clone_from(first);
        if *of_expression {
            error.reason = StatusReason::Invalid;
        }
        error.causes = self
            .all
            .into_iter()
            .map(|(message, _)| Cause {
                reason: String::new(),
                message,
                field: String::new(),
            })
            .collect();
        Err(error)
    }
}

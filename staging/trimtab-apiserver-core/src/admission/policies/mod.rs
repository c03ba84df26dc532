//! Admission policies: expressions, kept as objects, that refuse requests or change them, evaluated in the server itself.
//!
//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies say what is to be checked and changed; bindings, without which they
//! do nothing, say where, with which params, and what follows. `policy` reads them, `params` finds the objects that bindings
//! bring, and `passage` is a request as expressions see it. `mutating` has the object changed by one policy after the other,
//! before webhooks see it; `validating` asks all policies, before validating webhooks are asked. `access` sees to it that nobody
//! reads by a policy what they may not read, and `status` tells of expressions that do not fit the kinds that they are about.
//!
//! **Invariant:** a request sees every policy and binding whose write was acknowledged before it began (checked by
//! `a_policy_counts_from_the_next_request_on`). Requests for policies and bindings are seen by none, lest one that is wrong keep
//! itself from being mended.
//!
//! Differences from kube-apiserver: costs are estimated where it counts the steps of its interpreter (see
//! `trimtab_apimachinery_schema::structural`), policies and their bindings come in the order of their names rather than in none,
//! and what one mutating policy has changed is seen by the next one also when that wants another version of the object.

mod access;
mod metrics;
mod mutating;
mod params;
mod passage;
mod policy;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod validating;

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

pub(crate) use self::access::ParamAccess;
pub(crate) use self::metrics::PolicyMetrics;
pub(crate) use self::mutating::Round;
use self::passage::Passage;
use self::policy::{Mutating, Validating};
use super::dynamic::{Both, Progress, Surroundings, is_exempt_from_policies};
use crate::registry::hooks::Attributes;

/// The policies of a server.
#[derive(Debug)]
pub(crate) struct Policies {
    around: Surroundings,
    configurations: Both<Mutating, Validating>,
    metrics: Arc<PolicyMetrics>,
}

impl Policies {
    /// The policies that are in the store.
    pub(crate) fn new(around: Surroundings, metrics: Arc<PolicyMetrics>) -> Self {
        Self {
            configurations: Both::new(&around.store, is_exempt_from_policies),
            around,
            metrics,
        }
    }

    /// Keeps up with the store; ends when it is dropped.
    pub(crate) async fn follow(&self) {
        self.configurations.follow().await;
    }

    /// The first round of mutating policies.
    ///
    /// # Errors
    ///
    /// When the policies cannot be read.
    pub(crate) async fn first_round(&self, attributes: &Attributes) -> Result<Round, ApiError> {
        Ok(Round {
            policies: self.configurations.mutating(attributes).await?,
            progress: Progress::default(),
        })
    }

    /// Has the object changed by the mutating policies that the request concerns and whose turn it is in this round.
    ///
    /// # Errors
    ///
    /// What cannot be evaluated or applied, of policies that must not fail.
    pub(crate) async fn mutate(
        &self,
        round: &mut Round,
        attributes: &Attributes,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if round.is_empty() {
            return Ok(());
        }
        let passage = Passage::new(&self.around, attributes);
        mutating::dispatch(&passage, &self.metrics, round, object, old).await
    }

    /// Asks all validating policies that the request concerns.
    ///
    /// # Errors
    ///
    /// The refusal of the first policy that refuses it.
    pub(crate) async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let policies = self.configurations.validating(attributes).await?;
        if policies.is_empty() {
            return Ok(());
        }
        let passage = Passage::new(&self.around, attributes);
        validating::dispatch(&passage, &self.metrics, &policies, object, old, warnings).await
    }
}

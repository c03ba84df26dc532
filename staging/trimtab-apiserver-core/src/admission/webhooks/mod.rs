//! Admission webhooks: servers of others that change requests, or refuse them.
//!
//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations say which webhooks there are; `hook` reads them.
//! `review` is what is said to a webhook and what it says, and `call` puts that together with what `dynamic` knows of
//! matching and of versions. `mutating` calls one webhook after the other, `validating` all at once.
//!
//! **Invariant:** a request sees every configuration whose write was acknowledged before it began (checked by
//! `a_configuration_counts_from_the_next_request_on`).

mod call;
mod hook;
mod metrics;
mod mutating;
mod review;
#[cfg(test)]
mod tests;
mod validating;

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

use self::hook::{Mutating, Validating};
pub(crate) use self::metrics::WebhookMetrics;
pub(crate) use self::mutating::Round;
use super::dynamic::{Both, Surroundings, is_exempt};
use crate::registry::hooks::Attributes;
use crate::webhook::Clients;

/// The webhooks of a server.
#[derive(Debug)]
pub(crate) struct Webhooks {
    around: Surroundings,
    /// By whom they are called.
    clients: Arc<Clients>,
    configurations: Both<Mutating, Validating>,
    metrics: Arc<WebhookMetrics>,
}

impl Webhooks {
    /// The webhooks that the store's configurations name.
    pub(crate) fn new(around: Surroundings, clients: Arc<Clients>, metrics: Arc<WebhookMetrics>) -> Self {
        Self {
            configurations: Both::new(&around.store, is_exempt),
            around,
            clients,
            metrics,
        }
    }

    /// Keeps up with the store; ends when it is dropped.
    pub(crate) async fn follow(&self) {
        self.configurations.follow().await;
    }

    /// The first round of calls of mutating webhooks.
    ///
    /// # Errors
    ///
    /// When the configurations cannot be read.
    pub(crate) async fn first_round(&self, attributes: &Attributes) -> Result<Round, ApiError> {
        Ok(Round::first(self.configurations.mutating(attributes).await?))
    }

    /// Calls the mutating webhooks that the request concerns and whose turn it is in this round. `object` is `None` for
    /// deletes.
    ///
    /// # Errors
    ///
    /// The first refusal, or failure of a webhook that must not fail.
    pub(crate) async fn mutate(
        &self,
        round: &mut Round,
        attributes: &Attributes,
        object: Option<&mut Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        mutating::dispatch(self, round, attributes, object, old, warnings).await
    }

    /// Calls all validating webhooks that the request concerns, at once.
    ///
    /// # Errors
    ///
    /// The refusal, or failure of a webhook that must not fail; of several that of the first webhook.
    pub(crate) async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let hooks = self.configurations.validating(attributes).await?;
        validating::dispatch(self, &hooks, attributes, object, old, warnings).await
    }
}

//! Admission webhooks: servers of others that change requests, or refuse them.
//!
//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations say which webhooks there are; `hook` reads them,
//! anew whenever they have changed. `matching` decides which of them a request concerns, `versions` gives objects the
//! version that a webhook wants, `review` is what is said to it and what it says, and `call` puts that together.
//! `mutating` calls one webhook after the other, `validating` all at once.
//!
//! **Invariant:** a request sees every configuration whose write was acknowledged before it began (checked by
//! `a_configuration_counts_from_the_next_request_on`).
//!
//! Left out is what needs parts that this server does not have: audit annotations are read by nobody.

mod call;
mod hook;
mod matching;
mod metrics;
mod mutating;
mod review;
#[cfg(test)]
mod tests;
mod validating;
mod versions;

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_schema::structural;
use trimtab_apiserver_auth::{Attributes as Asked, UserInfo};
use trimtab_apiserver_storage::Store;

use self::hook::Configurations;
use self::matching::is_exempt;
pub(crate) use self::metrics::WebhookMetrics;
pub(crate) use self::mutating::Round;
use super::Reader;
use crate::auth::Authorizer;
use crate::registry::ResourceTable;
use crate::registry::hooks::Attributes;
use crate::webhook::Clients;

/// What webhooks need of the server around them.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) resources: Arc<ResourceTable>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) clients: Arc<Clients>,
}

/// The webhooks of a server.
#[derive(Debug)]
pub(crate) struct Webhooks {
    around: Surroundings,
    mutating: Configurations,
    validating: Configurations,
    metrics: Arc<WebhookMetrics>,
}

impl Webhooks {
    /// The webhooks that the store's configurations name.
    pub(crate) fn new(around: Surroundings, metrics: Arc<WebhookMetrics>) -> Self {
        Self {
            mutating: Configurations::new(around.store.clone(), "mutatingwebhookconfigurations"),
            validating: Configurations::new(around.store.clone(), "validatingwebhookconfigurations"),
            around,
            metrics,
        }
    }

    /// The first round of calls of mutating webhooks.
    ///
    /// # Errors
    ///
    /// When the configurations cannot be read.
    pub(crate) async fn first_round(&self, attributes: &Attributes) -> Result<Round, ApiError> {
        let hooks = if is_exempt(attributes) {
            Arc::default()
        } else {
            self.mutating.current().await?
        };
        Ok(Round::first(hooks))
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
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = self.validating.current().await?;
        validating::dispatch(self, &hooks, attributes, object, old, warnings).await
    }
}

/// Asks the server's authorizer on behalf of a condition.
#[derive(Debug)]
struct Asking {
    authorizer: Arc<dyn Authorizer>,
    user: UserInfo,
}

impl structural::Authorizer for Asking {
    fn decide(&self, check: &structural::Check) -> structural::Decision {
        let account;
        let user = match &check.service_account {
            Some((namespace, name)) => {
                account = UserInfo::of_service_account(namespace, name).authenticated();
                &account
            }
            None => &self.user,
        };
        let asked = Asked {
            verb: check.verb.clone(),
            group: check.group.clone(),
            version: if check.path.is_none() {
                "*".to_owned()
            } else {
                String::new()
            },
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            is_resource: check.path.is_none(),
            path: check.path.clone().unwrap_or_default(),
        };
        let decision = self.authorizer.authorize(user, &asked);
        structural::Decision {
            allowed: decision.allowed,
            reason: decision.reason,
            error: String::new(),
        }
    }
}

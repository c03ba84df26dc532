//! One webhook and one request: whether it is asked, asking it, and what its answer comes to.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apimachinery_schema::structural::{Authorizer, Variables};

use super::Webhooks;
use super::hook::Hook;
use super::review::{self, Response, Role, Version};
use crate::admission::dynamic::{self, Asking, Namespace, Sight, versions};
use crate::audit;
use crate::registry::Resources;
use crate::registry::hooks::Attributes;
use crate::webhook;

/// A request on its way past webhooks.
pub(super) struct Passage<'a> {
    pub(super) webhooks: &'a Webhooks,
    pub(super) attributes: &'a Attributes,
    namespace: Namespace<'a>,
    authorizer: Arc<dyn Authorizer>,
}

/// A webhook that has not said yes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// It could not be asked, or has answered nonsense: its failure policy says what that means. `code` is for the metrics.
    Calling { why: String, code: u16 },
    /// It has refused the request.
    Denied(ApiError),
    /// It may not be asked, or what it wants cannot be done, whatever its failure policy says.
    Error(ApiError),
}

impl Failure {
    pub(super) fn calling(why: impl Into<String>, code: u16) -> Self {
        let why = why.into();
        Self::Calling { why, code }
    }

    pub(super) fn internal(why: impl std::fmt::Display) -> Self {
        Self::Error(ApiError::internal(why))
    }
}

impl<'a> Passage<'a> {
    pub(super) fn new(webhooks: &'a Webhooks, attributes: &'a Attributes) -> Self {
        let asking = Asking {
            authorizer: webhooks.around.authorizer.clone(),
            user: attributes.user.clone(),
        };
        Self {
            webhooks,
            attributes,
            namespace: Namespace::new(&*webhooks.around.reader, attributes),
            authorizer: Arc::new(asking),
        }
    }

    /// As what the webhook is to be asked about the request; `None` when the request is none of its concern.
    pub(super) async fn sight(
        &self,
        hook: &Hook,
        role: Role,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<Sight>, ApiError> {
        let resources = self.webhooks.around.resources.snapshot();
        let Some(sight) = dynamic::sight(&hook.rules, hook.equivalents, self.attributes, &resources) else {
            return Ok(None);
        };
        let objects = hook.objects.as_ref().map_err(ApiError::internal)?;
        let namespaces = hook.namespaces.as_ref().map_err(ApiError::internal)?;
        let matches = dynamic::objects_match(objects, self.attributes, object, old)
            && self.namespace.matches(namespaces, object).await?
            && self
                .conditions_hold(hook, role, &resources, &sight, object, old)
                .await?;
        Ok(matches.then_some(sight))
    }

    /// Whether all conditions hold. One that does not, decides; only then do those count that cannot be evaluated.
    async fn conditions_hold(
        &self,
        hook: &Hook,
        role: Role,
        resources: &Resources,
        sight: &Sight,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<bool, ApiError> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let shown = versions::show(resources, self.attributes, sight, object, old).await?;
        let request = dynamic::request(self.attributes, sight);
        let variables = Variables {
            object: shown.object.as_deref().unwrap_or(&Value::Null),
            old_object: shown.old.as_deref().unwrap_or(&Value::Null),
            request: &request,
            authorizer: &self.authorizer,
        };
        let mut faults = Vec::new();
        for condition in &hook.conditions {
            match condition.holds(&variables) {
                Ok(true) => {}
                Ok(false) => {
                    self.webhooks
                        .metrics
                        .excluded(&hook.name, role, self.attributes.operation);
                    return Ok(false);
                }
                Err(fault) => {
                    self.webhooks
                        .metrics
                        .condition_failed(&hook.name, role, self.attributes.operation);
                    faults.push(fault);
                }
            }
        }
        let why = match faults.as_slice() {
            [] => return Ok(true),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        if hook.may_fail {
            return Ok(false);
        }
        let resource = self.attributes.resource.group_resource();
        Err(ApiError::forbidden(&resource, &self.attributes.name, why))
    }

    /// Asks the webhook. `object` and `old` are in the version of `sight`.
    pub(super) async fn ask(
        &self,
        hook: &Hook,
        role: Role,
        sight: &Sight,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Response, Failure> {
        if self.attributes.dry_run {
            check_side_effects(hook)?;
        }
        let version = Version::choose(&hook.review_versions).ok_or_else(|| {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                (v1, v1beta1)";
            Failure::calling(why, 400)
        })?;
        let no_client = |why: &str| Failure::calling(format!("could not get REST client: {why}"), 500);
        let target = hook.target.as_ref().map_err(|why| no_client(why))?;
        let clients = &self.webhooks.clients;
        clients.check(target).map_err(|why| no_client(&why))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = dynamic::request(self.attributes, sight);
        let review = review::review(version, request, &uid, object, old);
        let end = webhook::end(hook.timeout, self.attributes.deadline);
        let answer = clients.post(target, &review, end).await.map_err(|error| {
            let why = format!("failed to call webhook: {}", error.message);
            Failure::calling(why, error.code)
        })?;
        let response = review::read(&answer, version, &uid, role)
            .map_err(|why| Failure::calling(format!("received invalid webhook response: {why}"), 503))?;
        for (key, value) in &response.annotations {
            audit::annotate(&format!("{}/{key}", hook.name), || value.clone());
        }
        Ok(response)
    }

    /// Whether the request's time is over.
    pub(super) fn is_over(&self) -> bool {
        webhook::is_over(self.attributes.deadline)
    }

    /// Counts a call that began at `start`.
    pub(super) fn observe(&self, hook: &Hook, role: Role, start: Instant, failure: Option<&Failure>) {
        let operation = self.attributes.operation;
        let metrics = &self.webhooks.metrics;
        metrics.called(
            &hook.name,
            role,
            operation,
            start.elapsed(),
            failure,
            hook.may_fail,
        );
    }
}

/// On a dry run only those are asked that promise not to do anything.
fn check_side_effects(hook: &Hook) -> Result<(), Failure> {
    match hook.side_effects.as_str() {
        "None" | "NoneOnDryRun" => Ok(()),
        "" => Err(Failure::calling("Webhook SideEffects is nil", 400)),
        _ => {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            Err(Failure::Error(ApiError::new(400, StatusReason::BadRequest, why)))
        }
    }
}

/// What the client is told of a webhook that cannot be asked and must not fail.
pub(super) fn failed_calling(hook: &Hook, why: &str) -> ApiError {
    ApiError::internal(format_args!("failed calling webhook {:?}: {why}", hook.name))
}

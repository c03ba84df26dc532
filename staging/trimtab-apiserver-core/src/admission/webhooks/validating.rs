//! Calling validating webhooks: all that the request concerns at once, since none changes anything.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;

use super::Webhooks;
use super::call::{Failure, Passage, failed_calling};
use super::hook::Hook;
use super::review::{self, Role};
use crate::admission::dynamic::{Sight, versions};
use crate::registry::deadline_exceeded;
use crate::registry::hooks::Attributes;

/// Calls the webhooks that the request concerns; all have answered when this returns.
pub(super) async fn dispatch(
    webhooks: &Webhooks,
    hooks: &[Arc<Hook>],
    attributes: &Attributes,
    object: Option<&Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let passage = Passage::new(webhooks, attributes);
    let mut concerned = Vec::new();
    for hook in hooks {
        if let Some(sight) = passage.sight(hook, Role::Validating, object, old).await? {
            concerned.push((hook, sight));
        }
    }
    if concerned.is_empty() {
        return Ok(());
    }
    if passage.is_over() {
        return Err(deadline_exceeded());
    }
    let calls = concerned
        .iter()
        .map(|(hook, sight)| call(&passage, hook, sight, object, old));
    let mut refusal = None;
    for ((hook, _), (told, outcome)) in concerned.iter().zip(join_all(calls).await) {
        warnings.extend(told);
        let error = match outcome {
            Ok(()) => continue,
            Err(Failure::Denied(error) | Failure::Error(error)) => error,
            Err(Failure::Calling { why, .. }) if hook.may_fail => {
                tracing::warn!(
                    webhook = hook.name,
                    why,
                    "cannot call a webhook; going on without it"
                );
                continue;
            }
            Err(Failure::Calling { .. }) if passage.is_over() => deadline_exceeded(),
            Err(Failure::Calling { why, .. }) => failed_calling(hook, &why),
        };
        refusal.get_or_insert(error);
    }
    match refusal {
        Some(error) => Err(error),
        None if passage.is_over() => Err(deadline_exceeded()),
        None => Ok(()),
    }
}

/// Calls one webhook; answers what it warns of, and whether it says no.
async fn call(
    passage: &Passage<'_>,
    hook: &Hook,
    sight: &Sight,
    object: Option<&Value>,
    old: Option<&Value>,
) -> (Vec<String>, Result<(), Failure>) {
    let resources = passage.webhooks.around.resources.snapshot();
    let shown = match versions::show(&resources, passage.attributes, sight, object, old).await {
        Ok(shown) => shown,
        Err(error) => return (Vec::new(), Err(Failure::Error(error))),
    };
    let start = Instant::now();
    let answer = passage
        .ask(
            hook,
            Role::Validating,
            sight,
            shown.object.as_deref(),
            shown.old.as_deref(),
        )
        .await;
    let (warnings, outcome) = match answer {
        Ok(response) if response.allowed => (response.warnings, Ok(())),
        Ok(response) => {
            let denied = review::denied(&hook.name, &response.result);
            (response.warnings, Err(Failure::Denied(denied)))
        }
        Err(failure) => (Vec::new(), Err(failure)),
    };
    passage.observe(hook, Role::Validating, start, outcome.as_ref().err());
    (warnings, outcome)
}

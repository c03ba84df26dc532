//! Calling mutating webhooks: one after the other, each with what the ones before it have made of the object.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_schema::patch::{self, PatchError};

use super::Webhooks;
use super::call::{Failure, Passage, failed_calling};
use super::hook::Hook;
use super::review::{self, Response, Role};
use crate::admission::dynamic::{Progress, Sight, versions};
use crate::registry::deadline_exceeded;
use crate::registry::hooks::Attributes;

/// How far a request has come with its mutating webhooks.
#[derive(Debug, Default)]
pub(crate) struct Round {
    hooks: Arc<Vec<Arc<Hook>>>,
    pub(crate) progress: Progress,
}

impl Round {
    pub(super) fn first(hooks: Arc<Vec<Arc<Hook>>>) -> Self {
        Self {
            hooks,
            progress: Progress::default(),
        }
    }

    /// Whether there is nobody to call.
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
}

/// Calls the webhooks whose turn it is.
pub(super) async fn dispatch(
    webhooks: &Webhooks,
    round: &mut Round,
    attributes: &Attributes,
    mut object: Option<&mut Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if round.hooks.is_empty() {
        return Ok(());
    }
    let passage = Passage::new(webhooks, attributes);
    for hook in round.hooks.clone().iter() {
        if !round.progress.has_turn(&hook.id) {
            continue;
        }
        let Some(sight) = passage
            .sight(hook, Role::Mutating, object.as_deref(), old)
            .await?
        else {
            continue;
        };
        let start = Instant::now();
        let outcome = call(&passage, hook, &sight, object.as_deref(), old, warnings).await;
        passage.observe(hook, Role::Mutating, start, outcome.as_ref().err());
        if let (Ok(Some(changed)), Some(object)) = (&outcome, object.as_deref_mut()) {
            if changed.differs {
                round.progress.change();
            }
            object.clone_from(&changed.object);
        }
        if hook.again {
            round.progress.ask_again(&hook.id);
        }
        match outcome {
            Ok(_) => {}
            Err(Failure::Denied(error) | Failure::Error(error)) => return Err(error),
            Err(Failure::Calling { .. }) if passage.is_over() => {
                return Err(deadline_exceeded());
            }
            Err(Failure::Calling { why, .. }) if hook.may_fail => {
                tracing::warn!(
                    webhook = hook.name,
                    why,
                    "cannot call a webhook; going on without it"
                );
            }
            Err(Failure::Calling { why, .. }) => return Err(failed_calling(hook, &why)),
        }
    }
    round.progress.leave(object.as_deref());
    Ok(())
}

/// What a webhook has made of the object.
struct Changed {
    /// In the request's own version.
    object: Value,
    /// Whether that is something else than before, defaults aside.
    differs: bool,
}

async fn call(
    passage: &Passage<'_>,
    hook: &Hook,
    sight: &Sight,
    object: Option<&Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Option<Changed>, Failure> {
    let attributes = passage.attributes;
    let resources = passage.webhooks.around.resources.snapshot();
    let shown = versions::show(&resources, attributes, sight, object, old)
        .await
        .map_err(Failure::Error)?;
    let response = passage
        .ask(
            hook,
            Role::Mutating,
            sight,
            shown.object.as_deref(),
            shown.old.as_deref(),
        )
        .await?;
    warnings.extend(response.warnings.iter().cloned());
    if !response.allowed {
        return Err(Failure::Denied(review::denied(&hook.name, &response.result)));
    }
    let Some(mut patched) = apply(hook, &response, shown.object.as_deref())? else {
        return Ok(None);
    };
    if !versions::is_own(attributes) {
        let differs = object != Some(&patched);
        return Ok(Some(Changed {
            object: patched,
            differs,
        }));
    }
    patched = versions::decode(&sight.resource, &resources, &patched).map_err(Failure::internal)?;
    let differs = shown.object.as_deref() != Some(&patched);
    sight.resource.strategy.default(&mut patched);
    let own = &attributes.resource;
    let object = versions::convert(&resources, &sight.resource, own, attributes, &patched)
        .await
        .map_err(Failure::Error)?
        .into_owned();
    Ok(Some(Changed { object, differs }))
}

/// The object as the webhook's patch has it; `None` when there is no patch.
fn apply(hook: &Hook, response: &Response, object: Option<&Value>) -> Result<Option<Value>, Failure> {
    if response.patch.is_empty() {
        return Ok(None);
    }
    let undecodable = |why: String| {
        Failure::calling(
            format!("received undecodable patch in webhook response: {why}"),
            503,
        )
    };
    let operations: Vec<Value> =
        serde_json::from_slice(&response.patch).map_err(|error| undecodable(error.to_string()))?;
    if operations.is_empty() {
        return Ok(None);
    }
    let Some(object) = object else {
        return Err(Failure::internal(format_args!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    };
    if response.patch_type != "JSONPatch" {
        let why = format!("unsupported patch type {:?}", response.patch_type);
        return Err(Failure::calling(why, 400));
    }
    let mut patched = object.clone();
    match patch::json(&mut patched, &response.patch) {
        Ok(()) => Ok(Some(patched)),
        Err(PatchError::Malformed(why)) => Err(undecodable(why)),
        Err(other) => Err(Failure::internal(other)),
    }
}

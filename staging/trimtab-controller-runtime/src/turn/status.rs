//! The status that a turn collects: changed in memory as often as one likes, written once.

use std::any::Any;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::conditions;
use trimtab_apimachinery_meta::phase::Phase;
use trimtab_client_coordination::clock::Clock;

use super::{Turn, request};
use crate::error::{Error, Result};
use crate::introspection::StatusWrite;
use crate::subject::Reconciled;

/// A status that reports by conditions. Implement it for the status of a custom resource.
pub trait Conditions {
    /// The list of conditions.
    fn conditions(&mut self) -> &mut Vec<Condition>;

    /// Takes note of the generation of the spec that the status is about, as each condition does. For a status with a
    /// field `observedGeneration` of its own; does nothing otherwise.
    fn observed(&mut self, _generation: Option<i64>) {}
}

/// Whether a condition holds. Made from a `bool`, or from an `Option<bool>` where `None` means unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// That is not known.
    Unknown,
}

/// A status that has been changed and not written.
pub(super) trait Draft<K>: Send + Sync {
    fn as_any(&mut self) -> &mut dyn Any;
    fn before(&self, object: &K) -> Result<Value>;
    fn after(&self) -> Result<Value>;
}

/// The status of a kind whose type says what it is.
struct StatusDraft<S>(S);

/// The status of any kind.
struct PlainDraft<S>(S);

/// A status as it was and as it is to be.
struct WholeDraft {
    before: Value,
    after: Value,
}

impl<K: Reconciled> Turn<K> {
    /// Changes the object's status, beginning with what it is, or with the default if it has none. The status is written
    /// once, at the end of the turn, also when the reconcile fails after this; it is not written if it ends up as it
    /// was, nor if the object is gone.
    pub fn status(&mut self, change: impl FnOnce(&mut K::Status))
    where
        K: HasStatus<Status: Clone + Default + Serialize + Send + Sync + 'static>,
    {
        let Some(object) = &self.latest else { return };
        let draft = self
            .draft
            .get_or_insert_with(|| Box::new(StatusDraft(object.status().cloned().unwrap_or_default())));
        if let Some(StatusDraft(status)) = draft.as_any().downcast_mut() {
            change(status);
        }
    }

    /// [`Turn::status`] for kinds whose types do not tell which status they have, as those of `k8s-openapi`: `S` is the
    /// status, as in `turn.status_as::<ServiceStatus>(…)`. Fields that `S` does not know stay.
    ///
    /// # Errors
    /// [`Error::Encode`] if the object's status is no `S`; [`Error::Invalid`] if it was changed in another form in this turn.
    pub fn status_as<S>(&mut self, change: impl FnOnce(&mut S)) -> Result<()>
    where
        S: DeserializeOwned + Default + Serialize + Send + Sync + 'static,
    {
        let Some(object) = &self.latest else { return Ok(()) };
        let draft = match &mut self.draft {
            Some(draft) => draft,
            none => none.insert(Box::new(PlainDraft(read::<K, S>(object)?.unwrap_or_default()))),
        };
        let Some(PlainDraft(status)) = draft.as_any().downcast_mut() else {
            return Err(Error::Invalid(format!(
                "the status of {} was changed in two forms in one turn",
                self.key()
            )));
        };
        change(status);
        Ok(())
    }

    /// Says what the status is to be, and what it was: for reconcilers that compute it as a whole. See [`Turn::status`] for when
    /// it is written. It takes the place of what was collected before.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn put_status<S: Serialize>(&mut self, before: Option<&S>, after: &S) -> Result<()> {
        self.draft = Some(Box::new(WholeDraft {
            before: serde_json::to_value(before)?,
            after: serde_json::to_value(after)?,
        }));
        Ok(())
    }

    /// Has an annotation of the object written with its status, in one request: for what a controller notes on an object that
    /// others specify. It is written even if the status stays as it was. API servers take annotations with the status of
    /// built-in kinds, and count one of a Deployment that is written otherwise as a new generation of it. Of custom resources
    /// they ignore all but the status: [`Turn::merge_latest`] is for those.
    pub fn annotate_with_status(&mut self, name: &str, value: &str) {
        self.annotations.insert(name.to_owned(), value.into());
    }

    /// Sets a condition in the object's status: see [`Turn::status`] for when it is written. The time of its transition
    /// changes with `status` only, and the generation that was observed is filled in. `reason` is one CamelCase word for
    /// machines, `message` is for people.
    pub fn condition(
        &mut self,
        type_: &str,
        status: impl Into<ConditionStatus>,
        reason: &str,
        message: impl Into<String>,
    ) where
        K: HasStatus<Status: Conditions + Clone + Default + Serialize + Send + Sync + 'static>,
    {
        let generation = self.latest.as_ref().and_then(|object| object.meta().generation);
        let new = conditions::new(
            type_,
            status.into().as_str(),
            reason,
            message,
            Clock::System.now(),
        );
        self.status(|status| {
            status.observed(generation);
            conditions::set(
                status.conditions(),
                Condition {
                    observed_generation: generation,
                    ..new
                },
            );
        });
    }

    /// Sets a condition by how a step went: true for `reason` if it went well, false for `Failed` with the error's words
    /// otherwise. A conflict sets nothing: somebody was faster, and the next turn sees what they did.
    pub fn condition_of<T>(&mut self, type_: &str, reason: &str, step: &Result<T>)
    where
        K: HasStatus<Status: Conditions + Clone + Default + Serialize + Send + Sync + 'static>,
    {
        match step {
            Ok(_) => self.condition(type_, true, reason, ""),
            Err(error) if error.is_conflict() => {}
            Err(error) => self.condition(type_, false, "Failed", error.to_string()),
        }
    }

    /// Has a phase of the status go to another one, if that is declared: see [`Phase`] for how. The step is judged from what the
    /// status is, changes of this turn included; to stay is always legal. Whether the phase has changed.
    ///
    /// # Errors
    /// [`Error::Phase`], which is terminal: the phase stays as it is.
    pub fn phase<P: Phase>(
        &mut self,
        of: impl FnOnce(&mut K::Status) -> &mut Option<P>,
        to: P,
    ) -> Result<bool>
    where
        K: HasStatus<Status: Clone + Default + Serialize + Send + Sync + 'static>,
    {
        let mut entered = Ok(false);
        self.status(|status| entered = to.enter(of(status)));
        Ok(entered?)
    }

    /// Whether a status, or what goes with it, has been collected.
    pub(crate) fn has_status(&self) -> bool {
        self.draft.is_some() || !self.annotations.is_empty()
    }

    /// Writes the status if it differs from the object's. The object must be the one that the turn saw: what somebody
    /// else has changed meanwhile is a conflict.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let (draft, annotations) = (self.draft.take(), std::mem::take(&mut self.annotations));
        let Some(object) = self.latest() else {
            return Ok(());
        };
        let change = match draft {
            Some(draft) => difference(&draft.before(&object)?, draft.after()?),
            None => None,
        };
        if change.is_none() && annotations.is_empty() {
            self.told(StatusWrite::Unchanged);
            return Ok(());
        }
        let mut patch = json!({ "metadata": { "resourceVersion": object.meta().resource_version } });
        if let Some(change) = change {
            patch["status"] = change;
        }
        if !annotations.is_empty() {
            patch["metadata"]["annotations"] = annotations.into();
        }
        let patch = Patch::Merge(patch);
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        let answer = request::patch::<K, _>(self.client(), self.key(), Some("status"), &params, &patch).await;
        self.told(match &answer {
            Ok(_) => StatusWrite::Written,
            Err(_) => StatusWrite::Refused,
        });
        match answer {
            Ok(answer) => self.wrote(answer),
            Err(error) if is_gone(&error, &self.key().name) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whether the object is gone, and not only its kind without a status of its own.
fn is_gone(error: &Error, name: &str) -> bool {
    let Error::Kube(kube::Error::Api(status)) = error else {
        return false;
    };
    status.code == 404
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.name == name)
}

/// The merge patch from one value to another; `None` if they are equal. A list is one value.
fn difference(before: &Value, after: Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in after {
                let change = difference(before.get(&key).unwrap_or(&Value::Null), value);
                patch.extend(change.map(|change| (key, change)));
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (before, after) => (*before != after).then_some(after),
    }
}

impl<K, S> Draft<K> for StatusDraft<S>
where
    K: HasStatus<Status = S>,
    S: Serialize + Send + Sync + 'static,
{
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn before(&self, object: &K) -> Result<Value> {
        Ok(serde_json::to_value(object.status())?)
    }

    fn after(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.0)?)
    }
}

impl<K: Reconciled, S> Draft<K> for PlainDraft<S>
where
    S: DeserializeOwned + Serialize + Send + Sync + 'static,
{
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn before(&self, object: &K) -> Result<Value> {
        Ok(serde_json::to_value(read::<K, S>(object)?)?)
    }

    fn after(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.0)?)
    }
}

impl<K> Draft<K> for WholeDraft {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn before(&self, _: &K) -> Result<Value> {
        Ok(self.before.clone())
    }

    fn after(&self) -> Result<Value> {
        Ok(self.after.clone())
    }
}

/// An object's status, by its JSON form.
fn read<K: Reconciled, S: DeserializeOwned>(object: &K) -> Result<Option<S>> {
    let mut object = serde_json::to_value(object)?;
    let status = object.get_mut("status").map(Value::take);
    Ok(serde_json::from_value(status.unwrap_or_default())?)
}

impl ConditionStatus {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => conditions::TRUE,
            Self::False => conditions::FALSE,
            Self::Unknown => conditions::UNKNOWN,
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl From<Option<bool>> for ConditionStatus {
    fn from(holds: Option<bool>) -> Self {
        holds.map_or(Self::Unknown, Self::from)
    }
}

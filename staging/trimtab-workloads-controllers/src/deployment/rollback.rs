//! Rolling back by annotation, which is how clients of the APIs before `apps/v1` asked for it: which set's template the
//! Deployment takes, and what is written for that.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use trimtab_client_coordination::events::Note;

use super::decide::{NOT_COPIED, Wish};
use super::sets::Set;
use crate::workload::template;

/// The annotation with the number of the revision to roll back to; 0 is the one before the newest.
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// What becomes of the wish to roll back. It is forgotten in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rollback {
    /// The place of the set whose template the Deployment takes; none if it keeps its own.
    pub(super) place: Option<usize>,
    /// What is told of it.
    pub(super) note: Note,
}

/// Which revision a Deployment is to be rolled back to; `None` if it is not. What is no number asks for nothing.
pub(super) fn wanted(deployment: &Deployment) -> Option<i64> {
    deployment.annotations().get(ROLLBACK_TO)?.parse().ok()
}

/// Finds the set to roll back to, among all of them.
pub(super) fn choose(wish: &Wish<'_>, sets: &[Set], to: i64) -> Rollback {
    let not_found = |message: &str| Rollback {
        place: None,
        note: Note::warning("DeploymentRollbackRevisionNotFound", "Rollback", message),
    };
    let revision = match to {
        0 => last(sets),
        to => Some(to),
    };
    let Some(revision) = revision else {
        return not_found("Unable to find last revision.");
    };
    let Some(set) = sets.iter().find(|set| set.revision() == revision) else {
        return not_found("Unable to find the revision to rollback to.");
    };
    let name = wish.name;
    if set.fingerprint == wish.fingerprint {
        let message =
            format!("The rollback revision contains the same template as current deployment \"{name}\"");
        return Rollback {
            place: None,
            note: Note::warning("DeploymentRollbackTemplateUnchanged", "Rollback", message),
        };
    }
    let message = format!("Rolled back deployment \"{name}\" to revision {revision}");
    Rollback {
        place: set.place,
        note: Note::normal("DeploymentRollback", "Rollback", message),
    }
}

/// The revision before the newest.
fn last(sets: &[Set]) -> Option<i64> {
    let mut revisions: Vec<i64> = sets.iter().map(Set::revision).collect();
    revisions.sort_unstable();
    let before = revisions.into_iter().rev().nth(1);
    before.filter(|revision| *revision > 0)
}

/// What is merged into a Deployment: the wish is gone, and if there is a set, the template and the annotations are as its.
pub(super) fn patch(deployment: &Deployment, set: Option<&ReplicaSet>) -> Value {
    let mut patch = json!({"metadata": {"annotations": {ROLLBACK_TO: null}}});
    let Some(set) = set else { return patch };
    let (here, there) = (deployment.annotations(), set.annotations());
    for key in here.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
        if !NOT_COPIED.contains(&key.as_str()) && here.get(key) != there.get(key) {
            patch["metadata"]["annotations"][key] = json!(there.get(key));
        }
    }
    let now = json!(deployment.spec.as_ref().map(|spec| &spec.template));
    let mut wanted = json!(set.spec.as_ref().and_then(|spec| spec.template.as_ref()));
    if let Some(labels) = wanted
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(template::HASH);
    }
    if let Some(change) = change(&now, &wanted) {
        patch["spec"]["template"] = change;
    }
    patch
}

/// The merge patch from one value to another; `None` if they are equal. A list is one value.
fn change(now: &Value, wanted: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (now, wanted) else {
        return (now != wanted).then(|| wanted.clone());
    };
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in after {
        let change = change(before.get(key).unwrap_or(&Value::Null), value);
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}
